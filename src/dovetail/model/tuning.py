"""What is changed of an interface and its namespace, as CNI's type ``tuning`` has it."""

from __future__ import annotations

import msgspec

from dovetail.model.mac import Mac

__all__ = ["Tuning"]


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of the sandbox's interface `ifname`; what is None, 0 or False stays as it is.

    sysctls: value by path (``net/ipv4/conf/eth0/arp_filter``). promisc: switch it on. tx_queue_length: in packets.
    data_dir: where it is written down what the interface was before.
    """

    ifname: str
    sysctls: dict[str, str] = {}
    mac: Mac | None = None
    mtu: int = 0
    promisc: bool = False
    allmulti: bool | None = None
    tx_queue_length: int | None = None
    data_dir: str

    @property
    def changes_link(self) -> bool:
        """Say whether anything of the interface itself is changed."""
        numbers = (self.mac, self.mtu or None, self.promisc or None, self.allmulti, self.tx_queue_length)
        return any(value is not None for value in numbers)
