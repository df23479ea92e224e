"""What flannel's CNI plugin does on a host: its daemon's file is read, a configuration put together, and kept for DEL.

The daemon writes which subnet is this host's::

    FLANNEL_NETWORK=10.244.0.0/16
    FLANNEL_SUBNET=10.244.1.1/24
    FLANNEL_MTU=1450
    FLANNEL_IPMASQ=true

Source: flannel-io/cni-plugin, flannel.go and flannel_linux.go, whose files these are to the byte (cni.md §2.11).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from dovetail.cni.errors import INVALID_CONFIG, IO_FAILURE, TRY_AGAIN, CniError
from dovetail.cni.folded import Folded
from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPNetwork, parse_interface

__all__ = ["HostSubnet", "bare", "forget", "kept", "merged", "read_host_subnet", "recall", "remember"]

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_FILE_BYTES = 1 << 20
_REQUIRED = ("FLANNEL_MTU", "FLANNEL_IPMASQ")
_FAMILIES = (("FLANNEL_NETWORK", "FLANNEL_SUBNET"), ("FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"))


class HostSubnet(msgspec.Struct, frozen=True, kw_only=True):
    """This host's share: a subnet of each family, the networks that all hosts are in, and what flannel does itself.

    mtu: of a container's interface. masquerades: flannel does, so the plugin must not.
    """

    networks: tuple[IPNetwork, ...]
    subnets: tuple[IPNetwork, ...]
    mtu: int
    masquerades: bool


def read_host_subnet(path: str) -> HostSubnet:
    """Read the daemon's file. Raises code 11 where it is not there yet, 7 for what is wrong in it."""
    said: dict[str, str] = {}
    for line in _text(path).splitlines():
        key, _, value = line.partition("=")
        said[key] = value
    pairs = zip(*_FAMILIES, strict=True)  # one of each is enough
    missing = [key for pair in pairs if not any(said.get(one) for one in pair) for key in pair]
    missing += [key for key in _REQUIRED if not said.get(key)]
    if missing:
        raise CniError(INVALID_CONFIG, f"{path} is missing {', '.join(missing)}", "flanneld writes it")
    if not said["FLANNEL_MTU"].isdecimal():
        raise CniError(INVALID_CONFIG, f"{path}: FLANNEL_MTU: {said['FLANNEL_MTU']!r} is not a number")
    return HostSubnet(
        networks=tuple(
            _network(path, key, one)
            for key, _ in _FAMILIES
            for one in filter(None, said.get(key, "").split(","))
        ),
        subnets=tuple(_network(path, key, said[key]) for _, key in _FAMILIES if said.get(key)),
        mtu=int(said["FLANNEL_MTU"]),
        masquerades=said["FLANNEL_IPMASQ"] == "true",
    )


def merged(config: Folded, name: str, host: HostSubnet) -> dict[str, Any]:
    """Give the delegate's configuration: what ``delegate`` says, and flannel's where it says nothing."""
    delegate = bare(config, name)
    given = {key.lower() for key in delegate}
    defaults = {"ipMasq": not host.masquerades, "mtu": host.mtu}
    if delegate["type"] == "bridge":
        defaults["isGateway"] = True
    delegate |= {key: value for key, value in defaults.items() if key.lower() not in given}
    ipam = delegate["ipam"]
    routes = config.object("ipam").objects("routes")
    ipam["ranges"] = [[{"subnet": str(subnet)}] for subnet in host.subnets]
    ipam["routes"] = [*(route.document for route in routes), *({"dst": str(one)} for one in host.networks)]
    return delegate


def bare(config: Folded, name: str) -> dict[str, Any]:
    """Give as much of it as can be known without the daemon's file, which is enough for a DEL.

    Raises code 7 where ``delegate`` says what flannel has to say.
    """
    own = config.object("delegate")
    for key in ("name", "ipam"):
        if key in own:
            message = f"'delegate' dictionary must not have '{key}' field, it'll be set by flannel"
            raise CniError(INVALID_CONFIG, f"$.delegate.{key}: {message}")
    kind = own.text("type") or "bridge"
    if kind == "flannel":
        raise CniError(
            INVALID_CONFIG, "$.delegate.type: flannel cannot be its own delegate", "name a main plugin"
        )
    delegate = {
        key: value for key, value in own.document.items() if key.lower() not in {"type", "name", "ipam"}
    }
    delegate |= {"name": name, "type": kind}
    if "cniVersion" in config:
        delegate["cniVersion"] = config.text("cniVersion")
    if "runtimeConfig" in config:
        delegate["runtimeConfig"] = config.object("runtimeConfig").document
    ipam = config.object("ipam")
    rest = {
        key: value for key, value in ipam.document.items() if key.lower() not in {"type", "routes", "ranges"}
    }
    delegate["ipam"] = {**rest, "type": ipam.text("type") or "host-local"}
    return delegate


# -- what is kept for DEL ------------------------------------------------------------------------------


def remember(directory: str, container: str, document: bytes | None) -> None:
    """Keep a container's configuration, whole or not at all; None forgets it. Raises code 5."""
    if document is None:
        forget(directory, container)
        return
    path, new = os.path.join(directory, container), os.path.join(directory, f".{container}.new")
    try:
        os.makedirs(directory, mode=_DIRECTORY_MODE, exist_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
        with open(fd, "wb") as file:
            file.write(document)
        os.replace(new, path)
    except OSError as exc:
        raise CniError(IO_FAILURE, f"{path} cannot be written: {exc.strerror}", "see $.dataDir") from exc


def recall(directory: str, container: str) -> bytes | None:
    """Give what is kept of a container; None where nothing is. Raises code 5."""
    path = os.path.join(directory, container)
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as exc:
        raise CniError(IO_FAILURE, f"{path} cannot be read: {exc.strerror}") from exc


def forget(directory: str, container: str) -> None:
    """Forget a container; one that is forgotten already is no error. Raises code 5."""
    path = os.path.join(directory, container)
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    except OSError as exc:
        raise CniError(IO_FAILURE, f"{path} cannot be removed: {exc.strerror}") from exc


def kept(directory: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give containers with what is kept of them, those on the network `name`."""
    try:
        containers = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for container in containers:
        document = recall(directory, container)
        try:
            found = msgspec.json.decode(document) if document is not None else None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
        if isinstance(found, dict) and found.get("name") == name:
            yield container, found


# -- pieces --------------------------------------------------------------------------------------------


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise CniError(
            TRY_AGAIN, f"open {path}: no such file or directory", "flanneld writes it: is it running?"
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise CniError(IO_FAILURE, f"{path} cannot be read: {exc}") from exc


def _network(path: str, key: str, text: str) -> IPNetwork:
    """Read a subnet as Go does: with host bits, which flanneld writes (its own bridge's address)."""
    try:
        if "/" not in text:
            raise InvalidArgument(f"{text!r} has no length")
        return parse_interface(text).network
    except InvalidArgument as exc:
        raise CniError(INVALID_CONFIG, f"{path}: {key}: {exc}") from exc
