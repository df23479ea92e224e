"""Messages of traffic control: a token bucket, the ingress qdisc, and the filter that redirects what comes in.

Everything but `clock` is pure. The numbers are those that the CNI reference plugin ``bandwidth`` writes, so that
either's CHECK accepts what the other made; so are the bytes.

Source: include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h, include/uapi/linux/tc_act/tc_mirred.h.
"""

from __future__ import annotations

import functools
import socket
from struct import Struct
from typing import NamedTuple

from dovetail.kernel.attributes import attribute, attributes, nul, u32
from dovetail.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message
from dovetail.kernel.protocol_tc import Tbf

__all__ = [
    "QdiscRow",
    "clock",
    "delete_ingress",
    "delete_tbf",
    "dump_filters",
    "dump_qdiscs",
    "get_root",
    "kept",
    "new_ingress",
    "new_redirect",
    "parse_qdisc",
    "parse_redirect",
    "replace_tbf",
]

_NEWQDISC, _DELQDISC, _GETQDISC = 36, 37, 38  # RTM_…
_NEWTFILTER, _GETTFILTER = 44, 46
_NLM_F_ECHO = 0x8  # include/uapi/linux/netlink.h
_NLM_F_REPLACE = 0x100

_TCMSG = Struct("=BxxxiIII")  # family, link's index, handle, parent, info
_RATESPEC = "BBHhHI"  # cell_log, linklayer, overhead, cell_align, mpu, rate
_TBF_QOPT = Struct(f"={_RATESPEC}{_RATESPEC}III")  # rate, peak rate, limit, buffer, mtu
_U64 = Struct("=Q")
_U32_SEL = Struct("=BBBxHHhhI")  # flags, offshift, nkeys, offmask, off, offoff, hoff, hmask
_U32_KEY = Struct("=IIii")  # mask, value, offset, offmask
_MIRRED = Struct("=IIiiiiI")  # index, capab, action, refcnt, bindcnt, eaction, link's index

_TC_H_ROOT = 0xFFFFFFFF
_TC_H_INGRESS = 0xFFFFFFF1
_ROOT_HANDLE = 0x00010000  # 1:
_INGRESS_HANDLE = 0xFFFF0000  # ffff:
_CLASS = 0x00010001  # 1:1
_ETH_P_ALL = 3  # include/uapi/linux/if_ether.h
_PRIORITY = 1
_TCA_KIND = 1
_TCA_OPTIONS = 2
_TCA_TBF_PARMS = 1
_TCA_TBF_RATE64 = 4
_TCA_U32_CLASSID = 1
_TCA_U32_SEL = 5
_TCA_U32_ACT = 7
_TC_U32_TERMINAL = 1
_TCA_ACT_KIND = 1
_TCA_ACT_OPTIONS = 2
_TCA_MIRRED_PARMS = 2
_TCA_EGRESS_REDIR = 1
_TC_ACT_STOLEN = 4

_MAX = 0xFFFFFFFF
_US = 1e6
_TICKS_PER_US = 15.625  # PSCHED_SHIFT 6, include/net/pkt_sched.h: a tick is 64 ns


class QdiscRow(NamedTuple):
    """A qdisc and the index of its link; `tbf` where it is one and the root."""

    ifindex: int
    kind: str
    tbf: Tbf | None = None


# -- the token bucket -----------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def clock() -> float:
    """Give how many ticks the kernel's packet scheduler counts in a microsecond; the same since Linux 2.6.31.

    Source: /proc/net/psched (psched_show, net/sched/sch_api.c): nanoseconds of a µs and of a tick, and a resolution
    that is 1 µs.
    """
    try:
        with open("/proc/net/psched", encoding="ascii") as file:
            a_microsecond, a_tick, resolution = (int(word, 16) for word in file.read().split()[:3])
    except (OSError, ValueError):
        return _TICKS_PER_US
    return a_microsecond / a_tick * (resolution / _US)


def kept(tbf: Tbf, *, wraps: bool = False) -> Tbf:
    """Give `tbf` as the kernel will keep it and `parse_qdisc` read it.

    The burst is kept as the time that it takes at the rate, in ticks of 32 bits, which is 275 s; the limit has 32 bits
    too. What is longer or more is cut down to that. wraps: as the reference plugin does on x86, where the number's
    lower 32 bits are left, whatever they are.
    """
    limit = tbf.limit & _MAX if wraps else min(tbf.limit, _MAX)
    return Tbf(tbf.rate, _burst(tbf.rate, _ticks(tbf, wraps=wraps)), limit)


def _ticks(tbf: Tbf, *, wraps: bool = False) -> int:
    """Count as the reference plugin does: in doubles, whole microseconds first."""
    microseconds = int(float(tbf.burst) * _US / float(tbf.rate))
    if wraps:
        return int((microseconds & _MAX) * clock()) & _MAX
    return min(int(microseconds * clock()), _MAX)


def _burst(rate: int, ticks: int) -> int:
    return round(ticks / clock() * rate / _US)


def replace_tbf(ifindex: int, tbf: Tbf) -> Message:
    """Make a token bucket the root of a link, as ``1:``, or change the one that is."""
    rate = min(tbf.rate, _MAX)
    limit = min(tbf.limit, _MAX)
    # linklayer and cells stay 0 and there is no rate table: the kernel takes the rate as it is (tbf_change)
    parameters = _TBF_QOPT.pack(0, 0, 0, 0, 0, rate, 0, 0, 0, 0, 0, 0, limit, _ticks(tbf), 0)
    options = attribute(_TCA_TBF_PARMS, parameters)
    if tbf.rate > _MAX:
        options += attribute(_TCA_TBF_RATE64, _U64.pack(tbf.rate))
    head = _head(ifindex, _ROOT_HANDLE, _TC_H_ROOT)
    body = head + nul(_TCA_KIND, "tbf") + attribute(_TCA_OPTIONS, options)
    return Message(_NEWQDISC, NLM_F_CREATE | _NLM_F_REPLACE, body)


def delete_tbf(ifindex: int) -> Message:
    """Delete the root of a link where it is such a token bucket; EINVAL or ENOENT where it is not."""
    return Message(_DELQDISC, 0, _head(ifindex, _ROOT_HANDLE, _TC_H_ROOT) + nul(_TCA_KIND, "tbf"))


def get_root(ifindex: int) -> Message:
    """Ask for the root of one link: a list would be of all links.

    Up to Linux 6.7 the answer is a notification, which needs NLM_F_ECHO to come back to who asked (qdisc_notify,
    net/sched/sch_api.c).
    """
    return Message(_GETQDISC, _NLM_F_ECHO, _head(ifindex, 0, _TC_H_ROOT))


def dump_qdiscs() -> Message:
    """List the qdiscs of all links, but not those that the kernel chose."""
    return Message(_GETQDISC, 0, _head(0, 0, 0))


def parse_qdisc(body: bytes) -> QdiscRow:
    """Read one row of the list."""
    _, ifindex, _, parent, _ = _TCMSG.unpack_from(body)
    said = attributes(body, _TCMSG.size)
    kind = _text(said.get(_TCA_KIND))
    at_root = kind == "tbf" and parent == _TC_H_ROOT
    return QdiscRow(ifindex, kind, _read_tbf(said.get(_TCA_OPTIONS, b"")) if at_root else None)


def _read_tbf(data: bytes) -> Tbf | None:
    options = attributes(data)
    parameters = options.get(_TCA_TBF_PARMS, b"")
    if len(parameters) < _TBF_QOPT.size:
        return None
    numbers = _TBF_QOPT.unpack_from(parameters)
    large = options.get(_TCA_TBF_RATE64, b"")
    rate = _U64.unpack_from(large)[0] if len(large) >= _U64.size else numbers[5]
    limit, ticks = numbers[12:14]
    return Tbf(rate, _burst(rate, ticks), limit)


# -- what comes in --------------------------------------------------------------------------------


def new_ingress(ifindex: int) -> Message:
    """Give a link an ingress qdisc, on which filters of what it receives hang."""
    return Message(_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, _ingress(ifindex) + attribute(_TCA_OPTIONS, b""))


def delete_ingress(ifindex: int) -> Message:
    """Delete it with its filters; EINVAL or ENOENT where there is none, or a clsact."""
    return Message(_DELQDISC, 0, _ingress(ifindex))


def new_redirect(ifindex: int, to: int) -> Message:
    """Send on the link `to` all that the link receives; needs its ingress qdisc.

    The reference plugin writes the action twice. The first takes the frame, so the second never runs.
    """
    mirred = _MIRRED.pack(0, 0, _TC_ACT_STOLEN, 0, 0, _TCA_EGRESS_REDIR, to)
    action = nul(_TCA_ACT_KIND, "mirred") + attribute(_TCA_ACT_OPTIONS, attribute(_TCA_MIRRED_PARMS, mirred))
    options = b"".join(
        (
            attribute(_TCA_U32_SEL, _U32_SEL.pack(_TC_U32_TERMINAL, 0, 1, *bytes(5)) + bytes(_U32_KEY.size)),
            u32(_TCA_U32_CLASSID, _CLASS),
            attribute(_TCA_U32_ACT, attribute(1, action)),
        )
    )
    head = _head(ifindex, 0, _INGRESS_HANDLE, _PRIORITY << 16 | socket.htons(_ETH_P_ALL))
    body = head + nul(_TCA_KIND, "u32") + attribute(_TCA_OPTIONS, options)
    return Message(_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body)


def dump_filters(ifindex: int) -> Message:
    """List the filters of what a link receives."""
    return Message(_GETTFILTER, 0, _head(ifindex, 0, _INGRESS_HANDLE))


def parse_redirect(body: bytes) -> int | None:
    """Read from one row of the list where all that is received goes, 0 where that link has gone; None of other filters."""
    info = _TCMSG.unpack_from(body)[4]
    said = attributes(body, _TCMSG.size)
    options = attributes(said.get(_TCA_OPTIONS, b""))
    if _text(said.get(_TCA_KIND)) != "u32" or info & 0xFFFF != socket.htons(_ETH_P_ALL):
        return None
    if not _takes_all(options.get(_TCA_U32_SEL, b"")):
        return None
    first = attributes(attributes(options.get(_TCA_U32_ACT, b"")).get(1, b""))
    parameters = attributes(first.get(_TCA_ACT_OPTIONS, b"")).get(_TCA_MIRRED_PARMS, b"")
    if _text(first.get(_TCA_ACT_KIND)) != "mirred" or len(parameters) < _MIRRED.size:
        return None
    *_, direction, to = _MIRRED.unpack_from(parameters)
    return int(to) if direction == _TCA_EGRESS_REDIR else None


def _takes_all(selector: bytes) -> bool:
    if len(selector) < _U32_SEL.size:
        return False
    keys = selector[_U32_SEL.size :]
    return all(mask == 0 for mask, *_ in _U32_KEY.iter_unpack(keys[: len(keys) // 16 * 16]))


# -- below ----------------------------------------------------------------------------------------


def _head(ifindex: int, handle: int, parent: int, info: int = 0) -> bytes:
    return _TCMSG.pack(socket.AF_UNSPEC, ifindex, handle, parent, info)


def _ingress(ifindex: int) -> bytes:
    return _head(ifindex, _INGRESS_HANDLE, _TC_H_INGRESS) + nul(_TCA_KIND, "ingress")


def _text(data: bytes | None) -> str:
    return (data or b"").split(b"\0")[0].decode(errors="replace")
