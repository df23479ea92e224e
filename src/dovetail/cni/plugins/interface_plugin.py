"""What the plugins that make an interface have in common: addresses by a delegate, a part of the engine, a result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, ClassVar

import msgspec

from dovetail.cni.delegate import Delegate, PluginMissing, asks_by_interface
from dovetail.cni.errors import INVALID_CONFIG, NOT_AVAILABLE, CniError
from dovetail.cni.plugins import plugin_type
from dovetail.cni.plugins.call import Call, Plugin, refuse
from dovetail.cni.spec.result import IP, Interface, Result
from dovetail.errors import NotFound
from dovetail.kernel.protocol import Netns
from dovetail.model.addresses import IPAddress
from dovetail.model.attachment import Attachment, Route
from dovetail.model.mac import Mac

__all__ = ["InterfacePlugin", "by_gateways"]

_SCOPE_LINK = 253  # RT_SCOPE_LINK, include/uapi/linux/rtnetlink.h


class InterfacePlugin(Plugin):
    """A plugin whose ADD makes an interface. A subclass reads its configuration, and says what it makes of it.

    kind: of its part. further_kinds: of other parts that it may have. needs_addresses: ``ipam`` must be there.
    link_first: the interface can be made before it has addresses, for an IPAM plugin that asks by it.
    """

    kind: ClassVar[str]
    further_kinds: ClassVar[tuple[str, ...]] = ()
    needs_addresses: ClassVar[bool] = False
    link_first: ClassVar[bool] = True

    @abstractmethod
    def detail(self, call: Call, ipam: Result, netns: Netns) -> Any:
        """Say what is to be made with the addresses of `ipam`; changes nothing."""

    @abstractmethod
    def read(self, call: Call) -> None:
        """Refuse a configuration that cannot be used, before anything is done."""

    @abstractmethod
    def remains(self, call: Call, netns: Netns | None) -> Any:
        """Say what another program's ADD has left, for a DEL of what is not ours; None for nothing."""

    def further(self, call: Call, made: Any) -> dict[str, Any]:
        """Say what else is to be made, by kind, with what was made."""
        return {}

    def further_remains(self, call: Call, kind: str) -> Any:
        """Say what another program's ADD has left of `kind`; None for nothing."""
        return None

    def attachment_of(self, detail: Any) -> Attachment:
        """Give the attachment in what was made."""
        found: Attachment = detail.attachment
        return found

    def add(self, call: Call, netns: Netns) -> Result:
        """Get addresses, make the interface, and say so; what fails leaves nothing."""
        self.read(call)
        with self.engine.parts.alone(call.owner), ExitStack() as undo:
            self.engine.parts.begin(call.owner, netns=netns)
            parts, path = self.engine.parts, call.environment.netns
            if self._asks_by_interface(call):
                bare = self.detail(call, Result(), netns)
                made = parts.add(self.kind, call.owner, bare, netns=netns, path=path, unfinished=True)
                undo.callback(parts.remove, self.kind, call.owner, netns=netns)
                ipam = self._ask(call, netns, undo)
                detail = self.addressed(call, made, ipam, netns)
                made = parts.complete(self.kind, call.owner, detail, netns=netns)
            else:
                ipam = self._ask(call, netns, undo)
                detail = self.detail(call, ipam, netns)
                made = parts.add(self.kind, call.owner, detail, netns=netns, path=path)
            for kind, detail in self.further(call, made).items():
                undo.callback(parts.remove, self.kind, call.owner, netns=netns)
                parts.add(kind, call.owner, detail, netns=netns, path=path)
            undo.pop_all()
        return self.result(call, ipam, self.attachment_of(made))

    def addressed(self, call: Call, made: Any, ipam: Result, netns: Netns) -> Any:
        """Say what is to become, with the addresses of `ipam`, of an interface that was made without any."""
        attachment = msgspec.structs.replace(
            self.attachment_of(made),
            addresses=tuple(ip.address for ip in ipam.ips),
            routes=by_gateways(self.routes(call, ipam), ipam.ips),
        )
        return msgspec.structs.replace(made, attachment=attachment)

    def _asks_by_interface(self, call: Call) -> bool:
        """Say whether the IPAM plugin needs the interface first. Raises code 7 where it cannot have it."""
        kind = call.config.object("ipam").text("type")
        if not asks_by_interface(kind):
            return False
        if not self.link_first:
            raise CniError(
                INVALID_CONFIG,
                f"$.ipam.type: {kind} asks by the container's interface, and {self.kind} makes that "
                "only when its addresses and gateways are known",
                "take bridge or macvlan with it, or another IPAM plugin",
            )
        return True

    def _ask(self, call: Call, netns: Netns, undo: ExitStack) -> Result:
        delegate = self._ipam(call)
        if delegate is None:
            return Result()
        ipam = delegate.add(netns, undo)
        if not ipam.ips:
            raise CniError(INVALID_CONFIG, "IPAM plugin returned missing IP config", f"it is {delegate.kind}")
        return ipam

    def result(self, call: Call, ipam: Result, attachment: Attachment) -> Result:
        """Say what was made: the host's interfaces, the sandbox's, and the addresses on it."""
        outer = tuple(
            Interface(name=one.name, mac=str(one.mac or ""), mtu=one.mtu)
            for one in attachment.host_interfaces
        )
        inner = Interface(
            name=attachment.ifname,
            mac=str(attachment.mac or ""),
            mtu=attachment.mtu,
            sandbox=call.environment.netns,
        )
        return Result(
            interfaces=(*outer, inner),
            ips=tuple(IP(address=ip.address, gateway=ip.gateway, interface=len(outer)) for ip in ipam.ips),
            routes=self.routes(call, ipam),
            dns=call.dns if call.dns.nameservers or call.dns.search or call.dns.domain else ipam.dns,
        )

    def routes(self, call: Call, ipam: Result) -> tuple[Route, ...]:
        """Give the routes of the result: those of IPAM, and what the plugin adds."""
        return ipam.routes

    def delete(self, call: Call, netns: Netns | None) -> None:
        """Take the interface away, then give the addresses back: nobody else has them while they are on one.

        Those that were asked for by the interface are given back by it, before it goes.
        """
        parts = self.engine.parts
        by_interface = _is_by_interface(call)
        with parts.alone(call.owner), ExitStack() as both:  # the second is done whatever becomes of the first
            if not by_interface:
                both.callback(self._give_back, call, netns)
            ours = parts.known(self.kind, call.owner) is not None
            left = self.remains(call, netns)
            both.callback(parts.remove, self.kind, call.owner, netns=netns, otherwise=left)
            for kind in self.further_kinds:
                left = None if ours else self.further_remains(call, kind)
                both.callback(parts.remove, kind, call.owner, netns=netns, otherwise=left)
            if by_interface:
                both.callback(self._give_back, call, netns)

    def _give_back(self, call: Call, netns: Netns | None) -> None:
        """Have the IPAM plugin take its addresses; what is known to be of ours goes, whatever ``ipam`` says by now."""
        try:
            delegate = self._ipam(call)
        except PluginMissing:
            self.engine.parts.remove_addresses(call.owner, netns=netns)
            raise
        except CniError as exc:  # no ADD can have got an address by it
            call.stderr += f"{exc.msg}: nothing to give back\n".encode(errors="replace")
            delegate = None
        if delegate is not None:
            delegate.delete(netns)
        self.engine.parts.remove_addresses(call.owner, netns=netns)

    def check(self, call: Call, netns: Netns) -> None:
        """Compare the kernel, and have the IPAM plugin compare, with the result of ADD."""
        result = call.required_result()
        delegate = self._ipam(call)
        if delegate is not None:
            delegate.check(netns)
        ipam = msgspec.structs.replace(
            result,
            ips=tuple(ip for ip in result.ips if ip.address in result.addresses_of(call.environment.ifname)),
        )
        try:
            differences = self.engine.parts.check(
                self.kind, call.owner, netns=netns, now=lambda detail: self.now(call, result, detail)
            )
            for kind in self.further_kinds:
                if self.engine.parts.known(kind, call.owner) is not None:
                    differences += self.engine.parts.check(kind, call.owner, netns=netns)
        except NotFound:
            otherwise = self.expected(call, ipam, netns)
            differences = self.engine.parts.check(self.kind, call.owner, netns=netns, otherwise=otherwise)
        refuse(differences)

    def expected(self, call: Call, result: Result, netns: Netns) -> Any:
        """Say what another program's ADD is to have made, going by its result."""
        return self.detail(call, result, netns)

    def now(self, call: Call, result: Result, detail: Any) -> Any:
        """Say what plugins after this one have made of it, going by the chain's `result`: another MAC, another MTU.

        Before 1.1.0 a result says no MTU, so any is right.
        """
        inner = result.inner(call.environment.ifname)
        if inner is None:
            return detail
        attachment = msgspec.structs.replace(
            self.attachment_of(detail), mac=Mac(inner.mac) if inner.mac else None, mtu=inner.mtu
        )
        return msgspec.structs.replace(detail, attachment=attachment)

    def gc(self, call: Call) -> None:
        """Take away what the runtime does not have any more, and have the IPAM plugin do so too."""
        if call.valid is None:
            return
        by_interface = _is_by_interface(call)
        with ExitStack() as both:
            if not by_interface:
                both.callback(self._collect_addresses, call)
            for kind in (self.kind, *self.further_kinds):
                left = self.further_remains(call, kind)
                both.callback(self.engine.parts.collect, kind, call.name, call.valid, otherwise=left)
            if by_interface:
                both.callback(self._collect_addresses, call)

    def _collect_addresses(self, call: Call) -> None:
        delegate = self._ipam(call)
        if delegate is not None:
            delegate.gc()

    def status(self, call: Call) -> None:
        """Say whether the next ADD could succeed: the configuration, and whatever the IPAM plugin says."""
        self.read(call)
        self._asks_by_interface(call)
        try:
            delegate = self._ipam(call)
        except PluginMissing as exc:
            raise CniError(NOT_AVAILABLE, exc.msg, exc.details) from exc
        if delegate is not None:
            delegate.status()

    def _ipam(self, call: Call) -> Delegate | None:
        kind = call.config.object("ipam").text("type")
        if kind:
            ours = plugin_type(kind)
            if ours is not None and not ours.gives_addresses:  # one that calls itself would do so for ever
                raise CniError(
                    INVALID_CONFIG,
                    f"$.ipam.type: {kind!r} gives no addresses",
                    "name an IPAM plugin, as host-local",
                )
            return Delegate(self.engine, call, kind)
        if self.needs_addresses and call.environment.command != "DEL":
            raise CniError(INVALID_CONFIG, "$.ipam.type: missing", f"{self.kind} needs an IPAM plugin")
        return None


def _is_by_interface(call: Call) -> bool:
    """Say so of an IPAM plugin for DEL and GC, which make do with an ``ipam`` that cannot be read."""
    try:
        return asks_by_interface(call.config.object("ipam").text("type"))
    except CniError:
        return False


def by_gateways(routes: Iterable[Route], ips: Iterable[IP]) -> tuple[Route, ...]:
    """Give `routes` as they go into the kernel: one that names no gateway leads by the first of its family.

    Source: ConfigureIface of the reference plugins (``pkg/ipam/ipam_linux.go``). One whose scope is the link stays on it.
    """
    first: dict[int, IPAddress] = {}
    for ip in ips:
        if ip.gateway is not None:
            first.setdefault(ip.gateway.version, ip.gateway)
    return tuple(
        msgspec.structs.replace(route, gateway=first.get(route.destination.version))
        if route.gateway is None and route.scope != _SCOPE_LINK
        else route
        for route in routes
    )
