"""The firewall as the engine keeps it: the static table, and the elements that networks and endpoints own.

The rows of the store are written before the elements are added and deleted after they are gone,
so whoever reads the kernel first and the store second can tell an element that nobody owns. Operations
under way add and remove their own: what they hold the lock of is not put back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from dovetail.engine.core import Core
from dovetail.engine.part_kind import AnyPartKind, Filtered
from dovetail.engine.table import Table
from dovetail.errors import NotFound
from dovetail.model.codec import decode
from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network
from dovetail.model.part import Part

__all__ = ["Firewall"]

_LOCK = "f" * 15  # a lock of its own; network and endpoint ids are hashes and never all f
_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_AT_ONCE = 64  # locks held, a descriptor each


@functools.lru_cache(maxsize=64)
def _elements(how: AnyPartKind, detail: str) -> tuple[Element, ...]:
    """Give the elements of what was kept as `detail`: the same ones are asked for three times an ADD."""
    assert isinstance(how, Filtered)  # noqa: S101 - who asks has looked
    return tuple(how.elements(decode(detail, how.detail)))


class Firewall:
    """The table, its elements, and room in the host's other firewall."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.table = Table(core)
        self._admitted: set[str] = set()

    def network_elements(self, network: Network) -> list[Element]:
        """Give what every feature wants for `network`."""
        if network.firewall is None:
            return []
        return [e for feature in self._core.features for e in feature.network_elements(network)]

    def endpoint_elements(self, network: Network, endpoint: Endpoint) -> list[Element]:
        """Give what every feature wants for `endpoint`."""
        if network.firewall is None:
            return []
        return [e for feature in self._core.features for e in feature.endpoint_elements(network, endpoint)]

    def link_elements(self, network: Network, endpoint: Endpoint) -> list[Element]:
        """Give what every feature wants for the link of `endpoint`, where it has one to itself."""
        if network.firewall is None or network.firewall.link:
            return []
        return [e for feature in self._core.features for e in feature.link_elements(network, endpoint)]

    def joined_elements(self, network: Network, endpoint: Endpoint) -> list[Element]:
        """Give all that is there for `endpoint` while it is joined."""
        return self.link_elements(network, endpoint) + self.endpoint_elements(network, endpoint)

    def part_elements(self, part: Part) -> list[Element]:
        """Give what the kind of `part` wants for it."""
        how = self._core.part_kind(part.kind)
        return list(_elements(how, part.detail)) if isinstance(how, Filtered) else []

    def before_forwarding(self, network: Network, undo: ExitStack) -> None:
        """Close the host's firewall where the driver is about to turn forwarding on for `network`."""
        firewall, kernel = network.firewall, self._core.kernel
        if firewall is None or (firewall.internal and firewall.link):
            return  # nothing is forwarded between a bridge's ports
        for version in network.versions:
            if kernel.sysctl(_FORWARDING[version]) == "0" and self._core.host_firewall.close(kernel, version):
                undo.callback(self._reopen, version)

    def _reopen(self, version: int) -> None:
        if self._core.kernel.sysctl(_FORWARDING[version]) == "0":  # else it stays on, and so does this
            self._core.host_firewall.open(self._core.kernel, version)

    def add_network(self, network: Network) -> None:
        """Make sure of the table, add the network's elements, and have its traffic accepted by the host's firewall."""
        if network.firewall is None:
            return
        with self._lock():
            self._ensure_table()
            self._core.kernel.nft_add_elements(self.network_elements(network))
            self._accept(self._live())

    def remove_network(self, network: Network) -> None:
        """Take the network's elements away; with the last network go the table and the accepts.

        `network` is still in the store, as ``deleting`` or ``creating``.
        """
        if network.firewall is None:
            return
        with self._lock():
            self._core.kernel.nft_delete_elements(self.network_elements(network))
            others = [n for n in self._core.store.networks() if n.id != network.id and n.firewall is not None]
            self._core.host_firewall.release(self._core.kernel, network)
            if others or self._core.store.has_filtered_parts():
                self._accept(others)
            else:
                self._remove_all()

    def add_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        """Add the endpoint's elements; where the table or a set is gone, everything is restored first."""
        self._add(self.endpoint_elements(network, endpoint))

    def add_link(self, network: Network, endpoint: Endpoint) -> None:
        """Add the elements of the endpoint's own link, before it is there: so nothing passes by it unseen."""
        self._add(self.link_elements(network, endpoint))

    def _add(self, elements: list[Element]) -> None:
        if not elements:
            return
        try:
            self._core.kernel.nft_add_elements(elements)
        except NotFound:
            self.restore()
            self._core.kernel.nft_add_elements(elements)

    def remove_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        """Take the endpoint's elements away."""
        elements = self.endpoint_elements(network, endpoint)
        if elements:
            self._core.kernel.nft_delete_elements(elements)

    def remove_link(self, network: Network, endpoint: Endpoint) -> None:
        """Take the elements of the endpoint's own link away, when it is gone."""
        elements = self.link_elements(network, endpoint)
        if elements:
            self._core.kernel.nft_delete_elements(elements)

    def add_part(self, part: Part) -> bool:
        """Add the elements of a part; False where it has none."""
        elements = self.part_elements(part)
        self._add(elements)
        return bool(elements)

    def remove_part(self, part: Part) -> None:
        """Take a part's elements away; those of a link that other attachments are on stay.

        The table stays with the last of them, as the next is likely to come: `restore` removes it.
        """
        elements = self.part_elements(part)
        if part.link and elements and self._core.store.link_is_shared(part.link, part.attachment):
            elements = [element for element in elements if part.link not in element.key]
        if elements:
            self._core.kernel.nft_delete_elements(elements)

    def admit_link(self, link: str) -> None:
        """Have the host's other firewalls let pass what goes by `link`; its part is written down.

        It stays so when the last has left, as the next is likely to come: `restore` takes it back.
        """
        if link not in self._admitted:
            with self._lock():
                self._accept(self._live())

    def missing_of(self, part: Part) -> set[Element]:
        """Give the elements of a part that are not there."""
        elements = self.part_elements(part)
        return self._core.kernel.nft_missing(elements) if elements else set()

    def restore(self) -> list[str]:
        """Put back what is missing and take away what nobody owns; says what was found, a sentence each."""
        core = self._core
        with self._lock():
            live = self._live()
            parts = core.store.has_filtered_parts()
            if not live and not parts:
                return self._remove_all()
            if not parts and not self.table.exists() and not any(self._settled(network) for network in live):
                return []  # the only network is being made, and brings the table, or taken back
            fault = self._ensure_table()
            done = [fault] if fault else []
            back = self._put_back()
            if back:
                done.append(f"{back} nftables elements are missing")
            gone = self._take_away()
            if gone:
                done.append(f"{gone} nftables elements belong to nobody")
            self._accept(live)
            return done

    def _settled(self, network: Network) -> bool:
        with self._core.locks.try_hold(network.id, shared=True) as settled:
            return settled

    def _put_back(self) -> int:
        """Add what is missing of networks and endpoints that no operation holds; gives how many elements."""
        core = self._core
        present = core.kernel.nft_elements()
        wanting = [n.id for n in core.store.networks() if not present.issuperset(self._wanted(n))]
        wanting += [e.id for e in self._with_elements() if not present.issuperset(self._wanted(e))]
        parts = (p for p in core.store.parts(filtered=True) if not present.issuperset(self._wanted_by(p)))
        wanting += dict.fromkeys(part.attachment for part in parts)
        count = 0
        for first in range(0, len(wanting), _AT_ONCE):
            with ExitStack() as held:
                missing: set[Element] = set()
                for identifier in wanting[first : first + _AT_ONCE]:
                    if held.enter_context(core.locks.try_hold(identifier, shared=True)):
                        missing.update(self._wanted_of(identifier))
                missing -= present
                if missing:
                    core.kernel.nft_add_elements(list(missing))
                count += len(missing)
        return count

    def _take_away(self) -> int:
        """Delete the elements that nobody owns, while no row can be written; gives how many."""
        core = self._core
        if not core.kernel.nft_elements() - self._owned():
            return 0
        with core.store.transaction():  # else a port could get its next owner meanwhile, and lose its element
            extra = core.kernel.nft_elements() - self._owned()
            core.kernel.nft_delete_elements(list(extra))
        return len(extra)

    def _wanted(self, owner: Network | Endpoint | None) -> list[Element]:
        """Give the elements that must be there for `owner` as it is written down now."""
        if isinstance(owner, Network):
            return self.network_elements(owner) if owner.status != "deleting" else []
        network = self._core.store.network(owner.network_id) if owner is not None else None
        if owner is None or network is None or owner.status != "joined" or network.status == "deleting":
            return []
        return self.joined_elements(network, owner)

    def _wanted_by(self, part: Part) -> list[Element]:
        return self.part_elements(part) if part.status == "made" else []

    def _wanted_of(self, identifier: str) -> list[Element]:
        """Give the elements that must be there for the network, endpoint or attachment of that id."""
        store = self._core.store
        wanted = self._wanted(store.network(identifier) or store.endpoint(identifier))
        return wanted + [e for part in store.parts(attachment=identifier) for e in self._wanted_by(part)]

    def _with_elements(self) -> list[Endpoint]:
        """Give the endpoints that may have elements: those that publish ports, and those with a link to themselves."""
        store = self._core.store
        apart = {n.id for n in store.networks() if n.firewall is not None and not n.firewall.link}
        return [e for e in store.endpoints() if e.ports or e.network_id in apart]

    def _owned(self) -> set[Element]:
        """Give the elements that may be there: of all that is written down."""
        networks = {network.id: network for network in self._core.store.networks()}
        owned = {element for network in networks.values() for element in self.network_elements(network)}
        for endpoint in self._with_elements():
            network = networks.get(endpoint.network_id)
            if network is not None:
                owned.update(self.joined_elements(network, endpoint))
        owned.update(e for part in self._core.store.parts(filtered=True) for e in self.part_elements(part))
        return owned

    def _accept(self, networks: list[Network]) -> None:
        """Have the host's other firewalls let pass what is of `networks` and of attachments that want it, and no more."""
        core = self._core
        links = core.store.admitted_links()
        if networks or links:
            core.host_firewall.accept(core.kernel, networks, links)
        elif self._admitted:
            core.host_firewall.withdraw(core.kernel)
        self._admitted = links

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._core.locks.hold(_LOCK, timeout_s=self._core.lock_timeout_s, what="the firewall"):
            yield

    def _ensure_table(self) -> str:
        fault = self.table.ensure(self._elements)
        if fault:
            self._put_back()
        return fault

    def _elements(self) -> set[Element]:
        """Give what a table that is made anew begins with: what there was with an owner, and what settled owners want.

        An operation under way that adds its own just now may lose it; the watcher sees the change of the table, and
        puts it back when the operation is over.
        """
        store = self._core.store
        kept = self._core.kernel.nft_elements() & self._owned()
        owners = [n.id for n in store.networks()] + [e.id for e in self._with_elements()]
        owners += dict.fromkeys(part.attachment for part in store.parts(filtered=True))
        return kept.union(*map(self._wanted_now, owners))

    def _wanted_now(self, identifier: str) -> list[Element]:
        with self._core.locks.try_hold(identifier, shared=True) as settled:
            return self._wanted_of(identifier) if settled else []

    def _remove_all(self) -> list[str]:
        if not self.table.exists():
            return []
        self.table.delete()
        self._core.host_firewall.withdraw(self._core.kernel)
        return ["no network is left that needs the nftables table"]

    def _live(self) -> list[Network]:
        return [n for n in self._core.store.networks() if n.firewall is not None and n.status != "deleting"]
