"""Type ``dhcp``: addresses of the DHCP servers on the wire of the container's interface, renewed by the daemon."""

from __future__ import annotations

import msgspec

from dovetail.cni.errors import NOT_AVAILABLE, CniError
from dovetail.cni.plugins.call import Call, Plugin, refuse
from dovetail.cni.plugins.dhcp_config import DhcpConf, lease_request
from dovetail.cni.spec.result import IP, Result
from dovetail.errors import NotFound
from dovetail.ipam.dhcp.lease import Held, LeaseRequest
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Route

__all__ = ["DhcpPlugin"]

_KIND = "dhcp"
_SCOPE_LINK = 253  # RT_SCOPE_LINK, include/uapi/linux/rtnetlink.h
_NOBODY = "leases are renewed by the daemon, and none runs here"


class DhcpPlugin(Plugin):
    """A thin parser over `ipam.dhcp_parts`."""

    conf = DhcpConf
    where = "$.ipam"
    gives_addresses = True

    def add(self, call: Call, netns: Netns) -> Result:
        """Get leases by the interface, which is there already."""
        wanted = Held(request=_request(call), netns=call.environment.netns, netns_inode=netns.inode)
        path = call.environment.netns
        held = self.engine.tending.add(_KIND, call.owner, wanted, netns=netns, path=path)
        if not self.engine.tending.tends(_KIND):
            call.stderr += f"dovetail: {_NOBODY}: start 'dovetail daemon' before the lease is over\n".encode()
        attachment = held.attachment
        return Result(
            ips=tuple(IP(address=lease.address, gateway=lease.gateway) for lease in held.leases),
            routes=tuple(map(_as_result, attachment.routes)),
            dns=attachment.dns,
        )

    def delete(self, call: Call, netns: Netns | None) -> None:
        """Give them back. What the reference plugin's daemon holds it alone can give back."""
        self.engine.parts.remove(_KIND, call.owner, netns=netns)

    def check(self, call: Call, netns: Netns) -> None:
        """Compare what is held with the interface's addresses."""
        try:
            refuse(self.engine.parts.check(_KIND, call.owner, netns=netns))
        except NotFound:
            refuse([f"no DHCP lease of interface {call.environment.ifname!r} is held here"])

    def gc(self, call: Call) -> None:
        """Give back what the runtime's attachments do not have."""
        if call.valid is not None:
            self.engine.parts.collect(_KIND, call.name, call.valid)

    def status(self, call: Call) -> None:
        """Raise code 50 without a daemon; whether a server answers is known when it is asked."""
        _request(call)
        if not self.engine.tending.tends(_KIND):
            raise CniError(NOT_AVAILABLE, _NOBODY, "start it: dovetail daemon")


def _request(call: Call) -> LeaseRequest:
    """Read the section. An ipvlan shares its master's MAC address, so an answer to that would be the master's."""
    environment = call.environment
    request = lease_request(
        call.config.object("ipam"),
        container=environment.container_id,
        network=call.name,
        ifname=environment.ifname,
        args=environment.args,
    )
    if call.config.text("type") != "ipvlan":
        return request
    return msgspec.structs.replace(request, broadcast=True)


def _as_result(route: Route) -> Route:
    """Say of a route without a gateway that it is on the link: else it leads by the first gateway (`by_gateways`)."""
    return route if route.gateway is not None else msgspec.structs.replace(route, scope=_SCOPE_LINK)
