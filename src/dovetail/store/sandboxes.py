"""Sandboxes."""

from __future__ import annotations

from dovetail.model.sandbox import Sandbox
from dovetail.store.documents import Table, read, read_often, text

__all__ = ["SandboxTable"]


class SandboxTable(Table):
    """The table ``sandboxes``."""

    def put_sandbox(self, sandbox: Sandbox) -> None:
        """Insert or replace by id; raises AlreadyExists where another one of face ``cli`` has the name."""
        self._put(
            "sandbox",
            sandbox.name,
            "INSERT INTO sandboxes (id, name, face, doc) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, face = excluded.face, doc = excluded.doc",
            sandbox.id,
            sandbox.name,
            sandbox.face,
            text(sandbox),
        )

    def enter_sandbox(self, sandbox: Sandbox) -> None:
        """Insert a sandbox; of one that is known only the namespace's inode and the boot are written anew."""
        self._put(
            "sandbox",
            sandbox.name,
            "INSERT INTO sandboxes (id, name, face, doc) VALUES (?, ?, ?, ?) ON CONFLICT (id)"
            " DO UPDATE SET doc = json_set(doc, '$.inode', ?, '$.boot_id', ?)",
            sandbox.id,
            sandbox.name,
            sandbox.face,
            text(sandbox),
            sandbox.inode,
            sandbox.boot_id,
        )

    def delete_sandbox(self, sandbox_id: str) -> None:
        """Delete a sandbox's row."""
        self._db.write("DELETE FROM sandboxes WHERE id = ?", sandbox_id)

    def sandboxes(self) -> list[Sandbox]:
        """Give all sandboxes, oldest first."""
        return [read(doc, Sandbox) for (doc,) in self._db.rows("SELECT doc FROM sandboxes ORDER BY rowid")]

    def sandbox(self, sandbox_id: str) -> Sandbox | None:
        """Give the sandbox of that id."""
        row = self._db.row("SELECT doc FROM sandboxes WHERE id = ?", sandbox_id)
        return read_often(row[0], Sandbox) if row else None

    def find_sandbox(self, ref: str) -> Sandbox:
        """Find by id, name or unique prefix of an id; raises NotFound or InvalidArgument.

        One of our own comes before a container that Docker or a CNI runtime calls by the same name.
        """
        own = self._db.row("SELECT doc FROM sandboxes WHERE name = ? AND face = 'cli'", ref)
        if own:
            return read_often(own[0], Sandbox)
        return read_often(self._find("sandboxes", "sandbox", ref), Sandbox)
