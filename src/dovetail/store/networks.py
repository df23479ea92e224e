"""Networks, and the bindings by which other engines know them."""

from __future__ import annotations

from dovetail.model.network import Face, Network
from dovetail.store.documents import Table, read, read_often, text, where
from dovetail.store.protocol import Binding

__all__ = ["BindingTable", "NetworkTable"]

_COLUMNS = "face, external_id, network_id, made, name, labels, created"
_Labels = tuple[tuple[str, str], ...]


class NetworkTable(Table):
    """The table ``networks``."""

    def put_network(self, network: Network) -> None:
        """Insert or replace by id; raises AlreadyExists where another network has the name."""
        self._put(
            "network",
            network.name,
            "INSERT INTO networks (id, name, doc) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, doc = excluded.doc",
            network.id,
            network.name,
            text(network),
        )

    def delete_network(self, network_id: str) -> None:
        """Delete a network's row."""
        self._db.write("DELETE FROM networks WHERE id = ?", network_id)

    def networks(self) -> list[Network]:
        """Give all networks, oldest first."""
        return [
            read_often(doc, Network) for (doc,) in self._db.rows("SELECT doc FROM networks ORDER BY rowid")
        ]

    def network(self, network_id: str) -> Network | None:
        """Give the network of that id."""
        row = self._db.row("SELECT doc FROM networks WHERE id = ?", network_id)
        return read_often(row[0], Network) if row else None

    def find_network(self, ref: str) -> Network:
        """Find by id, name, a face's name for it or unique prefix of an id; raises NotFound or InvalidArgument."""
        also = "id IN (SELECT network_id FROM bindings WHERE name = ? AND name <> '')"
        return read_often(self._find("networks", "network", ref, also=also), Network)


class BindingTable(Table):
    """The table ``bindings``."""

    def put_binding(self, binding: Binding) -> None:
        """Insert or replace by face and external id."""
        self._db.write(
            f"INSERT OR REPLACE INTO bindings ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            *binding[:5],
            text(binding.labels),
            binding.created,
        )

    def binding(self, face: Face, external_id: str) -> Binding | None:
        """Give the binding of that face and external id."""
        row = self._db.row(
            f"SELECT {_COLUMNS} FROM bindings WHERE face = ? AND external_id = ?",  # noqa: S608 - ours
            face,
            external_id,
        )
        return _binding(*row) if row else None

    def bindings(self, *, network_id: str = "") -> list[Binding]:
        """Give all bindings, or those of one network."""
        condition, values = where(network_id=network_id)
        query = f"SELECT {_COLUMNS} FROM bindings WHERE {condition}"  # noqa: S608
        return [_binding(*row) for row in self._db.rows(query, *values)]

    def delete_binding(self, face: Face, external_id: str) -> None:
        """Delete a binding."""
        self._db.write("DELETE FROM bindings WHERE face = ? AND external_id = ?", face, external_id)


def _binding(
    face: Face, external_id: str, network_id: str, made: int, name: str, labels: str, created: float
) -> Binding:
    pairs = read(labels, _Labels)
    return Binding(face, external_id, network_id, made=bool(made), name=name, labels=pairs, created=created)
