"""The traffic control side of `RecordingKernel`: token buckets and redirects."""

from __future__ import annotations

from dovetail.errors import AlreadyExists
from dovetail.kernel import tc
from dovetail.kernel.protocol_tc import Redirect, Tbf
from dovetail.kernel.recorded import Recorder

__all__ = ["RecordingTc"]


class RecordingTc(Recorder):
    """Those verbs, recorded."""

    def set_tbf(self, link: str, tbf: Tbf) -> None:
        """Record ``tc qdisc replace … tbf``."""
        self._present(link)
        self._record("set_tbf", link, tbf)
        self._space.tbfs[link] = tc.kept(tbf)

    def delete_tbf(self, link: str) -> None:
        """Record ``tc qdisc del … root`` where it is there."""
        if link in self.tbfs(link):
            self._record("delete_tbf", link)
            self._space.tbfs[link] = None

    def tbfs(self, link: str = "") -> dict[str, Tbf]:
        """List what was recorded, and the base's."""
        found: dict[str, Tbf | None] = {**self._base.tbfs(link)} if self._base is not None else {}
        found.update(self._space.tbfs)
        return {name: tbf for name, tbf in found.items() if tbf is not None and link in ("", name)}

    def add_redirect(self, link: str, to: str) -> None:
        """Record an ingress qdisc with a filter."""
        self._present(link)
        self._present(to)
        if self.redirects(link):
            raise AlreadyExists("ingress qdisc", link)
        self._record("add_redirect", link, to)
        self._space.redirects[link] = to

    def delete_redirect(self, link: str) -> None:
        """Record ``tc qdisc del … ingress`` where it is there."""
        if self.redirects(link):
            self._record("delete_redirect", link)
            self._space.redirects[link] = None

    def redirects(self, link: str = "") -> list[Redirect]:
        """List what was recorded, and the base's; what leads to a link that has gone leads nowhere."""
        base = self._base.redirects(link) if self._base is not None else []
        found: dict[str, str | None] = dict(base)
        found.update(self._space.redirects)
        return [
            Redirect(name, to if self.link(to) is not None else "")
            for name, to in found.items()
            if to is not None and link in ("", name)
        ]
