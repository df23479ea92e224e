"""The kernel as the rest of dovetail sees it: some fifty verbs in the vocabulary of ``ip`` and ``nft``.

`LinuxKernel` carries them out, `RecordingKernel` writes each as the command it equals, and a
test's fake raises where it is told to. A handle is bound to one network namespace; `inside`
gives a handle to another.

Every verb raises KernelError (with the kernel's extended ACK text), or where the meaning is
known NotFound, AlreadyExists or PermissionDenied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol, TypeAlias

from dovetail.kernel.packet_filter import PacketFilter
from dovetail.kernel.protocol_bridges import BridgePort, BridgeSettings, Bridging, VlanRange
from dovetail.kernel.protocol_routing import KernelRoute, Routing, Rule
from dovetail.kernel.protocol_tc import Redirect, Tbf, TrafficControl
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.element import Element
from dovetail.model.mac import Mac

__all__ = [
    "BridgePort",
    "BridgeSettings",
    "Dummy",
    "Ifb",
    "Ipvlan",
    "IpvlanFlag",
    "IpvlanMode",
    "Kernel",
    "KernelRoute",
    "Link",
    "LinkSettings",
    "LinkSpec",
    "Macvlan",
    "MacvlanMode",
    "Netns",
    "Redirect",
    "Rule",
    "TableState",
    "Tap",
    "Tbf",
    "Vlan",
    "VlanRange",
    "Vrf",
]

MacvlanMode: TypeAlias = Literal["private", "vepa", "bridge", "passthru"]
IpvlanMode: TypeAlias = Literal["l2", "l3", "l3s"]
IpvlanFlag: TypeAlias = Literal["bridge", "private", "vepa"]


class Netns(Protocol):
    """An open network namespace; `close` it, or use it in a ``with``.

    path: as the caller gave it, empty when it came as a descriptor. inode: identifies the
    namespace while it is open (st_ino of nsfs).
    """

    @property
    def path(self) -> str: ...
    @property
    def inode(self) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Netns: ...
    def __exit__(self, *exc: object) -> None: ...


class Macvlan(NamedTuple):
    """``type macvlan``: a MAC of its own on its parent's wire (IFLA_MACVLAN_MODE).

    bcqueuelen: how many broadcast frames may wait on the parent for its macvlans, of which the greatest
    counts; 0 is the kernel's 1000 (IFLA_MACVLAN_BC_QUEUE_LEN).
    """

    mode: MacvlanMode = "bridge"
    bcqueuelen: int = 0


class Ipvlan(NamedTuple):
    """``type ipvlan``: addresses of its own behind its parent's MAC (IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS).

    The kernel keeps both by parent: the last one made sets the mode of all of them.
    """

    mode: IpvlanMode = "l2"
    flag: IpvlanFlag = "bridge"


class Vlan(NamedTuple):
    """``type vlan``: the frames of its parent that carry 802.1Q tag `id`, 1 to 4094 (IFLA_VLAN_ID)."""

    id: int


class Dummy(NamedTuple):
    """``type dummy``: no wire at all, and so no parent."""


class Vrf(NamedTuple):
    """``type vrf``: its ports' traffic is routed by `table` alone (IFLA_VRF_TABLE)."""

    table: int


class Tap(NamedTuple):
    """``ip tuntap add mode tap``: the other end of the wire is a process, such as a virtual machine's.

    owner, group: user and group id that may open it; None: who has CAP_NET_ADMIN. It stays until it is deleted.
    """

    multi_queue: bool = False
    owner: int | None = None
    group: int | None = None


class Ifb(NamedTuple):
    """``type ifb``: what is sent on it comes back as received where it came from; it has a queue, which receiving lacks."""


LinkSettings: TypeAlias = Macvlan | Ipvlan | Vlan | Dummy | Vrf | Tap | Ifb
"""What the kinds of links that `Kernel.add_link` makes need to know, each."""


class Link(NamedTuple):
    """A link as the kernel has it.

    kind: IFLA_INFO_KIND (``veth``, ``bridge``), empty for a NIC. parent_ifindex: the link this one sits on
    X `Kernel.add_link` was given for it; None for other kinds, and for modes that it does not make.
    """

    name: str
    ifindex: int
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = False
    master: int = 0
    alias: str = ""
    peer_ifindex: int = 0
    parent_ifindex: int = 0
    parent_abroad: bool = False
    settings: LinkSettings | None = None
    promisc: bool = False
    allmulti: bool = False
    txqueuelen: int = 0
    operstate: str = ""
    netnsid: int = -1


class LinkSpec(NamedTuple):
    """A link that is to be made, or one end of a veth pair.

    netns: where it is born (None: this handle's namespace). master: bridge to enslave it to.
    hairpin, isolated: flags of the bridge port (IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED).
    """

    name: str
    mac: Mac | None = None
    mtu: int = 0
    netns: Netns | None = None
    master: str = ""
    hairpin: bool = False
    isolated: bool = False
    alias: str = ""
    up: bool = False


class TableState(NamedTuple):
    """A table as it is, or as a text would make it: its comment, and how many rules each chain has.

    Chains without rules are left out.
    """

    comment: str
    rules: Mapping[str, int]


class Kernel(Bridging, Routing, TrafficControl, PacketFilter, Protocol):
    """Verbs on one network namespace. All need CAP_NET_ADMIN there, except the reading ones."""

    # -- namespaces ---------------------------------------------------------------------------
    @property
    def netns_inode(self) -> int:
        """Inode of this handle's namespace."""
        ...

    def open_netns(self, path: str) -> Netns:
        """Open a namespace by path.

        Raises InvalidArgument where the path is missing or is no network namespace (fstatfs is not
        NSFS_MAGIC, or NS_GET_NSTYPE is not CLONE_NEWNET), NamespaceGone where there was one most likely: the
        sentence names the path.
        """
        ...

    def netns_from_fd(self, fd: int, path: str = "") -> Netns:
        """Adopt an open descriptor of a namespace (the shim sends one); `close` closes it."""
        ...

    def create_netns(self, path: str) -> Netns:
        """Make a namespace with its ``lo`` up and bind-mount it at `path`, as ``ip netns add``.

        Needs CAP_SYS_ADMIN. Raises AlreadyExists where `path` is a namespace already.
        """
        ...

    def delete_netns(self, path: str) -> None:
        """Unmount and remove `path`; what is gone already is no error."""
        ...

    def inside(self, netns: Netns) -> AbstractContextManager[Kernel]:
        """Give a handle to `netns`, as ``ip -n``; the handle closes with the ``with``."""
        ...

    def batch(self) -> AbstractContextManager[None]:
        """Collect the mutating link, address, route and rule verbs called inside and send them as one message train.

        The first that fails raises when the block ends; later ones are still attempted by the kernel.
        """
        ...

    # -- links --------------------------------------------------------------------------------
    def link(self, name: str) -> Link | None:
        """Look one link up by name."""
        ...

    def links(self) -> list[Link]:
        """List all links; safe against concurrent changes (NLM_F_DUMP_INTR is retried)."""
        ...

    def add_bridge(self, name: str, *, mac: Mac | None = None, mtu: int = 0, alias: str = "") -> None:
        """``ip link add NAME type bridge``; the link is left down."""
        ...

    def add_veth(self, end: LinkSpec, peer: LinkSpec) -> None:
        """Make a veth pair with both ends configured and each born in its final namespace under its final name."""
        ...

    def add_link(self, spec: LinkSpec, settings: LinkSettings, *, parent: str = "") -> None:
        """``ip link add link PARENT name NAME type KIND``: make a link configured, in its namespace under its name.

        parent: a link of this handle's namespace, wherever ``spec.netns`` is; a dummy, a VRF and a tap have none.
        MTU 0 is the parent's. Raises AlreadyExists (the name, or a VLAN's id on that parent), NotFound (the parent),
        Conflict (the parent has another master, or cannot have both what it carries and this), InvalidArgument
        (an MTU above the parent's, ``lo``), Unsupported where this kernel has no such kind of link.
        """
        ...

    def set_link(
        self,
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
    ) -> None:
        """``ip link set``; what is None stays as it is, ``master=""`` releases the link."""
        ...

    def rename_link(self, name: str, new_name: str) -> None:
        """``ip link set dev NAME name NEW``; before Linux 6.2 the link must be down. Raises AlreadyExists."""
        ...

    def move_link(self, name: str, netns: Netns, *, new_name: str = "", alias: str | None = None) -> None:
        """``ip link set dev NAME netns NETNS name NEW alias ALIAS``: put a link into another namespace.

        It arrives there down, without its addresses, routes and master. Raises AlreadyExists where the name is
        taken there (the link is here then), KernelError for what cannot move (a bridge, ``lo``).
        """
        ...

    def take_link(self, name: str, netns: Netns, *, new_name: str = "", alias: str | None = None) -> None:
        """Fetch a link of another namespace into this one; as `move_link` there."""
        ...

    def delete_links(self, names: Iterable[str]) -> None:
        """``ip link del`` for each; missing ones are no error. Several cost little more than one."""
        ...

    # -- addresses ------------------------------------------------------------------------------
    def add_address(
        self, link: str, address: IPInterface, *, dad: bool = False, prefix_route: bool = True
    ) -> None:
        """``ip addr add ADDRESS dev LINK``; IPv6 without duplicate address detection unless `dad` (IFA_F_NODAD).

        `prefix_route` False: the rest of its prefix is not on the link (IFA_F_NOPREFIXROUTE).
        """
        ...

    def delete_address(self, link: str, address: IPInterface) -> None:
        """``ip addr del``; a missing address is no error."""
        ...

    def addresses(self, link: str = "") -> list[tuple[str, IPInterface]]:
        """List (link name, address), of one link or of all."""
        ...

    def wait_for_dad(self, link: str, *, timeout_s: float = 10.0) -> None:
        """Wait until duplicate address detection is over for every IPv6 address of a link, which takes about 1 s.

        It is done for an address added with `dad` on a link that is up, where the sysctl ``accept_dad`` is 1 or 2;
        ``enhanced_dad`` 1 lets a looped-back question pass (RFC 7527). Raises AddressInUse, with the address, where
        it found another owner; Busy after `timeout_s`; NotFound.
        """
        ...

    # -- sysctl -----------------------------------------------------------------------------------
    def sysctl(self, key: str) -> str | None:
        """Read a ``net.*`` sysctl of this namespace; None where the kernel has none of that name.

        `key` uses ``/`` between parts (``net/ipv4/conf/eth0.10/forwarding``), as interface names may have dots.
        """
        ...

    def set_sysctl(self, key: str, value: str) -> None:
        """Write a ``net/*`` sysctl of this namespace; only where it differs."""
        ...

    # -- nftables -----------------------------------------------------------------------------------
    def nft_apply(self, ruleset: str, elements: Collection[Element] = ()) -> None:
        """``nft -f -``: apply text, and add `elements` to the sets it makes, as one transaction."""
        ...

    def nft_check(self, ruleset: str) -> str:
        """``nft -c -f -``: say what is wrong with text, as nft says it with the line first; empty where it is right."""
        ...

    def nft_has_table(self, name: str = "dovetail") -> bool:
        """Say whether ``table inet NAME`` is there."""
        ...

    def nft_table(self, name: str = "dovetail") -> TableState | None:
        """Say what ``table inet NAME`` is now; None without it."""
        ...

    def nft_add_elements(self, elements: Collection[Element]) -> None:
        """Add elements to the sets and maps of ``table inet dovetail`` in one transaction.

        One that is there already with the same data is no error (NLM_F_CREATE without NLM_F_EXCL).
        Raises NotFound where the table or a set is missing.
        """
        ...

    def nft_delete_elements(self, elements: Collection[Element]) -> None:
        """Delete elements; missing ones (and a missing table) are no error."""
        ...

    def nft_elements(self) -> set[Element]:
        """Read every element of every set and map of ``table inet dovetail``; empty without the table."""
        ...

    def nft_missing(self, elements: Collection[Element]) -> set[Element]:
        """Give those of `elements` that are not there: what `nft_elements` would tell, however many others there are."""
        ...

    # -- the host's other firewall, connection tracking, sockets --------------------------------------
    def forward_policies(self) -> dict[str, bool]:
        """Say for ``iptables`` and ``ip6tables`` whether the filter FORWARD policy is DROP.

        A family without such a chain is left out. Where nftables' and the legacy program are used beside each other,
        the other one is there under the name that reaches it (``iptables-legacy``). Read over nfnetlink; a process is
        run only where the legacy one is used.
        """
        ...

    def iptables(self, program: str, *args: str) -> bool:
        """Change them: run ``iptables`` or ``ip6tables`` with ``--wait``; True when it exits 0. False when it is not installed."""
        ...

    def has_program(self, name: str) -> bool:
        """Say whether a program of that name is installed."""
        ...

    def firewalld_zone(self, zone: str) -> frozenset[str]:
        """Name the interfaces and source addresses that firewalld has in `zone` now; none where it does not run.

        Runs ``firewall-cmd``, which takes a quarter of a second.
        """
        ...

    def firewall_cmd(self, *args: str) -> bool:
        """Change what firewalld does until its next reload: run ``firewall-cmd``; True when it exits 0."""
        ...

    def flush_conntrack(self, protocol: str, *, port: int = 0, address: IPAddress | None = None) -> None:
        """Forget tracked flows of `protocol` whose original destination port is `port`, or whose reply
        source is `address` (either or both); nothing to forget is no error.
        """
        ...

    def port_is_free(self, protocol: str, address: IPAddress | None, port: int) -> bool:
        """Say whether a socket of this namespace could be bound to it now (by binding one and closing it).

        A protocol for which the kernel has no sockets counts as free.
        """
        ...
