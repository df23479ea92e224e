"""Parts: what each plugin of a chain has done for one attachment."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from dovetail.model.endpoint import Owner

__all__ = ["Part", "PartEvent", "PartStatus"]

PartStatus: TypeAlias = Literal["making", "made"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one plugin has done for one attachment, as it is kept.

    A CNI configuration is a chain of plugins that know nothing of each other, and any of them may be somebody
    else's: so each of ours keeps its own part, by which DEL, CHECK, GC and a repair after a crash find what it made.

    attachment: the id of the attachment, derived from `owner` (`engine.ids.endpoint_id`), the same for all parts.
    kind: which plugin, as ``portmap``. link: the host's interface that it hangs on, which other attachments
    may share; empty for none. netns, inode: the sandbox's namespace, by its path and number. host_ns, boot_id: the
    host's namespace and the boot in which it was made. detail: what was made, a JSON document that the kind
    reads (`engine.part_kind.PartKind.detail`).
    """

    attachment: str
    kind: str
    owner: Owner
    link: str = ""
    netns: str = ""
    inode: int = 0
    host_ns: int = 0
    boot_id: str = ""
    created: float = 0.0
    status: PartStatus = "making"
    detail: str = "{}"


class PartEvent(NamedTuple):
    """What has become of a part by itself.

    inode: of the namespace that it is in. detail: what it is now. gone: its interface, or its namespace, is not
    there any more.
    """

    owner: Owner
    inode: int
    detail: Any
    gone: bool
