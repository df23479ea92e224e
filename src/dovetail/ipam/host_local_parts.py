"""CNI's host-local as a part of an attachment: its files say all, and the part says where they are.

So a crash or a reboot that no DEL follows does not keep the addresses for ever, as whoever takes the other parts of the
attachment back takes this one back too.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from typing import Literal

import msgspec

from dovetail.ipam.host_local import HostLocal
from dovetail.ipam.host_local_ranges import RangeSet
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.addresses import IPAddress
from dovetail.model.allocated import Allocated
from dovetail.model.endpoint import Owner

__all__ = ["HostLocalAddresses", "HostLocalParts"]


class HostLocalAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files are, and what is asked for; `given` is what was got, and all that is kept of it."""

    data_dir: str
    range_sets: tuple[RangeSet, ...] = ()
    requested: tuple[IPAddress, ...] = ()
    given: tuple[Allocated, ...] = ()


class HostLocalParts:
    """The kind of part ``host-local``."""

    name = "host-local"
    layer: Literal["ipam"] = "ipam"
    detail = HostLocalAddresses

    def make(
        self,
        kernel: Kernel,
        detail: HostLocalAddresses,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> HostLocalAddresses:
        """Take an address of each range set; see `HostLocal.add`."""
        files = HostLocal(detail.data_dir, owner.network)
        given = files.add(owner.container, owner.ifname, detail.range_sets, detail.requested)
        undo.callback(files.delete, owner.container, owner.ifname)
        return HostLocalAddresses(data_dir=detail.data_dir, given=tuple(given))

    def unmake(
        self, kernel: Kernel, detail: HostLocalAddresses, *, owner: Owner, netns: Netns | None
    ) -> None:
        """Give back what the container's interface has."""
        HostLocal(detail.data_dir, owner.network).delete(owner.container, owner.ifname)

    def differences(
        self, kernel: Kernel, detail: HostLocalAddresses, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Say which addresses are not the container's by the files."""
        given = [one.address.ip for one in detail.given]
        return HostLocal(detail.data_dir, owner.network).check(owner.container, owner.ifname, given)

    def sweep(
        self,
        kernel: Kernel,
        detail: HostLocalAddresses,
        *,
        network: str,
        valid: Collection[tuple[str, str]],
    ) -> None:
        """Give back what no valid attachment has, whoever took it."""
        HostLocal(detail.data_dir, network).gc(valid)

    def require(self, kernel: Kernel, detail: HostLocalAddresses, *, network: str) -> None:
        """Raise PoolExhausted where a range set has no address left."""
        HostLocal(detail.data_dir, network).status(detail.range_sets)
