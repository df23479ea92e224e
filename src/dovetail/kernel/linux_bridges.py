"""The bridges of `LinuxKernel`, their ports and VLANs, over rtnetlink."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from functools import partial

from dovetail.errors import DovetailError, InvalidArgument, Unsupported
from dovetail.kernel import rtnl
from dovetail.kernel.commands import describe
from dovetail.kernel.ifindex import name_of
from dovetail.kernel.linux_handle import LinuxHandle, row, rows
from dovetail.kernel.netlink import Message, Refusal
from dovetail.kernel.protocol_bridges import BridgePort, BridgeSettings, VlanRange
from dovetail.kernel.train import Operation, Resolve

__all__ = ["LinuxBridges"]


class LinuxBridges(LinuxHandle):
    """Those verbs in the handle's namespace."""

    def set_bridge(
        self, name: str, *, vlan_filtering: bool | None = None, default_pvid: int | None = None
    ) -> None:
        """Change a bridge; raises NotFound, InvalidArgument (no bridge), Unsupported."""
        from dovetail.kernel.rtnl_bridges import set_bridge

        if vlan_filtering is None and default_pvid is None:
            return
        message = set_bridge(name, vlan_filtering=vlan_filtering, default_pvid=default_pvid)
        commands = partial(
            describe, "set_bridge", name, vlan_filtering=vlan_filtering, default_pvid=default_pvid
        )
        refused = partial(self._vlans_refused, name, on_bridge=True)
        self._do(Operation(commands, lambda _: [message], link=name, refused=refused))

    def bridge_settings(self, name: str) -> BridgeSettings | None:
        """Say what a bridge does with VLANs."""
        from dovetail.kernel.rtnl_bridges import parse_settings

        with self._route.borrow() as netlink:
            body = row(netlink, name)
        return parse_settings(body) if body is not None else None

    def set_bridge_port(
        self, name: str, *, hairpin: bool | None = None, isolated: bool | None = None
    ) -> None:
        """Change the flags of a bridge's port; a link that is none is a KernelError (EOPNOTSUPP)."""
        if hairpin is None and isolated is None:
            return
        message = rtnl.set_link(name, hairpin=hairpin, isolated=isolated)
        commands = partial(describe, "set_bridge_port", name, hairpin=hairpin, isolated=isolated)
        self._do(Operation(commands, lambda _: [message], link=name))

    def bridge_port(self, name: str) -> BridgePort | None:
        """Say how a link is as a port."""
        from dovetail.kernel.rtnl_bridges import parse_port

        with self._route.borrow() as netlink:
            body = row(netlink, name)
            found = parse_port(body) if body is not None else None
            if found is None:
                return None
            index, port = found
            return port._replace(bridge=name_of(netlink.fileno(), index))

    def add_port_vlans(self, name: str, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> None:
        """Give a port VLANs by one message; raises NotFound, InvalidArgument (no port, no VLAN), Unsupported."""
        from dovetail.kernel.rtnl_bridges import add_vlans

        self._change_vlans("add_port_vlans", add_vlans, name, tuple(vlans), on_bridge=on_bridge)

    def delete_port_vlans(self, name: str, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> None:
        """Take VLANs from a port by one message; raises as `add_port_vlans`."""
        from dovetail.kernel.rtnl_bridges import delete_vlans

        self._change_vlans("delete_port_vlans", delete_vlans, name, tuple(vlans), on_bridge=on_bridge)

    def _change_vlans(
        self,
        verb: str,
        write: Callable[..., Message],
        name: str,
        vlans: tuple[VlanRange, ...],
        *,
        on_bridge: bool,
    ) -> None:
        if not vlans:
            return
        commands = partial(describe, verb, name, vlans, on_bridge=on_bridge)

        def build(resolve: Resolve) -> list[Message]:
            return [write(resolve(name), vlans, on_bridge=on_bridge)]

        refused = partial(self._vlans_refused, name, on_bridge=on_bridge)
        self._do(Operation(commands, build, link=name, refused=refused))

    def port_vlans(self) -> dict[str, list[VlanRange]]:
        """List the VLANs of ports and bridges."""
        from dovetail.kernel.rtnl_bridges import dump_vlans, parse_vlans

        found: dict[str, list[VlanRange]] = {}
        with self._route.borrow() as netlink:
            for body in rows(netlink, dump_vlans(), "bridge vlan show"):
                name, vlans = parse_vlans(body)
                if vlans:
                    found[name] = vlans
        return found

    def _vlans_refused(self, name: str, refusal: Refusal, *, on_bridge: bool) -> DovetailError | None:
        """Say why: the kernel has EOPNOTSUPP for a link of the wrong kind, and for VLANs that it cannot filter."""
        if refusal.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            return None
        fits = self.bridge_settings(name) if on_bridge else self.bridge_port(name)
        if fits is None:
            what = "bridge" if on_bridge else "port of a bridge"
            return InvalidArgument(f"{name!r} is no {what}, so it has no VLANs")
        if refusal.errno == errno.EINVAL:
            return None
        return Unsupported(
            "this kernel's bridges cannot filter VLANs",
            hint="it is built without CONFIG_BRIDGE_VLAN_FILTERING",
        )
