"""What the engine asks of a store. SQLite implements it for one host; etcd will for many."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from dovetail.model.endpoint import Endpoint
from dovetail.model.ledger import Ledger
from dovetail.model.network import Face, Network
from dovetail.model.part import Part
from dovetail.model.port import PortMapping
from dovetail.model.sandbox import Sandbox

__all__ = ["Binding", "Store"]


class Binding(NamedTuple):
    """A name by which a face knows one of our networks: Docker's network id.

    made: the network was made for this binding, so it goes with it once nobody else uses it. name, labels:
    what the face calls the network and says of it, empty until it is learned. created: seconds since the epoch.
    """

    face: Face
    external_id: str
    network_id: str
    made: bool
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    created: float = 0.0


class Store(Ledger, Protocol):
    """Networks, endpoints, sandboxes, pools, addresses, bindings and published ports.

    Every method is safe under threads and processes. Look-ups that take a `ref` accept an exact id,
    an exact name, or a unique prefix of an id (in this order); they raise NotFound, or
    InvalidArgument naming the candidates of an ambiguous prefix. Deleting what is gone succeeds.
    Busy is raised when the database stays locked past its deadline, StoreError on a full disk or a
    damaged file.
    """

    @property
    def id(self) -> str:
        """Eight hexadecimal digits drawn when the store was made; marks this engine's links."""
        ...

    def close(self) -> None: ...

    # networks: `put` inserts or replaces by id; a second network of the same name raises AlreadyExists
    def put_network(self, network: Network) -> None: ...
    def delete_network(self, network_id: str) -> None: ...
    def networks(self) -> list[Network]: ...
    def network(self, network_id: str) -> Network | None: ...
    def find_network(self, ref: str) -> Network:
        """Find as the others; between name and prefix comes the name by which a face knows it (Docker's)."""
        ...

    def put_endpoint(self, endpoint: Endpoint) -> None: ...
    def note_endpoint(self, endpoint: Endpoint) -> None:
        """Replace one that is there; its network, sandbox and name are as before."""
        ...

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Delete an endpoint and its published ports; its addresses are IPAM's to release."""
        ...

    def endpoints(self, *, network_id: str = "", sandbox_id: str = "") -> list[Endpoint]: ...
    def endpoint(self, endpoint_id: str) -> Endpoint | None: ...
    def find_endpoint(self, ref: str) -> Endpoint: ...

    def put_sandbox(self, sandbox: Sandbox) -> None:
        """Insert or replace by id; another sandbox of face ``cli`` with the same name raises AlreadyExists."""
        ...

    def enter_sandbox(self, sandbox: Sandbox) -> None:
        """Insert it; of one that is known, write the namespace's inode and the boot anew and keep the rest."""
        ...

    def delete_sandbox(self, sandbox_id: str) -> None: ...
    def sandboxes(self) -> list[Sandbox]: ...
    def sandbox(self, sandbox_id: str) -> Sandbox | None: ...
    def find_sandbox(self, ref: str) -> Sandbox: ...

    def put_binding(self, binding: Binding) -> None: ...
    def binding(self, face: Face, external_id: str) -> Binding | None: ...
    def bindings(self, *, network_id: str = "") -> list[Binding]: ...
    def delete_binding(self, face: Face, external_id: str) -> None: ...

    def put_part(self, part: Part, *, filtered: bool = False) -> None:
        """Insert or replace by attachment and kind; `filtered` says whether it has elements in the firewall."""
        ...

    def delete_part(self, attachment: str, kind: str) -> None: ...
    def part(self, attachment: str, kind: str) -> Part | None: ...
    def parts(
        self, *, attachment: str = "", kind: str = "", network: str = "", filtered: bool = False
    ) -> list[Part]: ...
    def has_filtered_parts(self) -> bool: ...
    def link_is_shared(self, link: str, attachment: str) -> bool:
        """Say whether another attachment has a part on the host's interface `link`."""
        ...

    def admitted_links(self) -> set[str]:
        """Name the host's interfaces that parts of kind ``firewall`` hang on."""
        ...

    def claim_ports(self, endpoint_id: str, ports: tuple[PortMapping, ...]) -> None:
        """Write that `endpoint_id` publishes `ports` (host ports chosen), in addition to what it has.

        Raises PortInUse naming port and holder when another endpoint publishes the same protocol
        and port on the same host address, or either of them on every address.
        """
        ...

    def release_ports(self, endpoint_id: str) -> None: ...
    def published_ports(self) -> list[tuple[str, PortMapping]]:
        """List (endpoint id, mapping)."""
        ...

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """Hold the write lock (BEGIN IMMEDIATE); nests; durable survives power loss (synchronous FULL)."""
        ...
