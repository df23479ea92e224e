"""For each endpoint a veth pair and a route to it: no bridge, and no wire that endpoints share.

::

    host                                                      sandbox
    dvh<endpoint> (gateway's address; route to the endpoint)  eth0 (address; route to the gateway, and by way
        ══════════════════════════════════════════════════    of it to everything, neighbours too)

The host routes between endpoints as it does between them and the world. Whom the route to an address leads to is
who may send with it, which the firewall checks (``features/ruleset.py``). What no endpoint has of the network's
subnets is answered as unreachable, else it would leave by the host's default route.

Source: the objects are those of CNI's plugin ``ptp`` (containernetworking/plugins, plugins/main/ptp/ptp.go).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from ipaddress import ip_network

import msgspec

from dovetail.drivers import forwarding, host_end, sandbox_end
from dovetail.drivers.firewall_options import read_firewall
from dovetail.drivers.forwarding import let_host_forward, let_loopback_lead
from dovetail.drivers.network_options import settle
from dovetail.drivers.options import Given, Option
from dovetail.drivers.protocol import Difference
from dovetail.drivers.ptp_options import KNOWN, MODES, check_network
from dovetail.errors import InvalidArgument
from dovetail.kernel.protocol import Kernel, LinkSpec, Netns
from dovetail.kernel.uplink import uplink_mtu
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.attachment import Attachment, HostInterface, Route
from dovetail.model.endpoint import Endpoint
from dovetail.model.mac import Mac
from dovetail.model.names import handover_link, host_link, link_alias
from dovetail.model.network import Network

__all__ = ["PtpDriver"]

_DEFAULT_MTU = 1500  # ETH_DATA_LEN, include/uapi/linux/if_ether.h: what the kernel gives a veth pair
_V6 = 6


class PtpDriver:
    """The driver ``ptp``, point to point."""

    name = "ptp"
    summary = "a wire of its own to the host, which routes everything"
    addressed = True
    is_gateway = True

    def options(self) -> Mapping[str, Option]:
        """Name each option with what it does and Docker's names for it."""
        return KNOWN

    # -- network ----------------------------------------------------------------------------------

    def plan_network(self, kernel: Kernel, network: Network, store_id: str) -> Network:
        """Decide MTU, routes and firewall; there is no link of the network's own.

        Raises InvalidArgument for a bad option, and where a subnet has no gateway, or another than the host.
        """
        given = Given(self.name, network.options, KNOWN)
        ipv6 = _V6 in network.versions
        mtu = uplink_mtu(kernel, ipv6=ipv6) if given.mtu_is_auto() else given.mtu(ipv6=ipv6)
        firewall = read_firewall(given, network, link="", modes=MODES)
        network = settle(network, given)
        check_network(network)
        return msgspec.structs.replace(network, mtu=mtu, firewall=firewall)

    def create_network(self, kernel: Kernel, network: Network, store_id: str, undo: ExitStack) -> None:
        """Let the host forward, and answer for the addresses that no endpoint has.

        Kernel changes: an unreachable route for each subnet, and the host's ``ip_forward`` and
        ``ipv6/conf/all/forwarding``, of an internal network too: the host is the way to every neighbour.
        """
        let_host_forward(kernel, network.versions)
        present = kernel.unreachable()
        for subnet in network.subnets:
            if subnet.subnet not in present:
                undo.callback(kernel.delete_unreachable, subnet.subnet)
                kernel.add_unreachable(subnet.subnet)

    def delete_network(self, kernel: Kernel, network: Network) -> None:
        """Remove the unreachable routes; forwarding stays on, as others may need it by then."""
        for subnet in network.subnets:
            kernel.delete_unreachable(subnet.subnet)

    # -- endpoint ---------------------------------------------------------------------------------

    def plan_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Decide the host's end and the MAC.

        Raises InvalidArgument for an address (Docker's IPAM may have given it) that is in none of the subnets.
        """
        for address in endpoint.addresses:
            _gateway(network, address)
        mac = sandbox_end.mac_of(network, endpoint)
        return msgspec.structs.replace(endpoint, link=host_link(endpoint.id), mac=mac)

    def join(
        self,
        kernel: Kernel,
        network: Network,
        endpoint: Endpoint,
        *,
        sandbox: Netns | None,
        ifname: str,
        store_id: str,
        undo: ExitStack,
    ) -> Attachment:
        """Make the veth pair, address and route the host's end and, in `sandbox`, the other; ``lo`` comes up too.

        Handing over (`sandbox` None), the container's end waits in the host's namespace, down.
        """
        attachment = _attachment(network, endpoint, ifname=ifname, sandbox=sandbox)
        end, peer = _veth(network, endpoint, attachment, sandbox=sandbox, store_id=store_id)
        undo.callback(kernel.delete_links, [end.name])  # whose name it can only be
        kernel.add_veth(end, peer)
        if not network.internal:
            let_loopback_lead(kernel, network, end.name)
        host_end.configure(kernel, end.name, _gateways(network, endpoint), endpoint.addresses)
        if sandbox is not None:
            with kernel.inside(sandbox) as inner:
                sandbox_end.configure(inner, attachment)
        return attachment

    def leave(self, kernel: Kernel, endpoint: Endpoint, *, sandbox: str = "") -> None:
        """Delete the veth pair, and the host's addresses and routes with it, wherever the other end is."""
        kernel.delete_links([host_link(endpoint.id), handover_link(endpoint.id)])

    def check(
        self, kernel: Kernel, network: Network, endpoint: Endpoint, sandbox: Netns | None
    ) -> list[Difference]:
        """Say a sentence for each thing that differs: link, addresses and routes of both ends, forwarding."""
        found = [
            *host_end.differences(
                kernel,
                host_link(endpoint.id),
                _gateways(network, endpoint),
                endpoint.addresses,
                mtu=network.mtu,
            ),
            *forwarding.differences(kernel, network.versions),
        ]
        if endpoint.attachment is not None and sandbox is not None:
            with kernel.inside(sandbox) as inner:
                found += sandbox_end.differences(inner, endpoint.attachment)
        return found

    def is_alive(
        self, kernel: Kernel, endpoint: Endpoint, links: frozenset[str], *, sandbox: str = ""
    ) -> bool:
        """Say whether the host's end is there: it is gone when either end is."""
        return host_link(endpoint.id) in links


def _gateway(network: Network, address: IPInterface) -> IPAddress:
    for subnet in network.subnets:
        if address.ip in subnet.subnet and subnet.gateway is not None:
            return subnet.gateway
    known = ", ".join(str(subnet.subnet) for subnet in network.subnets)
    raise InvalidArgument(f"{address.ip} is not in network {network.name!r} ({known})")


def _gateways(network: Network, endpoint: Endpoint) -> list[IPAddress]:
    return [_gateway(network, address) for address in endpoint.addresses]


def _attachment(network: Network, endpoint: Endpoint, *, ifname: str, sandbox: Netns | None) -> Attachment:
    mtu = network.mtu or _DEFAULT_MTU
    name, mac = host_link(endpoint.id), _host_mac(endpoint)
    made = sandbox_end.attachment(
        network,
        endpoint,
        ifname=ifname,
        sandbox=sandbox,
        mtu=mtu,
        host_interfaces=(HostInterface(name=name, mac=mac, mtu=mtu),),
    )
    own: dict[int, IPAddress] = {a.version: _gateway(network, a) for a in endpoint.addresses}
    routes = [
        *(Route(destination=ip_network(gateway)) for gateway in own.values()),
        *_ways_to_neighbours(network, endpoint, own, handed_over=sandbox is None),
        # the host is every gateway, and each of its ends has the address of one
        *(msgspec.structs.replace(r, gateway=own[r.destination.version]) for r in made.routes if r.gateway),
    ]
    gateways = tuple(own[gateway.version] for gateway in made.gateways)
    return msgspec.structs.replace(made, routes=tuple(routes), gateways=gateways, prefix_on_link=False)


def _ways_to_neighbours(
    network: Network, endpoint: Endpoint, own: Mapping[int, IPAddress], *, handed_over: bool
) -> Iterator[Route]:
    """Give routes to the network's subnets by way of the gateway.

    Handed over, the interface is addressed by dockerd, and the prefix gets a route on the link from the kernel.
    Routes to its two halves are the more specific ones.
    """
    on_link = {address.network for address in endpoint.addresses} if handed_over else set()
    for subnet in (entry.subnet for entry in network.subnets):
        if subnet.version not in own:
            continue
        if subnet not in on_link:
            yield Route(destination=subnet, gateway=own[subnet.version])
        elif subnet.max_prefixlen - subnet.prefixlen > 1:  # else nobody else is in it
            for half in subnet.subnets():
                yield Route(destination=half, gateway=own[subnet.version])


def _host_mac(endpoint: Endpoint) -> Mac:
    return Mac.derived(f"host/{endpoint.id}")


def _veth(
    network: Network, endpoint: Endpoint, attachment: Attachment, *, sandbox: Netns | None, store_id: str
) -> tuple[LinkSpec, LinkSpec]:
    alias = link_alias(store_id, "endpoint", endpoint.id)
    end = LinkSpec(host_link(endpoint.id), mac=_host_mac(endpoint), mtu=network.mtu, alias=alias, up=True)
    if sandbox is None:
        return end, LinkSpec(attachment.handover, mac=endpoint.mac, mtu=network.mtu, alias=alias)
    return end, LinkSpec(attachment.ifname, mac=endpoint.mac, mtu=network.mtu, netns=sandbox)
