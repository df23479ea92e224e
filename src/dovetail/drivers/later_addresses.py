"""What kinds of interfaces do alike when addresses come after the link, or change while it lives."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from dovetail.drivers import sandbox_end
from dovetail.errors import NotFound
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Owner
from dovetail.model.readdressing import Readdressing

__all__ = ["LaterAddresses"]


class _WithAttachment(Protocol):
    @property
    def attachment(self) -> Attachment: ...


D = TypeVar("D", bound=_WithAttachment)


class LaterAddresses(Generic[D]):
    """A base of kinds of parts whose detail has an ``attachment``."""

    def complete(self, kernel: Kernel, detail: D, *, owner: Owner, netns: Netns | None, undo: ExitStack) -> D:
        """Address and route the link; what it is given goes with it."""
        if netns is None:
            raise NotFound("namespace", detail.attachment.sandbox)
        with kernel.inside(netns) as inner:
            sandbox_end.configure(inner, detail.attachment, loopback=False)
        return detail

    def readdressed(self, detail: Any, change: Readdressing) -> Any:
        """Say what the part is when its interface has other addresses and routes."""
        attachment = change.attachment_of(detail.attachment)
        return msgspec.structs.replace(detail, attachment=attachment)
