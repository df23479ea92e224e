"""Links of a sandbox that lead to nothing of the host's: CNI's types ``dummy`` and ``tap``."""

from __future__ import annotations

import msgspec

from dovetail.model.attachment import Attachment

__all__ = ["DummyLink", "LoneLink", "TapLink"]


class LoneLink(msgspec.Struct, frozen=True, kw_only=True):
    """What they have in common. mtu 0: the kernel's default. ours False: another program made it, who knows how."""

    attachment: Attachment
    mtu: int = 0
    ours: bool = True


class DummyLink(LoneLink, frozen=True, kw_only=True):
    """No wire at all."""


class TapLink(LoneLink, frozen=True, kw_only=True):
    """A wire whose other end is a process.

    owner, group: user and group id that may open it; None: who has the privilege. bridge: of the sandbox, that it is a
    port of; empty for none.
    """

    multi_queue: bool = False
    owner: int | None = None
    group: int | None = None
    bridge: str = ""
