"""Published ports of the host: who has which."""

from __future__ import annotations

import functools

from dovetail.errors import PortInUse
from dovetail.model.addresses import IPAddress, parse_address
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import short
from dovetail.model.part import Part
from dovetail.model.port import PortMapping
from dovetail.store.documents import Table, read

__all__ = ["PortTable"]


class PortTable(Table):
    """The table ``ports``; `host_ip` is empty where a mapping is on every address."""

    def claim_ports(self, endpoint_id: str, ports: tuple[PortMapping, ...]) -> None:
        """Write that `endpoint_id` publishes `ports`, in addition to what it has; all of them or none.

        Those with host port 0, which take none of the host's, are left out.
        An address of one family never clashes with one of the other; ``0.0.0.0`` and ``::`` are all of their
        family. Raises PortInUse naming port and holder.
        """
        if not ports:
            return
        with self._db.transaction():
            for mapping in ports:
                if mapping.host_port:
                    self._claim(endpoint_id, mapping)

    def _claim(self, endpoint_id: str, mapping: PortMapping) -> None:
        rows = self._db.rows(
            "SELECT host_ip, endpoint_id, container_port FROM ports WHERE protocol = ? AND host_port = ?",
            mapping.protocol,
            mapping.host_port,
        )
        for host_ip, holder, container_port in rows:
            same = holder == endpoint_id and container_port == mapping.container_port
            if not same and _overlap(_address(host_ip), mapping.host_ip):
                raise PortInUse(
                    f"port {mapping.host_port}/{mapping.protocol} of the host is published already,"
                    f" by {self._holder(holder)}",
                    hint="choose another host port, or 0 to have one chosen",
                )
        self._db.write(
            "INSERT OR REPLACE INTO ports (protocol, host_port, host_ip, endpoint_id, container_port)"
            " VALUES (?, ?, ?, ?, ?)",
            mapping.protocol,
            mapping.host_port,
            str(mapping.host_ip or ""),
            endpoint_id,
            mapping.container_port,
        )

    def _holder(self, endpoint_id: str) -> str:
        row = self._db.row("SELECT doc FROM endpoints WHERE id = ?", endpoint_id)
        part = self._db.row("SELECT doc FROM parts WHERE attachment = ? LIMIT 1", endpoint_id)
        name = ""
        if row is not None:
            endpoint = read(row[0], Endpoint)
            name = endpoint.name or endpoint.owner.container
        elif part is not None:
            name = read(part[0], Part).owner.container
        return f"endpoint {short(endpoint_id)} ({short(name)})" if name else f"endpoint {short(endpoint_id)}"

    def release_ports(self, endpoint_id: str) -> None:
        """Forget what `endpoint_id` publishes."""
        self._db.write("DELETE FROM ports WHERE endpoint_id = ?", endpoint_id)

    def published_ports(self) -> list[tuple[str, PortMapping]]:
        """List (endpoint id, mapping), by protocol and port."""
        rows = self._db.rows("SELECT endpoint_id, container_port, host_port, protocol, host_ip FROM ports")
        return [
            (
                endpoint_id,
                PortMapping(container_port=inner, host_port=outer, protocol=protocol, host_ip=_address(ip)),
            )
            for endpoint_id, inner, outer, protocol, ip in rows
        ]


@functools.lru_cache(maxsize=256)
def _address(text: str) -> IPAddress | None:
    return parse_address(text) if text else None


def _overlap(one: IPAddress | None, other: IPAddress | None) -> bool:
    if one is None or other is None:
        return True
    return one.version == other.version and (one == other or one.is_unspecified or other.is_unspecified)
