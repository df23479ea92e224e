"""What an interface was before it was changed, in the file that the reference plugin ``tuning`` keeps as well.

``DIR/CONTAINER_IFNAME.json``: a node that goes from their plugins to ours or back restores what the other one
changed. Who restores removes the file, so a file says that there is something to restore.
"""

from __future__ import annotations

import os

import msgspec

from dovetail.errors import StoreError
from dovetail.model.endpoint import Owner

__all__ = ["LinkBackup", "backup_path", "forget", "read", "write"]

_DIRECTORY_MODE = 0o600  # the reference plugin's, also of the directories above that it makes
_FILE_MODE = 0o600


class LinkBackup(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"tx_queue_length": "txQLen"}
):
    """The values before; what was not changed is left out."""

    mac: str = ""
    promisc: bool | None = None
    mtu: int = 0
    allmulti: bool | None = None
    tx_queue_length: int | None = None


def backup_path(directory: str, owner: Owner) -> str:
    """Say where the file of `owner` is."""
    return os.path.join(directory, f"{owner.container}_{owner.ifname}.json")


def write(path: str, backup: LinkBackup) -> None:
    """Write it, whole or not at all; makes the directory. Raises StoreError."""
    text = msgspec.json.format(msgspec.json.encode(backup), indent=1)
    try:
        _make_directory(os.path.dirname(path))
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
        with open(fd, "wb") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc.strerror}", where="$.dataDir") from exc


def read(path: str) -> LinkBackup | None:
    """Read it; None where there is none, or where it says nothing that could be restored. Raises StoreError."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=LinkBackup)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc.strerror}") from exc


def forget(path: str) -> None:
    """Remove it; one that is gone is no error. Raises StoreError."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise StoreError(f"{path} cannot be removed: {exc.strerror}") from exc


def _make_directory(directory: str) -> None:
    if os.path.isdir(directory):
        return
    _make_directory(os.path.dirname(directory))
    try:
        os.mkdir(directory, _DIRECTORY_MODE)
    except FileExistsError:  # another plugin was quicker
        return
