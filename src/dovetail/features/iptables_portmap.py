"""Published ports in the reference plugins' form of iptables (``portmap``, ``backend: iptables``).

In table nat, for a container at 10.50.0.2/24 whose port 80 is port 8080 of the host::

    PREROUTING, OUTPUT    -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
    CNI-HOSTPORT-DNAT     -p tcp -m multiport --dports 8080 -j CNI-DN-5145…
    CNI-DN-5145…          -s 10.50.0.0/24 -p tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
    CNI-DN-5145…          -s 127.0.0.1/32 -p tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
    CNI-DN-5145…          -p tcp --dport 8080 -j DNAT --to-destination 10.50.0.2:80
    POSTROUTING           -j CNI-HOSTPORT-MASQ
    CNI-HOSTPORT-SETMARK  -j MARK --set-xmark 0x2000/0x2000
    CNI-HOSTPORT-MASQ     -m mark --mark 0x2000/0x2000 -j MASQUERADE

A port that several containers publish is that of the first. What is made here is removed by `reference_rules`.
Source: containernetworking/plugins 1.1.1 ``plugins/meta/portmap``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dovetail.errors import InvalidArgument
from dovetail.features import iptables_form
from dovetail.features.iptables_form import Form, Rule, Wanted, check_chain, check_conditions, commented
from dovetail.features.iptables_programs import by_program
from dovetail.features.reference_names import Owner, chain_name, dnat_comment
from dovetail.kernel.protocol import Kernel
from dovetail.model.addresses import IPInterface
from dovetail.model.port import PortMapping

__all__ = ["DNAT_CHAIN", "PortmapSettings", "differences", "make", "portmap_form"]

DNAT_CHAIN = "CNI-HOSTPORT-DNAT"
_SET_MARK = "CNI-HOSTPORT-SETMARK"
_MASQUERADE = "CNI-HOSTPORT-MASQ"
_PORTS_A_RULE = 15  # XT_MULTI_PORTS, include/uapi/linux/netfilter/xt_multiport.h
_MARK_BITS = range(32)
_ANY = {4: "0.0.0.0/0", 6: "::/0"}


class PortmapSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration of ``portmap`` says besides the ports.

    snat: who asks from the host itself, or from the container's own subnet, gets the host's address for its own, so
    that the answer comes back. masquerade_all: everybody does. mark_bit: the bit of the packet's mark that says so, 0
    to 31. set_mark_chain: somebody else's chain that sets a mark of theirs; nothing is made for ours then. conditions4
    and conditions6: matches of iptables that a packet must meet besides.
    """

    snat: bool = True
    masquerade_all: bool = False
    mark_bit: int = 13
    set_mark_chain: str = ""
    conditions4: tuple[str, ...] = ()
    conditions6: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be a rule.

        Raises:
            InvalidArgument: with CNI's key as the place.
        """
        if self.mark_bit not in _MARK_BITS:
            raise InvalidArgument(
                f"{self.mark_bit} is not a bit of a mark", where="$.markMasqBit", hint="0 to 31"
            )
        if self.set_mark_chain:
            check_chain(self.set_mark_chain, where="$.externalSetMarkChain")
        check_conditions(self.conditions4, where="$.conditionsV4")
        check_conditions(self.conditions6, where="$.conditionsV6")


_DEFAULT = PortmapSettings()


def portmap_form(
    owner: Owner, address: IPInterface, mappings: Sequence[PortMapping], settings: PortmapSettings = _DEFAULT
) -> Form:
    """Give the form for the container's address of one IP version; of `mappings` those of the other have no DNAT."""
    chain = chain_name(owner, "DN-")
    local = ("-m", "addrtype", "--dst-type", "LOCAL", "-j", DNAT_CHAIN)
    masks = settings.snat and not settings.set_mark_chain
    return Form(
        "nat",
        (*((_SET_MARK, _MASQUERADE) if masks else ()), DNAT_CHAIN),
        (
            *(_marking(settings.mark_bit) if masks else ()),
            Wanted("PREROUTING", local, jumps=True),
            Wanted("OUTPUT", local, jumps=True),
            *(Wanted(DNAT_CHAIN, rule) for rule in _dispatch(owner, chain, address, mappings, settings)),
        ),
        {chain: [rule for mapping in mappings for rule in _rules(address, mapping, settings)]},
        chain,
    )


def _marking(bit: int) -> tuple[Wanted, ...]:
    mark = f"{1 << bit:#x}/{1 << bit:#x}"
    return (
        Wanted(_SET_MARK, (*commented("CNI portfwd masquerade mark"), "-j", "MARK", "--set-xmark", mark)),
        Wanted(_MASQUERADE, ("-m", "mark", "--mark", mark, "-j", "MASQUERADE")),
        # before the rules that masquerade for a network, which would accept the packet as it is
        Wanted(
            "POSTROUTING",
            (*commented("CNI portfwd requiring masquerade"), "-j", _MASQUERADE),
            first=True,
            jumps=True,
        ),
    )


def _dispatch(
    owner: Owner,
    chain: str,
    address: IPInterface,
    mappings: Sequence[PortMapping],
    settings: PortmapSettings,
) -> Iterable[Rule]:
    conditions = settings.conditions4 if address.version == 4 else settings.conditions6
    comment = commented(dnat_comment(owner))
    for protocol in sorted({mapping.protocol for mapping in mappings}):
        ports = [str(mapping.host_port) for mapping in mappings if mapping.protocol == protocol]
        for start in range(0, len(ports), _PORTS_A_RULE):
            some = ",".join(ports[start : start + _PORTS_A_RULE])
            yield ("-p", protocol, *comment, "-m", "multiport", "--dports", some, *conditions, "-j", chain)


def _rules(address: IPInterface, mapping: PortMapping, settings: PortmapSettings) -> Iterable[Rule]:
    """Give the rules of one port: who is to be masqueraded is marked before the address is changed."""
    host, version = mapping.host_ip, address.version
    if host is not None and host.version != version:
        return
    at = () if host is None or host.is_unspecified else ("-d", f"{host}/{host.max_prefixlen}")
    port = ("-p", mapping.protocol, "-m", mapping.protocol, "--dport", str(mapping.host_port))
    mark = ("-j", settings.set_mark_chain or _SET_MARK)
    if settings.snat and settings.masquerade_all:
        yield (*at, *port, *mark)
    elif settings.snat:
        subnet = str(address.network)
        source = () if subnet == _ANY[version] else ("-s", subnet)
        yield (*source, *at, *port, *mark)
        if version == 4:
            yield ("-s", "127.0.0.1/32", *at, *port, *mark)
    inner = f"[{address.ip}]" if version == 6 else str(address.ip)
    yield (*at, *port, "-j", "DNAT", "--to-destination", f"{inner}:{mapping.container_port}")


def make(
    kernel: Kernel,
    owner: Owner,
    addresses: Iterable[IPInterface],
    mappings: Sequence[PortMapping],
    settings: PortmapSettings = _DEFAULT,
    *,
    link: str = "",
) -> None:
    """Lead ports of the host to the container's first address of each IP version; idempotent.

    link: the host's interface behind which the container is, where 127.0.0.1 is to lead there too (with `snat`); it
    gets ``route_localnet``. Tracked UDP flows of these ports are forgotten, as they would go on where they went.

    Raises as `iptables_form.make`.
    """
    for program, ours in by_program(addresses):
        form = portmap_form(owner, ours[0], mappings, settings)
        if link and settings.snat and ours[0].version == 4:
            kernel.set_sysctl(f"net/ipv4/conf/{link}/route_localnet", "1")
        iptables_form.make(kernel, program, form)
    for port in sorted({mapping.host_port for mapping in mappings if mapping.protocol == "udp"}):
        kernel.flush_conntrack("udp", port=port)


def differences(
    kernel: Kernel,
    owner: Owner,
    addresses: Iterable[IPInterface],
    mappings: Sequence[PortMapping],
    settings: PortmapSettings = _DEFAULT,
) -> list[str]:
    """Say what is missing of what `make` makes; changes nothing."""
    return [
        sentence
        for program, ours in by_program(addresses)
        for sentence in iptables_form.differences(
            kernel, program, portmap_form(owner, ours[0], mappings, settings)
        )
    ]
