"""What chains of CNI plugins attached, shown as endpoints: an attachment is what ties a sandbox to a network too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dovetail.api.views import EndpointView, endpoint_view, endpoint_views
from dovetail.engine.engine import Engine
from dovetail.errors import NotFound
from dovetail.model.attachment import Attachment
from dovetail.model.codec import decode
from dovetail.model.part import Part

__all__ = ["all_endpoint_views", "find_endpoint_view"]


def all_endpoint_views(engine: Engine) -> list[EndpointView]:
    """Render all endpoints, and all attachments, by network, container and interface."""
    views = [*endpoint_views(engine, engine.endpoints.all()), *_attachments(engine)]
    return sorted(views, key=lambda view: (view.network, view.container, view.ifname, view.id))


def find_endpoint_view(engine: Engine, ref: str) -> EndpointView:
    """Render the endpoint that `ref` selects, or else the attachment by its id, a beginning of it, or its container."""
    try:
        return endpoint_view(engine, engine.endpoints.get(ref))
    except NotFound:
        views = [v for v in _attachments(engine) if ref == v.container or (ref and v.id.startswith(ref))]
        exact = [view for view in views if view.id == ref] or views
        if len(exact) != 1:
            raise
        return exact[0]


def _attachments(engine: Engine) -> list[EndpointView]:
    by_attachment: dict[str, list[Part]] = defaultdict(list)
    for part in engine.parts.all():
        by_attachment[part.attachment].append(part)
    return [_view(engine, parts) for parts in by_attachment.values()]


def _view(engine: Engine, parts: Sequence[Part]) -> EndpointView:
    """Put together what the parts say; the interface's is the first that has an attachment, if one of them is ours."""
    first = parts[0]
    details: list[Any] = [decode(p.detail, engine.core.part_kind(p.kind).detail) for p in parts]
    attachment: Attachment | None = next(
        (found for detail in details if (found := getattr(detail, "attachment", None)) is not None), None
    )
    ports = tuple(port for detail in details for port in getattr(detail, "ports", ()))
    addresses = attachment.addresses if attachment is not None else ()
    addresses = addresses or next((found for d in details if (found := getattr(d, "addresses", ()))), ())
    return EndpointView(
        id=first.attachment,
        network=first.owner.network,
        network_id="",
        face=first.owner.face,
        container=first.owner.container,
        container_id=first.owner.container,
        ifname=first.owner.ifname,
        status="joined" if all(part.status == "made" for part in parts) else "creating",
        mac=attachment.mac if attachment is not None else None,
        mtu=attachment.mtu if attachment is not None else 0,
        addresses=addresses,
        routes=attachment.routes if attachment is not None else (),
        ports=ports,
        link=_host_end(attachment) or next((part.link for part in parts if part.link), ""),
        host_interfaces=attachment.host_interfaces if attachment is not None else (),
        netns=first.netns,
        plugins=tuple(part.kind for part in parts),
        lease_ends=next((ends for d in details if (ends := getattr(d, "lease_ends", None))), None),
        created=first.created,
    )


def _host_end(attachment: Attachment | None) -> str:
    return attachment.host_interfaces[-1].name if attachment and attachment.host_interfaces else ""
