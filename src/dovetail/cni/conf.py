"""Configurations as types: each plugin says its keys once, for its parser and for the documentation.

A key's type says what is accepted, its default what a missing or null one means, and its description what it does.
Keys match in any case, and unknown ones are passed over, as the reference plugins have it (cni.md §1.3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from dovetail.cni.folded import Folded

__all__ = ["Conf", "Key", "keys_of", "read_conf"]

C = TypeVar("C", bound="Conf")


class Conf(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The keys of a plugin's own: ``is_gateway: Annotated[bool, "the bridge gets …"] = False``."""


class Key(NamedTuple):
    """One key: its name as it is written, what is accepted, what a missing one means, and what it does."""

    name: str
    accepts: str
    default: str
    meaning: str


def read_conf(config: Folded, kind: type[C]) -> C:
    """Read the keys of `kind`. Raises code 7 naming the place of what is not of its type."""
    there = config.conf
    if there is not None and there[0] is kind:
        found: C = there[1]
        return found
    values = {}
    for attribute, key, read in _readers(kind):
        if key in config:
            values[attribute] = read(config, key)
    found = kind(**values)
    config.conf = kind, found
    return found


def keys_of(kind: type[Conf]) -> list[Key]:
    """Describe the keys of `kind`, in order."""
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for field in msgspec.structs.fields(kind):
        accepted, meaning = get_args(hints[field.name])[:2]
        found.append(Key(field.encode_name, _words(accepted), _default(field.default), meaning))
    return found


_Read = Callable[[Folded, str], Any]


@functools.lru_cache(maxsize=64)
def _readers(kind: type[Conf]) -> list[tuple[str, str, _Read]]:
    hints = get_type_hints(kind)
    return [
        (field.name, field.encode_name, _reader(hints[field.name])) for field in msgspec.structs.fields(kind)
    ]


def _reader(accepted: Any) -> _Read:
    objects = _conf_of(accepted)
    if objects is not None:
        return functools.partial(_objects, kind=objects)
    if get_origin(accepted) is Literal:
        return functools.partial(_choice, known=get_args(accepted))
    if accepted in _PLAIN:
        return _PLAIN[accepted]
    if accepted == int | Literal["auto"]:
        return _number_or_auto
    if type(None) in get_args(accepted):
        return _reader(next(one for one in get_args(accepted) if one is not type(None)))
    raise TypeError(accepted)


def _conf_of(accepted: Any) -> type[Conf] | None:
    """Give the type of the objects of a list of objects."""
    one = get_args(accepted)[0] if get_origin(accepted) is tuple else None
    return one if isinstance(one, type) and issubclass(one, Conf) else None


def _objects(config: Folded, key: str, *, kind: type[Conf]) -> tuple[Conf, ...]:
    return tuple(read_conf(one, kind) for one in config.objects(key))


_PLAIN: dict[Any, _Read] = {
    str: Folded.text,
    bool: Folded.boolean,
    int: Folded.integer,
    tuple[str, ...]: Folded.texts,
    dict[str, str]: Folded.strings,
    dict[str, Any]: Folded.object,
    tuple[Any, ...]: Folded.objects,
    tuple[tuple[Any, ...], ...]: Folded.object_lists,
    Folded: Folded.object,
}


def _number_or_auto(config: Folded, key: str) -> int | str:
    return "auto" if config.is_word(key, "auto") else config.integer(key)


def _choice(config: Folded, key: str, *, known: tuple[str, ...]) -> str:
    return config.choice(key, known)


def _words(accepted: Any) -> str:
    if get_origin(accepted) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(accepted) if one)
    if type(None) in get_args(accepted):
        return _words(next(one for one in get_args(accepted) if one is not type(None)))
    objects = _conf_of(accepted)
    if objects is not None:
        return f"a list of objects: {', '.join(key.name for key in keys_of(objects))}"
    return _WORDS[accepted]


_WORDS: dict[Any, str] = {
    int | Literal["auto"]: "a whole number, or `auto`",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    tuple[str, ...]: "a list of texts",
    dict[str, str]: "an object of texts",
    dict[str, Any]: "an object",
    tuple[Any, ...]: "a list of objects",
    tuple[tuple[Any, ...], ...]: "a list of lists of objects",
    Folded: "an object",
}


def _default(value: Any) -> str:
    if value in ("", None, (), {}, []) or value is msgspec.NODEFAULT or isinstance(value, Folded):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
