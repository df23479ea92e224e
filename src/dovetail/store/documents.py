"""What the tables of documents share: writing under a unique name, and finding by id, name or prefix."""

from __future__ import annotations

import functools
from typing import Any, TypeVar, cast

from dovetail.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from dovetail.model.codec import decode, encode
from dovetail.model.names import short
from dovetail.store.database import Database

__all__ = ["Table", "read", "read_often", "text", "where"]

T = TypeVar("T")

_AFTER_ALL = "\U0010ffff"  # sorts after every character an id may have
_SHOWN = 4


def read(doc: str, kind: type[T]) -> T:
    """Read a document."""
    return decode(doc, kind)


def read_often(doc: str, kind: type[T]) -> T:
    """Read a document that one operation reads again and again: the same text gives the same (frozen) value."""
    value: T = _remembered(doc, cast("Any", kind))
    return value


@functools.lru_cache(maxsize=256)
def _remembered(doc: str, kind: Any) -> Any:
    return decode(doc, kind)


class Table:
    """Tables over one database; a store inherits from one class a noun."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def _put(self, kind: str, name: str, sql: str, *values: object) -> None:
        """Run an upsert; what a unique column refuses raises AlreadyExists for `kind` `name`."""
        try:
            self._db.write(sql, *values)
        except Conflict as exc:
            raise AlreadyExists(kind, name, hint="choose another name, or use what is there") from exc

    def _find(self, table: str, kind: str, ref: str, *, also: str = "") -> str:
        """Give the document that `ref` selects: by id, else by name, else as the only id that starts with it.

        also: a condition with one parameter, for what else `ref` may be; it counts for more than a prefix.
        """
        query = f"SELECT doc, id, name FROM {table} WHERE "  # noqa: S608 - a table of ours
        found = self._db.rows(f"{query} id = ? OR (name = ? AND name <> '') LIMIT 99", ref, ref)
        if found:
            return self._only(kind, ref, [row for row in found if row[1] == ref] or found)
        found = self._db.rows(f"{query} {also} LIMIT 99", ref) if also else []
        if found:
            return self._only(kind, ref, found)
        begun = self._db.rows(f"{query} id > ? AND id < ? LIMIT 99", ref, ref + _AFTER_ALL) if ref else []
        return self._only(kind, ref, begun)

    @staticmethod
    def _only(kind: str, ref: str, found: list[Any]) -> str:
        if not found:
            raise NotFound(kind, ref, hint=f"to see those there are: dovetail {kind} ls")
        if len(found) > 1:
            shown = [f"{short(i)} ({name})" if name else short(i) for _, i, name in found[:_SHOWN]]
            more = ", …" if len(found) > _SHOWN else ""
            raise InvalidArgument(
                f"{ref!r} may be any of the {kind}s {', '.join(shown)}{more}", hint="give more of the id"
            )
        return str(found[0][0])


def where(**given: str) -> tuple[str, list[str]]:
    """Write the condition that each column has the value given for it, where one is; and the values."""
    columns = [column for column, value in given.items() if value]
    return " AND ".join(f"{column} = ?" for column in columns) or "TRUE", [
        given[column] for column in columns
    ]


def text(value: object) -> str:
    """Write a model value as a document."""
    return encode(value).decode()
