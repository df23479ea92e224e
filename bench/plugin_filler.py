"""Many attachments at little cost, for the question what the next one takes."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from dovetail.engine.engine import Engine, endpoint_id
from dovetail.model.codec import decode
from dovetail.model.part import Part
from dovetail.model.port import PortMapping
from dovetail.model.published import PublishedPorts

__all__ = ["PREPARED", "fill"]

PREPARED = (
    "what is there of each attachment: the four rows of its parts and the row of its port in the store, the file of its"
    " address in host-local's directory, and its elements in nftables; what is not: namespace and links (a bridge of"
    " Linux takes 1,024 ports)"
)
_FIRST_PORT = 30_000


def fill(engine: Engine, parts: list[Part], books: Path, count: int) -> None:
    """Write down `count` more attachments like the one that has `parts`, which is the network's first.

    books: the directory in which host-local keeps the network's addresses.
    """
    first = _address(parts)
    ports = {port.host_port for part in parts for port in _published(part)}
    link = _link(parts)
    store = engine.core.store
    copies: list[Part] = []
    with store.transaction():
        for number in range(1, count + 1):
            owner = msgspec.structs.replace(parts[0].owner, container=f"f{number:063x}")
            for part in parts:
                detail = part.detail.replace(str(first), str(first + number)).replace(link, f"none{number}")
                for port in ports:
                    detail = detail.replace(str(port), str(_FIRST_PORT + number))
                copy = msgspec.structs.replace(
                    part, attachment=endpoint_id(owner), owner=owner, detail=detail
                )
                store.claim_ports(copy.attachment, _published(copy))
                store.put_part(copy, filtered=bool(engine.parts._firewall.part_elements(copy)))  # noqa: SLF001
                copies.append(copy)
            (books / str(first + number)).write_text(f"{owner.container}\r\neth0", encoding="ascii")
    (books / "last_reserved_ip.0").write_text(str(first + count), encoding="ascii")
    elements = {e for copy in copies for e in engine.parts._firewall.part_elements(copy)}  # noqa: SLF001
    engine.kernel.nft_add_elements(list(elements))


def _address(parts: list[Part]) -> IPv4Address:
    (text,) = [json.loads(part.detail)["given"][0]["address"] for part in parts if part.kind == "host-local"]
    return IPv4Address(text.partition("/")[0])


def _link(parts: list[Part]) -> str:
    (text,) = [json.loads(part.detail)["port"] for part in parts if part.kind == "bridge"]
    return str(text)


def _published(part: Part) -> tuple[PortMapping, ...]:
    return decode(part.detail, PublishedPorts).ports if part.kind == "portmap" else ()
