"""Docker's plugin messages: requests as types, with Docker's spelling of keys.

Source: cnm.md §1.4, §2.1 (daemon/libnetwork/drivers/remote/api/api.go, ipams/remote/api/api.go). Go's
decoder matches keys in any case and takes null for empty, and so does `read`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from dovetail.errors import InvalidArgument

__all__ = [
    "AddressRelease",
    "AddressWanted",
    "EndpointCreate",
    "EndpointRef",
    "Interface",
    "IpamData",
    "Join",
    "NetworkCreate",
    "NetworkRef",
    "PoolRelease",
    "PoolWanted",
    "read",
]

T = TypeVar("T", bound=msgspec.Struct)


class IpamData(msgspec.Struct, kw_only=True):
    """A subnet as the IPAM driver gave it."""

    AddressSpace: str = ""
    Pool: str = ""
    Gateway: str = ""
    AuxAddresses: dict[str, str] = {}


class NetworkCreate(msgspec.Struct, kw_only=True):
    """CreateNetwork, AllocateNetwork, GwAllocCheck."""

    NetworkID: str = ""
    Options: dict[str, Any] = {}
    IPv4Data: list[IpamData] = []
    IPv6Data: list[IpamData] = []


class NetworkRef(msgspec.Struct, kw_only=True):
    """DeleteNetwork, FreeNetwork."""

    NetworkID: str = ""


class Interface(msgspec.Struct, kw_only=True):
    """What is fixed of an endpoint's interface; empty fields the driver may fill."""

    Address: str = ""
    AddressIPv6: str = ""
    MacAddress: str = ""


class EndpointCreate(msgspec.Struct, kw_only=True):
    """CreateEndpoint."""

    NetworkID: str
    EndpointID: str
    Interface: Interface | None = None
    Options: dict[str, Any] = {}


class EndpointRef(msgspec.Struct, kw_only=True):
    """DeleteEndpoint, Leave, EndpointOperInfo, Program- and RevokeExternalConnectivity."""

    NetworkID: str
    EndpointID: str
    Options: dict[str, Any] = {}


class Join(msgspec.Struct, kw_only=True):
    """Join."""

    NetworkID: str
    EndpointID: str
    SandboxKey: str = ""
    Options: dict[str, Any] = {}


class PoolWanted(msgspec.Struct, kw_only=True):
    """RequestPool."""

    AddressSpace: str = ""
    Pool: str = ""
    SubPool: str = ""
    Options: dict[str, str] = {}
    V6: bool = False


class PoolRelease(msgspec.Struct, kw_only=True):
    """ReleasePool."""

    PoolID: str


class AddressWanted(msgspec.Struct, kw_only=True):
    """RequestAddress."""

    PoolID: str
    Address: str = ""
    Options: dict[str, str] = {}


class AddressRelease(msgspec.Struct, kw_only=True):
    """ReleaseAddress."""

    PoolID: str
    Address: str = ""


def read(body: bytes, kind: type[T]) -> T:
    """Decode a request. Raises InvalidArgument with the ``$.path`` of what does not fit."""
    try:
        document = msgspec.json.decode(body or b"{}")
        if not isinstance(document, dict):
            raise InvalidArgument("the request is not a JSON object")
        return msgspec.convert(_spelt(document, kind), kind)
    except msgspec.ValidationError as exc:
        message, _, where = str(exc).partition(" - at ")
        raise InvalidArgument(message, where=where.strip("`")) from exc
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidArgument(f"the request is not valid JSON: {exc}") from exc


def _spelt(document: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Give the keys of `kind` their spelling, leave nulls out; the last of several spellings counts."""
    names = {name.lower(): name for name in kind.__struct_fields__}
    spelt = {names.get(key.lower(), key): value for key, value in document.items() if value is not None}
    if isinstance(spelt.get("Interface"), dict):
        spelt["Interface"] = _spelt(spelt["Interface"], Interface)
    for family in ("IPv4Data", "IPv6Data"):
        if isinstance(spelt.get(family), list):
            spelt[family] = [_spelt(d, IpamData) if isinstance(d, dict) else d for d in spelt[family]]
    return spelt
