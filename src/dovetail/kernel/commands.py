"""What each mutating verb of the kernel equals as a command line of ``ip``, ``bridge``, ``tc``, ``nft`` or ``sysctl``.

`describe` gives lines that a POSIX shell would run to the same effect; `RecordingKernel` collects
them, and the trace shows them as the text of a step. Nothing here runs anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from dovetail.kernel.command_line import EMPTY, inside, netns_name, netns_path, shell_line
from dovetail.kernel.commands_bridges import BRIDGING
from dovetail.kernel.commands_routing import ROUTING
from dovetail.kernel.commands_tc import TRAFFIC_CONTROL
from dovetail.kernel.link_settings import kind_of
from dovetail.kernel.packet_filter import NftChain, NftRule
from dovetail.kernel.protocol import Ipvlan, LinkSettings, LinkSpec, Macvlan, Netns, Tap, Vlan, Vrf
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.element import Element, ElementValue
from dovetail.model.mac import Mac

__all__ = ["MUTATING", "describe", "element_lines", "element_text", "inside", "netns_path"]

_TABLE = "inet dovetail"
_PROTOCOL_V6 = 6
_ONE_QUEUE = ("numtxqueues", 1, "numrxqueues", 1)  # see `rtnl.new_veth`


def describe(verb: str, *args: object, **kwargs: object) -> list[str]:
    """Give the command lines that ``kernel.VERB(*args, **kwargs)`` equals, in order.

    A verb that changes nothing (and one that is not known) gives none. The lines are for the
    kernel handle's own namespace; `inside` turns one into the same for another namespace.
    """
    writer = _WRITERS.get(verb)
    return writer(*args, **kwargs) if writer is not None else []


# -- namespaces ---------------------------------------------------------------------------------


def _create_netns(path: str) -> list[str]:
    name = netns_name(path)
    if name:
        return [
            shell_line("ip", "netns", "add", name),
            shell_line("ip", "-n", name, "link", "set", "dev", "lo", "up"),
        ]
    return [
        shell_line("touch", path),
        shell_line("unshare", f"--net={path}", "true"),
        shell_line("nsenter", f"--net={path}", "ip", "link", "set", "dev", "lo", "up"),
    ]


def _delete_netns(path: str) -> list[str]:
    name = netns_name(path)
    return (
        [shell_line("ip", "netns", "del", name)]
        if name
        else [shell_line("umount", path), shell_line("rm", path)]
    )


# -- links --------------------------------------------------------------------------------------


def _add_bridge(name: str, *, mac: Mac | None = None, mtu: int = 0, alias: str = "") -> list[str]:
    lines = [shell_line("ip", "link", "add", "name", name, *_birth(mac, mtu), "type", "bridge")]
    return lines + _set_link(name, alias=alias or None)


def _add_veth(end: LinkSpec, peer: LinkSpec) -> list[str]:
    both = [
        shell_line(
            *("ip", "link", "add", "name", end.name, *_birth(end.mac, end.mtu), *_ONE_QUEUE, *_born_in(end)),
            *("type", "veth", "peer", "name", peer.name),
            *(*_birth(peer.mac, peer.mtu), *_ONE_QUEUE, *_born_in(peer)),
        )
    ]
    return both + _configure(end) + _configure(peer)


def _add_link(spec: LinkSpec, settings: LinkSettings, *, parent: str = "") -> list[str]:
    if isinstance(settings, Tap):
        return _add_tap(spec, settings)
    on = ("link", parent) if parent else ()
    line = shell_line(
        *("ip", "link", "add", *on, "name", spec.name, *_birth(spec.mac, spec.mtu), *_born_in(spec)),
        *("type", kind_of(settings), *_settings(settings)),
    )
    return [line, *_configure(spec)]


def _add_tap(spec: LinkSpec, tap: Tap) -> list[str]:
    words: list[object] = ["multi_queue"] if tap.multi_queue else []
    words += ["user", tap.owner] if tap.owner is not None else []
    words += ["group", tap.group] if tap.group is not None else []
    lines = [shell_line("ip", "tuntap", "add", "dev", spec.name, "mode", "tap", *words)]
    lines += _set_link(spec.name, mac=spec.mac, mtu=spec.mtu or None)
    if spec.netns is not None:
        lines = [inside(netns_path(spec.netns), one) for one in lines]
    return [*lines, *_configure(spec)]


def _settings(settings: LinkSettings) -> tuple[object, ...]:
    match settings:
        case Macvlan(mode, length):
            return "mode", mode, *(("bcqueuelen", length) if length else ())
        case Ipvlan(mode, flag):
            return "mode", mode, flag
        case Vlan(number):
            return "id", number
        case Vrf(table):
            return "table", table
        case _:
            return ()


def _configure(spec: LinkSpec) -> list[str]:
    """Say what `ip link add` cannot: the kernel takes alias, master and port flags separately."""
    lines = _set_link(spec.name, alias=spec.alias or None, master=spec.master or None)
    if spec.master and (spec.hairpin or spec.isolated):
        lines += BRIDGING["set_bridge_port"](
            spec.name, hairpin=spec.hairpin or None, isolated=spec.isolated or None
        )
    if spec.up:
        lines += _set_link(spec.name, up=True)
    return [inside(netns_path(spec.netns), line) for line in lines] if spec.netns is not None else lines


def _birth(mac: Mac | None, mtu: int) -> list[object]:
    return [*(("address", mac) if mac else ()), *(("mtu", mtu) if mtu else ())]


def _born_in(spec: LinkSpec) -> list[object]:
    if spec.netns is None:
        return []
    path = netns_path(spec.netns)
    return ["netns", netns_name(path) or path]


def _set_link(
    name: str,
    *,
    up: bool | None = None,
    mtu: int | None = None,
    mac: Mac | None = None,
    master: str | None = None,
    alias: str | None = None,
    promisc: bool | None = None,
    allmulti: bool | None = None,
    txqueuelen: int | None = None,
) -> list[str]:
    words: list[object] = []
    for word, on in (("promisc", promisc), ("allmulticast", allmulti)):
        words += [word, "on" if on else "off"] if on is not None else []
    words += ["txqueuelen", txqueuelen] if txqueuelen is not None else []
    if mac is not None:
        words += ["address", mac]
    if mtu is not None:
        words += ["mtu", mtu]
    if alias is not None:
        words += ["alias", alias or EMPTY]
    if master is not None:
        words += ["master", master] if master else ["nomaster"]
    if up is not None:
        words += ["up" if up else "down"]
    return [shell_line("ip", "link", "set", "dev", name, *words)] if words else []


def _rename_link(name: str, new_name: str) -> list[str]:
    return [shell_line("ip", "link", "set", "dev", name, "name", new_name)]


def _move_link(name: str, netns: Netns, *, new_name: str = "", alias: str | None = None) -> list[str]:
    path = netns_path(netns)
    return [_moved(name, netns_name(path) or path, new_name, alias)]


def _take_link(name: str, netns: Netns, *, new_name: str = "", alias: str | None = None) -> list[str]:
    # the host's: the namespace of process 1
    return [inside(netns_path(netns), _moved(name, "1", new_name, alias))]


def _moved(name: str, to: str, new_name: str, alias: str | None) -> str:
    words: list[object] = [
        *(("name", new_name) if new_name else ()),
        *(("alias", alias or EMPTY) if alias is not None else ()),
    ]
    return shell_line("ip", "link", "set", "dev", name, "netns", to, *words)


def _delete_links(names: Iterable[str]) -> list[str]:
    return [shell_line("ip", "link", "del", "dev", name) for name in names]


# -- addresses ----------------------------------------------------------------------------------


def _add_address(
    link: str, address: IPInterface, *, dad: bool = False, prefix_route: bool = True
) -> list[str]:
    nodad = "nodad" if address.version == _PROTOCOL_V6 and not dad else ""
    return [
        shell_line("ip", "addr", "add", address, "dev", link, nodad, "" if prefix_route else "noprefixroute")
    ]


def _delete_address(link: str, address: IPInterface) -> list[str]:
    return [shell_line("ip", "addr", "del", address, "dev", link)]


# -- sysctl, nftables, iptables, conntrack --------------------------------------------------------


def _set_sysctl(key: str, value: str) -> list[str]:
    return [shell_line("sysctl", "-q", "-w", f"{key}={value}")]


def _nft_apply(ruleset: str, elements: Collection[Element] = ()) -> list[str]:
    text = "\n".join([ruleset.strip("\n"), *element_lines("add", elements)])
    if "\n" not in text:
        return [shell_line("nft", text)]
    return [f"nft -f - <<'EOF'\n{text}\nEOF"]


def _nft_add_elements(elements: Collection[Element]) -> list[str]:
    return _nft_elements("add", elements)


def _nft_delete_elements(elements: Collection[Element]) -> list[str]:
    return _nft_elements("delete", elements)


def _nft_elements(action: str, elements: Collection[Element]) -> list[str]:
    return [shell_line("nft", line) for line in element_lines(action, elements)]


def element_lines(action: str, elements: Collection[Element]) -> list[str]:
    """Write `elements` as lines of nft's language that ``add`` or ``delete`` them, one a set."""
    by_set: dict[str, list[str]] = {}
    for element in elements:
        by_set.setdefault(element.set, []).append(element_text(element))
    return [f"{action} element {_TABLE} {name} {{ {', '.join(texts)} }}" for name, texts in by_set.items()]


def element_text(element: Element) -> str:
    """Write an element as nft does: ``tcp . 8080 : 10.0.0.2 . 80``."""
    key = " . ".join(_value_text(value) for value in element.key)
    return f"{key} : {' . '.join(_value_text(value) for value in element.data)}" if element.data else key


def _value_text(value: ElementValue) -> str:
    if isinstance(value, str):
        return value if value in {"tcp", "udp", "sctp"} else f'"{value}"'
    if (
        isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network))
        and value.prefixlen == value.max_prefixlen
    ):
        return str(value.network_address)
    return str(value)


def _iptables(program: str, *args: str) -> list[str]:
    return [shell_line(program, "--wait", *args)]


def _iptables_restore(program: str, changes: Mapping[str, Sequence[str]]) -> list[str]:
    from dovetail.kernel.programs import restore_text

    return [f"{program}-restore --noflush --wait <<'EOF'\n{restore_text(changes)}EOF"]


def _nft_delete(rules: Sequence[NftRule], chains: Sequence[NftChain] = ()) -> list[str]:
    lines = [f"delete rule {_chain_text(rule.chain)} handle {rule.handle}" for rule in rules]
    lines += [f"flush chain {_chain_text(chain)}" for chain in chains]
    lines += [f"delete chain {_chain_text(chain)}" for chain in chains]
    return _nft_apply("\n".join(lines)) if lines else []


def _chain_text(chain: NftChain) -> str:
    return " ".join(chain)


def _firewall_cmd(*args: str) -> list[str]:
    return [shell_line("firewall-cmd", *args)]


def _flush_conntrack(protocol: str, *, port: int = 0, address: IPAddress | None = None) -> list[str]:
    family: list[object] = ["-f", "ipv6"] if address is not None and address.version == _PROTOCOL_V6 else []
    words: list[object] = ["--orig-port-dst", port] if port else []
    words += ["--reply-src", address] if address is not None else []
    return [shell_line("conntrack", "-D", *family, "-p", protocol, *words)]


_WRITERS: dict[str, Callable[..., list[str]]] = {
    "create_netns": _create_netns,
    "delete_netns": _delete_netns,
    "add_bridge": _add_bridge,
    "add_veth": _add_veth,
    "add_link": _add_link,
    "set_link": _set_link,
    "rename_link": _rename_link,
    "move_link": _move_link,
    "take_link": _take_link,
    **BRIDGING,
    "delete_links": _delete_links,
    "add_address": _add_address,
    "delete_address": _delete_address,
    **ROUTING,
    **TRAFFIC_CONTROL,
    "set_sysctl": _set_sysctl,
    "nft_apply": _nft_apply,
    "nft_add_elements": _nft_add_elements,
    "nft_delete_elements": _nft_delete_elements,
    "nft_delete": _nft_delete,
    "iptables": _iptables,
    "iptables_restore": _iptables_restore,
    "firewall_cmd": _firewall_cmd,
    "flush_conntrack": _flush_conntrack,
}

MUTATING = frozenset(_WRITERS)
"""The verbs that change something."""
