"""A Linux bridge on the host, and for each endpoint a veth pair between it and the sandbox.

::

    host                                      sandbox
    dv-<network> (gateway addresses) ── dvh<endpoint> ══ eth0 (addresses, default routes)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec

from dovetail.drivers import bridge_check, sandbox_end
from dovetail.drivers.bridge_options import KNOWN, BridgeOptions, read_intent, read_options
from dovetail.drivers.forwarding import let_host_forward, let_loopback_lead
from dovetail.drivers.network_options import settle
from dovetail.drivers.options import Given, Option
from dovetail.drivers.protocol import Difference
from dovetail.errors import Conflict, NotFound
from dovetail.kernel.protocol import Kernel, Link, LinkSpec, Netns
from dovetail.kernel.uplink import uplink_mtu
from dovetail.model.addresses import IPInterface, interface_in
from dovetail.model.attachment import Attachment, HostInterface
from dovetail.model.endpoint import Endpoint
from dovetail.model.mac import Mac
from dovetail.model.names import bridge_link, handover_link, host_link, link_alias, parse_alias, short
from dovetail.model.network import Network

__all__ = ["BridgeDriver"]

_DEFAULT_MTU = 1500  # ETH_DATA_LEN, include/uapi/linux/if_ether.h: what the kernel gives a veth pair
_V6 = 6


class BridgeDriver:
    """The driver ``bridge``."""

    name = "bridge"
    summary = "an interface on a Linux bridge of the network's, behind the host (the default)"
    addressed = True
    is_gateway = True

    def options(self) -> Mapping[str, Option]:
        """Name each option with what it does and Docker's names for it."""
        return KNOWN

    # -- network ----------------------------------------------------------------------------------

    def plan_network(self, kernel: Kernel, network: Network, store_id: str) -> Network:
        """Decide link, adoption, MTU, routes and firewall; reads the kernel only.

        Raises InvalidArgument for a bad option, Conflict where the link is no bridge or another network's.
        """
        options = _options(network)
        name = options.bridge or bridge_link(network.id)
        there = kernel.link(name)
        adopted = False
        if there is not None:
            owner = _owner(there, network)
            adopted = bool(options.bridge) and not owner
        return msgspec.structs.replace(
            settle(network, Given(self.name, network.options, KNOWN)),
            link=name,
            adopted=adopted,
            kept=tuple(address for _, address in kernel.addresses(name)) if adopted else (),
            mtu=_mtu(kernel, network, options) or (there.mtu if there is not None and adopted else 0),
            firewall=read_intent(network, name),
        )

    def create_network(self, kernel: Kernel, network: Network, store_id: str, undo: ExitStack) -> None:
        """Make the bridge with its gateway addresses, up, and let the host forward for it.

        Kernel changes: the link, its addresses and sysctls, and unless the network is internal the host's
        ``ip_forward`` and ``ipv6/conf/all/forwarding``, which stay on: another network may need them by then.
        An adopted bridge keeps its MAC, MTU and sysctls. Raises NotFound where an adopted bridge is gone.
        """
        there = kernel.link(network.link)
        if there is not None:
            _owner(there, network)
        elif network.adopted:
            raise NotFound("bridge", network.link, hint="make it again, or delete the network")
        else:
            undo.callback(kernel.delete_links, [network.link])
            kernel.add_bridge(
                network.link,
                mac=_bridge_mac(network),  # one that is set does not change with the ports
                mtu=network.mtu,
                alias=link_alias(store_id, "network", network.id),
            )
        if not network.adopted:
            kernel.set_sysctl(
                f"net/ipv6/conf/{network.link}/accept_ra", "0"
            )  # no router may speak from a container
        if not network.internal:
            let_host_forward(kernel, network.versions)
            let_loopback_lead(kernel, network, network.link)
        _let_bridge_have_ipv6(kernel, network)
        present = {address for _, address in kernel.addresses(network.link)}
        with kernel.batch():
            for address in _gateway_addresses(network):
                if address not in present:
                    undo.callback(kernel.delete_address, network.link, address)
                    kernel.add_address(network.link, address)
            if there is None or not there.up:
                kernel.set_link(network.link, up=True)
            if there is not None and not network.adopted and network.mtu not in {0, there.mtu}:
                kernel.set_link(network.link, mtu=network.mtu)  # it follows an uplink that has changed

    def delete_network(self, kernel: Kernel, network: Network) -> None:
        """Delete the bridge; an adopted one loses the addresses it was given, and keeps those it had."""
        there = kernel.link(network.link) if network.link else None
        if there is None or there.kind != "bridge":
            return  # what has the name now is not what was made
        if not network.adopted:
            kernel.delete_links([network.link])
            return
        if network.firewall is not None and network.firewall.ipv4.translates and not network.internal:
            # without our ruleset nothing keeps packets for 127.0.0.0/8 from coming in by this link
            kernel.set_sysctl(f"net/ipv4/conf/{network.link}/route_localnet", "0")
        for address in _gateway_addresses(network):
            if address not in network.kept:
                kernel.delete_address(network.link, address)

    # -- endpoint ---------------------------------------------------------------------------------

    def plan_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Decide the host's end and the MAC."""
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
        """Make the veth pair and, in `sandbox`, its addresses and default routes; ``lo`` comes up too.

        Handing over (`sandbox` None), the container's end waits in the host's namespace, down.
        """
        attachment = _attachment(network, endpoint, ifname=ifname, sandbox=sandbox)
        end, peer = _veth(network, endpoint, attachment, sandbox=sandbox, store_id=store_id)
        # a link of this name can only be this endpoint's, so undoing may delete it in any case
        if sandbox is None:
            undo.callback(kernel.delete_links, [end.name])
            kernel.add_veth(end, peer)
            return attachment
        undo.callback(kernel.delete_links, [end.name])
        kernel.add_veth(end, peer)
        with kernel.inside(sandbox) as inner:
            sandbox_end.configure(inner, attachment)
        return attachment

    def leave(self, kernel: Kernel, endpoint: Endpoint, *, sandbox: str = "") -> None:
        """Delete the veth pair: it dies with either end, so the other may be in any namespace."""
        kernel.delete_links([host_link(endpoint.id), handover_link(endpoint.id)])

    def check(
        self, kernel: Kernel, network: Network, endpoint: Endpoint, sandbox: Netns | None
    ) -> list[Difference]:
        """Say a sentence for each thing that differs: links, master, MAC, MTU, addresses, routes."""
        return bridge_check.differences(kernel, network, endpoint, sandbox)

    def is_alive(
        self, kernel: Kernel, endpoint: Endpoint, links: frozenset[str], *, sandbox: str = ""
    ) -> bool:
        """Say whether the host's end is there; it goes with the sandbox's."""
        return host_link(endpoint.id) in links


def _options(network: Network) -> BridgeOptions:
    ipv6 = any(subnet.subnet.version == _V6 for subnet in network.subnets)
    return _remembered(tuple(network.options.items()), ipv6)


@functools.lru_cache(maxsize=256)
def _remembered(options: tuple[tuple[str, str], ...], ipv6: bool) -> BridgeOptions:
    return read_options(dict(options), ipv6=ipv6)


def _mtu(kernel: Kernel, network: Network, options: BridgeOptions) -> int:
    if not options.mtu_is_auto:
        return options.mtu
    return uplink_mtu(kernel, ipv6=any(subnet.subnet.version == _V6 for subnet in network.subnets))


def _owner(link: Link, network: Network) -> bool:
    """Say whether `link` was made for `network`; False for a bridge nobody claims, else raises Conflict."""
    if link.kind != "bridge":
        kind = f"a {link.kind}" if link.kind else "a network card"
        raise Conflict(
            f"link {link.name!r} is {kind}, not a bridge",
            where="$.options.bridge",
            hint="choose another name with -o bridge=NAME",
        )
    alias = parse_alias(link.alias)
    if alias is None:
        return False
    _, kind, owner = alias
    if kind == "network" and owner == network.id:
        return True
    raise Conflict(f"bridge {link.name!r} belongs to {kind} {short(owner)}", where="$.options.bridge")


def _gateway_addresses(network: Network) -> list[IPInterface]:
    """Give the addresses that the bridge itself is to have."""
    inhibited = _options(network).inhibit_ipv4
    return [
        interface_in(s.gateway, s.subnet)
        for s in network.subnets
        if s.gateway is not None
        and not _is_isolated(network, s.subnet.version)
        and not (inhibited and s.subnet.version == 4)
    ]


def _is_isolated(network: Network, version: int) -> bool:
    return network.firewall is not None and network.firewall.family(version).mode == "isolated"


def _let_bridge_have_ipv6(kernel: Kernel, network: Network) -> None:
    """Turn IPv6 on for the bridge of a network that has it; off where the network keeps the host out.

    Else the kernel gives it a link-local address, by which host and endpoints reach each other.
    """
    key = f"net/ipv6/conf/{network.link}/disable_ipv6"
    has = _V6 in network.versions
    if has and not _is_isolated(network, _V6):
        kernel.set_sysctl(key, "0")
    elif not network.adopted and _is_isolated(network, _V6 if has else 4):
        kernel.set_sysctl(key, "1")


def _attachment(network: Network, endpoint: Endpoint, *, ifname: str, sandbox: Netns | None) -> Attachment:
    mtu = network.mtu or _DEFAULT_MTU
    return sandbox_end.attachment(
        network,
        endpoint,
        ifname=ifname,
        sandbox=sandbox,
        mtu=mtu,
        host_interfaces=(
            HostInterface(name=network.link, mac=None if network.adopted else _bridge_mac(network), mtu=mtu),
            HostInterface(name=host_link(endpoint.id), mac=_host_mac(endpoint), mtu=mtu),
        ),
    )


def _bridge_mac(network: Network) -> Mac:
    return Mac.derived(f"bridge/{network.id}")


def _host_mac(endpoint: Endpoint) -> Mac:
    """Give the host's end a high MAC: an adopted bridge takes the lowest of its ports' and must keep its own."""
    return Mac.derived(f"host/{endpoint.id}", first=0xFE)


def _veth(
    network: Network, endpoint: Endpoint, attachment: Attachment, *, sandbox: Netns | None, store_id: str
) -> tuple[LinkSpec, LinkSpec]:
    options = _options(network)
    alias = link_alias(store_id, "endpoint", endpoint.id)
    end = LinkSpec(
        host_link(endpoint.id),
        mac=_host_mac(endpoint),
        mtu=network.mtu,
        master=network.link,
        hairpin=options.hairpin,
        isolated=not options.icc,
        alias=alias,
        up=True,
    )
    if sandbox is None:
        return end, LinkSpec(attachment.handover, mac=endpoint.mac, mtu=network.mtu, alias=alias)
    return end, LinkSpec(attachment.ifname, mac=endpoint.mac, mtu=network.mtu, netns=sandbox)
