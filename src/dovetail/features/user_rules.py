"""The user's own rules: files of nftables' language that become the first chain of what is forwarded.

Each file holds rules, a line each, as they stand between the braces of a chain. They see what our networks send and
get before our own rules do: ``drop`` is final, and ``accept`` is so for our table.
"""

from __future__ import annotations

import os

from dovetail.features.protocol import RulesFile

__all__ = ["read_rules"]

_SUFFIX = ".nft"


def read_rules(directory: str) -> list[RulesFile]:
    """Read the files of `directory` whose names end in ``.nft``, in the order of their names; none without it."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX) and name[0] != ".")
    except FileNotFoundError:
        return []
    except OSError as exc:
        return [RulesFile(directory, "", f"cannot be read: {exc.strerror}")]
    return [_read(os.path.join(directory, name)) for name in names]


def _read(path: str) -> RulesFile:
    try:
        with open(path, encoding="utf-8") as file:
            return RulesFile(path, file.read())
    except UnicodeDecodeError:
        return RulesFile(path, "", "is not text")
    except OSError as exc:
        return RulesFile(path, "", f"cannot be read: {exc.strerror}")
