"""JSON for the model's types: addresses as text, MACs as text, everything else as it is."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from dovetail.errors import InvalidArgument
from dovetail.model.addresses import (
    IPAddress,
    IPInterface,
    IPNetwork,
    parse_address,
    parse_interface,
    parse_subnet,
)
from dovetail.model.mac import Mac

__all__ = ["decode", "encode"]

T = TypeVar("T")

_PARSERS: dict[Any, Callable[[str], object]] = {
    Mac: Mac,
    IPAddress: parse_address,
    IPInterface: parse_interface,
    IPNetwork: parse_subnet,
}

_IP_TYPES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)


def encode(value: object) -> bytes:
    """Write a model value as JSON."""
    return msgspec.json.encode(value, enc_hook=_enc_hook)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Read JSON as `kind`; what does not fit raises InvalidArgument with its ``$.path``."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_dec_hook)
    except msgspec.ValidationError as exc:
        message, _, where = str(exc).partition(" - at ")
        raise InvalidArgument(message, where=where.strip("`")) from exc
    except msgspec.DecodeError as exc:
        raise InvalidArgument(f"not valid JSON: {exc}") from exc


def _enc_hook(value: object) -> object:
    if isinstance(value, (Mac, *_IP_TYPES)):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _dec_hook(kind: type, value: object) -> object:
    if not isinstance(value, str):
        message = f"Expected a string, got {type(value).__name__}"
        raise ValueError(message)  # noqa: TRY004 - msgspec adds the path to a ValueError
    try:
        return _PARSERS[kind](value)
    except InvalidArgument as exc:
        raise ValueError(exc.message) from exc
