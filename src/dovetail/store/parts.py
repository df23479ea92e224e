"""Parts of attachments."""

from __future__ import annotations

from dovetail.model.part import Part
from dovetail.store.documents import Table, read, read_often, text, where

__all__ = ["PartTable"]


_PUT = (
    "INSERT INTO parts (attachment, kind, network, link, filtered, doc) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (attachment, kind) DO UPDATE SET network = excluded.network, link = excluded.link,"
    " filtered = excluded.filtered, doc = excluded.doc"
)
# SQLite writes the page of each index whose columns are set, also to what they were
_PUT_DOC = (
    "INSERT INTO parts (attachment, kind, network, link, filtered, doc) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (attachment, kind) DO UPDATE SET doc = excluded.doc"
    " WHERE network = excluded.network AND link = excluded.link AND filtered = excluded.filtered"
)


class PartTable(Table):
    """The table ``parts``; `filtered` says whether a part has elements in the firewall."""

    def put_part(self, part: Part, *, filtered: bool = False) -> None:
        """Insert or replace by attachment and kind."""
        values = part.attachment, part.kind, part.owner.network, part.link, int(filtered), text(part)
        if not self._db.write(_PUT_DOC, *values):
            self._db.write(_PUT, *values)

    def delete_part(self, attachment: str, kind: str) -> None:
        """Delete one; a missing one is no error."""
        self._db.write("DELETE FROM parts WHERE attachment = ? AND kind = ?", attachment, kind)

    def part(self, attachment: str, kind: str) -> Part | None:
        """Give the part of that kind."""
        row = self._db.row("SELECT doc FROM parts WHERE attachment = ? AND kind = ?", attachment, kind)
        return read_often(row[0], Part) if row else None

    def parts(
        self, *, attachment: str = "", kind: str = "", network: str = "", filtered: bool = False
    ) -> list[Part]:
        """Give all, oldest first, or those of an attachment, a kind, a network, or with elements in the firewall."""
        condition, values = where(attachment=attachment, kind=kind, network=network)
        condition += " AND filtered = 1" if filtered else ""
        rows = self._db.rows(f"SELECT doc FROM parts WHERE {condition} ORDER BY rowid", *values)  # noqa: S608
        return [read(doc, Part) for (doc,) in rows]

    def has_filtered_parts(self) -> bool:
        """Say whether any part has elements in the firewall."""
        return self._db.row("SELECT 1 FROM parts WHERE filtered = 1 LIMIT 1") is not None

    def link_is_shared(self, link: str, attachment: str) -> bool:
        """Say whether another attachment has a part on the host's interface `link`."""
        row = self._db.row("SELECT 1 FROM parts WHERE link = ? AND attachment <> ? LIMIT 1", link, attachment)
        return row is not None

    def admitted_links(self) -> set[str]:
        """Name the host's interfaces that parts of kind ``firewall`` hang on."""
        rows = self._db.rows("SELECT DISTINCT link FROM parts WHERE kind = 'firewall' AND link <> ''")
        return {link for (link,) in rows}
