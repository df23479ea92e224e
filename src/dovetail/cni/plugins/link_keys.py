"""Keys that several plugins which make an interface have, each read in one way."""

from __future__ import annotations

from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.spec.result import Result
from dovetail.engine.engine import endpoint_id
from dovetail.errors import InvalidArgument
from dovetail.kernel.protocol import Kernel
from dovetail.kernel.uplink import uplink_mtu
from dovetail.model.mac import Mac
from dovetail.model.names import check_port_name, named_port, port_link
from dovetail.model.reference_forms import IptablesMasquerade

__all__ = ["LINK_ARGS", "check_mtu", "host_interface", "mac_in", "masquerade_remains", "read_mac", "read_mtu"]

LINK_ARGS = ("MAC",)
"""The CNI_ARGS that are known; another one is refused unless IgnoreUnknown says otherwise."""
_AUTO = "auto"
_MTU_MIN, _MTU_MAX = 68, 65535  # ETH_MIN_MTU, ETH_MAX_MTU, include/uapi/linux/if_ether.h


def read_mac(call: Call, *, key: bool = False) -> Mac | None:
    """Give the MAC that is asked for, by the runtime before the administrator; None for none.

    key: the type has one, ``mac``, in its configuration. Raises InvalidArgument.
    """
    said = (
        ("$.runtimeConfig.mac", call.runtime.text("mac")),
        ("$.args.cni.mac", call.cni_args.text("mac")),
        ("CNI_ARGS: MAC", call.environment.args.get("MAC", "")),
        ("$.mac", call.config.text("mac") if key else ""),
    )
    for where, text in said:
        if not text:
            continue
        try:
            return Mac(text)
        except InvalidArgument as exc:
            raise InvalidArgument(exc.message, where=where, hint=exc.hint) from exc
    return None


def mac_in(call: Call, result: Result) -> Mac | None:
    """Give the MAC that `result` says the container's interface has; None where it says none, or no Ethernet one."""
    inner = result.inner(call.environment.ifname)
    try:
        return Mac(inner.mac) if inner is not None and inner.mac else None
    except InvalidArgument:
        return None


def check_mtu(call: Call) -> None:
    """Refuse an ``mtu`` that no interface has."""
    if call.config.is_word("mtu", _AUTO):
        return
    mtu = call.config.integer("mtu")
    if mtu and not _MTU_MIN <= mtu <= _MTU_MAX:
        raise CniError(
            INVALID_CONFIG,
            f"$.mtu: invalid MTU {mtu}, must be [{_MTU_MIN}, {_MTU_MAX}]",
            'leave it out for the default, or say "auto" for that of the host\'s default route',
        )


def read_mtu(call: Call, kernel: Kernel, *, ipv6: bool) -> int:
    """Give ``mtu``: 0 for the default; ``auto`` is that of the link that the default route of `kernel` leads out of."""
    if call.config.is_word("mtu", _AUTO):
        return uplink_mtu(kernel, ipv6=ipv6)
    return call.config.integer("mtu")


def masquerade_remains(call: Call) -> IptablesMasquerade:
    """Say whom another program's rules masquerade for: the addresses of its result, or all that the container had."""
    try:
        result = call.prev_result
    except CniError:
        result = None
    addresses = result.addresses_of(call.environment.ifname) if result is not None else ()
    return IptablesMasquerade(addresses=addresses)


def host_interface(call: Call) -> str:
    """Name the host's end of a pair: as ``hostInterfaceName`` says, see `named_port`. Raises InvalidArgument."""
    template = call.config.text("hostInterfaceName")
    attachment = endpoint_id(call.owner)
    if not template:
        return port_link(attachment)
    return named_port(check_port_name(template, where="$.hostInterfaceName"), attachment)
