"""What a configuration asks of the IPAM plugins ``host-local`` and ``static``, read into values.

The keys, their defaults and who overrides whom are the reference plugins' (cni.md §2.6, §2.7). Every error says
where: ``$.ipam.ranges[0][1].subnet``.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, IPv6Interface

import msgspec

from dovetail.cni.environment import check_args
from dovetail.cni.errors import BAD_ENVIRONMENT, INVALID_CONFIG, IO_FAILURE, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.spec.parts import read_dns, read_route
from dovetail.cni.spec.registry import number
from dovetail.errors import InvalidArgument
from dovetail.ipam.host_local import DATA_DIR
from dovetail.ipam.host_local_ranges import AddressRange, RangeSet, address_range, range_set, refuse_overlaps
from dovetail.model.addresses import IPAddress, IPInterface, parse_address, parse_interface, parse_subnet
from dovetail.model.allocated import Allocated
from dovetail.model.attachment import DNS, Route
from dovetail.model.resolv_conf import parse_resolv_conf

__all__ = [
    "HostLocalConfig",
    "StaticConfig",
    "data_dir",
    "read_host_local",
    "read_static",
    "static_differences",
]

_SEVERAL_SINCE = "0.3.0"  # a result of 0.2.0 has one ip4 and one ip6
_RESOLV_CONF_BYTES = 1 << 20


class HostLocalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What ``ipam`` of type host-local asks for, to be given to `ipam.host_local.HostLocal`."""

    data_dir: str
    range_sets: tuple[RangeSet, ...]
    requested: tuple[IPAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()


class StaticConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What ``ipam`` of type static gives."""

    addresses: tuple[Allocated, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()


def data_dir(config: Folded) -> str:
    """Give the directory of host-local's files: all that DEL, CHECK and GC need, whatever else is wrong."""
    return _ipam(config).text("dataDir") or DATA_DIR


def read_host_local(config: Folded, *, version: str, args: Mapping[str, str]) -> HostLocalConfig:
    """Read what ADD needs; `args` are CNI_ARGS. Reads the file that ``resolvConf`` names.

    Raises CniError of code 4 (CNI_ARGS), 5 (``resolvConf`` cannot be read) and 7, and InvalidArgument.
    """
    ipam = _ipam(config)
    check_args(args, ("IP",))
    sets = _range_sets(config, ipam)
    _refuse_several(version, [found.version for found in sets])
    refuse_overlaps(sets, where="$.ipam.ranges")
    resolv_conf = ipam.text("resolvConf")
    return HostLocalConfig(
        data_dir=data_dir(config),
        range_sets=tuple(sets),
        requested=_requested(config, args, sets),
        routes=_routes(ipam),
        dns=_read_resolv_conf(resolv_conf) if resolv_conf else DNS(),
    )


def read_static(config: Folded, *, version: str, args: Mapping[str, str]) -> StaticConfig:
    """Read what ADD answers.

    ``runtimeConfig.ips`` or else ``args.cni.ips`` take the place of all other addresses. Without them CNI_ARGS' IP
    adds to the configured ones, each with the last of GATEWAY that is in its subnet; routes and dns stay as they are.
    Raises CniError of code 4 and 7, and InvalidArgument.
    """
    ipam = _ipam(config)
    check_args(args, ("IP", "GATEWAY"))
    addresses = [
        _static_address(one.text("address"), one.text("gateway"), f"$.ipam.addresses[{index}]")
        for index, one in enumerate(ipam.objects("addresses"))
    ]
    addresses += _from_args(args)
    where, texts = next((source for source in _sources(config) if source[1]), ("", ()))
    if texts:
        addresses = [Allocated(address=_cidr(text, f"{where}[{n}]")) for n, text in enumerate(texts)]
    _refuse_several(version, [one.address.version for one in addresses])
    for address, times in Counter(one.address.ip for one in addresses).items():
        if times > 1:
            raise InvalidArgument(
                f"{address} is there {times} times", where="$.ipam.addresses", hint="name it once"
            )
    return StaticConfig(addresses=tuple(addresses), routes=_routes(ipam), dns=read_dns(ipam.object("dns")))


def static_differences(config: StaticConfig, found: Sequence[Allocated]) -> list[str]:
    """Say which configured addresses are not among those of a result (CHECK).

    The gateway is to be the same where the configuration has one; the main plugin may have given one to the rest.
    """
    return [
        f"static: Failed to match addr {one.address} with gateway {one.gateway or 'none'} in prevResult"
        for one in config.addresses
        if not any(one.address == other.address and one.gateway in {None, other.gateway} for other in found)
    ]


def _ipam(config: Folded) -> Folded:
    if "ipam" not in config:
        raise CniError(
            INVALID_CONFIG, "IPAM config missing 'ipam' key", "write $.ipam into the configuration"
        )
    return config.object("ipam")


def _range_sets(config: Folded, ipam: Folded) -> list[RangeSet]:
    """Read the sets in the order of their addresses: the runtime's, the one in ``ipam`` itself, and ``ranges``."""
    runtime = config.object("runtimeConfig").object_lists("ipRanges")
    found = [(one, f"$.runtimeConfig.ipRanges[{index}]") for index, one in enumerate(runtime)]
    if "subnet" in ipam:
        found.append(([ipam], "$.ipam"))
    found += [(one, f"$.ipam.ranges[{index}]") for index, one in enumerate(ipam.object_lists("ranges"))]
    if not found:
        raise CniError(
            INVALID_CONFIG, "no IP ranges specified", 'give $.ipam.ranges, as [[{"subnet": "10.0.0.0/24"}]]'
        )
    return [_range_set(index, parts, where) for index, (parts, where) in enumerate(found)]


def _range_set(index: int, parts: list[Folded], where: str) -> RangeSet:
    try:
        return range_set(
            [
                _range(one, where if where == "$.ipam" else f"{where}[{inner}]")
                for inner, one in enumerate(parts)
            ],
            where=where,
        )
    except InvalidArgument as exc:
        raise InvalidArgument(
            f"invalid range set {index}: {exc.message}", where=exc.where, hint=exc.hint
        ) from exc


def _range(one: Folded, where: str) -> AddressRange:
    def address(key: str) -> IPAddress | None:
        text = one.text(key)
        return _unmapped(parse_address(text, where=f"{where}.{key}")) if text else None

    return address_range(
        parse_subnet(one.text("subnet"), where=f"{where}.subnet"),
        first=address("rangeStart"),
        last=address("rangeEnd"),
        gateway=address("gateway"),
        where=where,
    )


def _sources(config: Folded) -> list[tuple[str, tuple[str, ...]]]:
    """List where a configuration may ask for addresses, and for which; the first counts more."""
    return [
        ("$.runtimeConfig.ips", config.object("runtimeConfig").texts("ips")),
        ("$.args.cni.ips", config.object("args").object("cni").texts("ips")),
    ]


def _requested(config: Folded, args: Mapping[str, str], sets: Sequence[RangeSet]) -> tuple[IPAddress, ...]:
    """Give the addresses asked for: the runtime's, then those of ``args``, then CNI_ARGS'.

    One that a later source names gives way where an earlier one has spoken: for the same range set, or, where it is in
    no free one, for the family. Several sources may so ask for an address of each family, as the reference plugin
    has it, and a contradiction is decided by their order (CONVENTIONS.md), where that plugin fails.
    """
    sources = [
        [_request(text, f"{where}[{n}]") for n, text in enumerate(texts)] for where, texts in _sources(config)
    ]
    sources.append([_request(args["IP"], "CNI_ARGS: IP")] if args.get("IP") else [])
    asked: list[IPAddress] = []
    taken: set[int] = set()
    for source in sources:
        families = {address.version for address in asked}
        earlier = set(taken)
        for address in source:
            place = next((n for n, found in enumerate(sets) if found.find(address) is not None), None)
            if address.version in families and (place is None or place in earlier):
                continue
            asked.append(address)
            taken |= set() if place is None else {place}
    return tuple(dict.fromkeys(asked))


def _request(text: str, where: str) -> IPAddress:
    """Read an address with or without a prefix length, which is the range's in any case."""
    try:
        if "/" in text:
            parse_interface(text, where=where)
        return _unmapped(parse_address(text.partition("/")[0], where=where))
    except InvalidArgument as exc:
        raise _by_source(exc) from exc


def _from_args(args: Mapping[str, str]) -> list[Allocated]:
    """Read IP and GATEWAY of CNI_ARGS, lists with commas."""
    try:
        gateways = [
            _unmapped(parse_address(text, where="CNI_ARGS: GATEWAY"))
            for text in _listed(args.get("GATEWAY", ""))
        ]
        found = []
        for text in _listed(args.get("IP", "")):
            address = _cidr(text.strip(), "CNI_ARGS: IP")
            gateway = next((one for one in reversed(gateways) if one in address.network), None)
            found.append(Allocated(address=address, gateway=gateway))
    except InvalidArgument as exc:
        raise _by_source(exc) from exc
    return found


def _listed(text: str) -> list[str]:
    return text.split(",") if text else []


def _by_source(exc: InvalidArgument) -> CniError | InvalidArgument:
    """Give what is wrong with a variable its code, 4."""
    return CniError(BAD_ENVIRONMENT, str(exc)) if exc.where.startswith("CNI_ARGS") else exc


def _static_address(address: str, gateway: str, where: str) -> Allocated:
    found = _cidr(address, f"{where}.address")
    if not gateway:
        return Allocated(address=found)
    named = _unmapped(parse_address(gateway, where=f"{where}.gateway"))
    if named.version != found.version:
        raise InvalidArgument(f"gateway {named} is of another family than {found}", where=f"{where}.gateway")
    return Allocated(address=found, gateway=named)


def _cidr(text: str, where: str) -> IPInterface:
    """Read an address that an interface may have, with its prefix length."""
    found = parse_interface(text, where=where)
    if isinstance(found, IPv6Interface) and (
        found.ip.ipv4_mapped is not None or found.ip.scope_id is not None
    ):
        raise InvalidArgument(f"{text!r} is an IPv4 address in IPv6's spelling, or has a zone", where=where)
    if found.ip.is_unspecified or found.ip.is_multicast:
        raise InvalidArgument(f"{text!r} is no address for an interface", where=where, hint="choose a host's")
    return found


def _unmapped(address: IPAddress) -> IPAddress:
    """Give an IPv4 address that is spelt as an IPv6 one as what it is, as Go does."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _refuse_several(version: str, families: Sequence[int]) -> None:
    if number(version) < number(_SEVERAL_SINCE) and len(families) > len(set(families)):
        raise InvalidArgument(
            f"CNI version {version} does not support more than 1 address per family",
            where="$.cniVersion",
            hint=f"write {_SEVERAL_SINCE} or later, or give one IPv4 and one IPv6 range",
        )


def _routes(ipam: Folded) -> tuple[Route, ...]:
    routes = []
    for index, one in enumerate(ipam.objects("routes")):
        try:
            routes.append(read_route(one))
        except InvalidArgument as exc:
            raise InvalidArgument(exc.message, where=f"$.ipam.routes[{index}]", hint=exc.hint) from exc
    return tuple(routes)


def _read_resolv_conf(path: str) -> DNS:
    """Read a resolv.conf, which is a link on many hosts; what is no file, or a huge one, is refused."""
    if not path.startswith("/"):
        raise InvalidArgument(f"{path!r} is not an absolute path", where="$.ipam.resolvConf")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CniError(IO_FAILURE, f"$.ipam.resolvConf: {path} is not a file")
            text = file.read(_RESOLV_CONF_BYTES + 1)
    except OSError as exc:
        raise CniError(IO_FAILURE, f"$.ipam.resolvConf: open {path}: {exc.strerror}") from exc
    except ValueError as exc:  # NUL, or half a character
        raise CniError(INVALID_CONFIG, f"$.ipam.resolvConf: {path!r} cannot be a path") from exc
    if len(text) > _RESOLV_CONF_BYTES:
        raise CniError(IO_FAILURE, f"$.ipam.resolvConf: {path} is larger than {_RESOLV_CONF_BYTES} bytes")
    return parse_resolv_conf(text.decode(errors="replace"))
