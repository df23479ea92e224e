"""A network card of the host that is lent to a sandbox, as CNI's type ``host-device`` has it."""

from __future__ import annotations

import msgspec

from dovetail.model.attachment import Attachment

__all__ = ["HostDevice"]


class HostDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A link that moves into a sandbox and comes back.

    device: its name on the host; empty where another program moved it, or it has no interface because its `driver` gives
    it to a process. alias: that it had. pci: its address, empty where it has none.
    """

    attachment: Attachment
    device: str = ""
    alias: str = ""
    pci: str = ""
    driver: str = ""
