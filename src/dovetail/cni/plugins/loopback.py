"""Type ``loopback``: brings ``lo`` up, whatever CNI_IFNAME says."""

from __future__ import annotations

from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call, Plugin, refuse
from dovetail.cni.spec.result import IP, Interface, Result
from dovetail.kernel.protocol import Netns

__all__ = ["LoopbackPlugin"]

_LO = "lo"


class LoopbackPlugin(Plugin):
    """Keeps no part: there is one loopback interface, and it goes with its namespace."""

    def add(self, call: Call, netns: Netns) -> Result:
        """Bring it up, and say the addresses that the kernel gives it; in a chain, hand the result on.

        Raises:
            CniError: it has an address that is not of the host itself, as the reference plugin refuses it.
        """
        previous, dns = call.prev_result, call.dns  # read before anything changes
        with self.engine.kernel.inside(netns) as inner:
            before = inner.link(_LO)
            inner.set_link(_LO, up=True)
            addresses = [address for _, address in inner.addresses(_LO)]
            for address in addresses:
                if not address.ip.is_loopback:
                    inner.set_link(_LO, up=before is not None and before.up)
                    raise CniError(
                        INVALID_CONFIG,
                        f"loopback interface found with non-loopback address {address.ip}",
                        "remove it from lo of the sandbox, or give it to another interface",
                    )
        if previous is not None:
            return previous
        return Result(
            interfaces=(Interface(name=_LO, mac="00:00:00:00:00:00", sandbox=call.environment.netns),),
            ips=tuple(IP(address=address, interface=0) for address in addresses),
            dns=dns,
        )

    def delete(self, call: Call, netns: Netns | None) -> None:
        """Bring it down."""
        if netns is not None:
            with self.engine.kernel.inside(netns) as inner:
                inner.set_link(_LO, up=False)

    def check(self, call: Call, netns: Netns) -> None:
        """Raise where it is down."""
        with self.engine.kernel.inside(netns) as inner:
            link = inner.link(_LO)
        refuse([] if link is not None and link.up else ["interface 'lo' of the sandbox is down"])

    def gc(self, call: Call) -> None:
        """Do nothing: it goes with its namespace."""

    def status(self, call: Call) -> None:
        """Return: every namespace has one."""
