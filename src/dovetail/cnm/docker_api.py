"""A reader of Docker's own API (HTTP over its unix socket): networks, containers, events.

Never to be called in a call that dockerd waits for (cnm.md §1.7): it holds the container's lock then, so that some
answers would wait for it to end, and it for the answer. Only lists are asked for, which take no container's lock.

No version stands in the paths: each Docker Engine takes them as its newest. What is asked for is in all of them
since API 1.24. Source: moby ``api/swagger.yaml``.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_network
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from dovetail.engine.report import DockerNetworks
from dovetail.errors import Busy, DovetailError, InvalidArgument, NotFound, PermissionDenied, one_sentence
from dovetail.model.addresses import IPNetwork

__all__ = ["DockerApi", "DockerContainer", "DockerEvent", "DockerNetwork", "Events"]

T = TypeVar("T")

_ANSWER_S = 10.0
_OK = 200
_ABSENT = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR})


class _Read(msgspec.Struct, kw_only=True, rename="pascal"):
    """Something of Docker's; what is not named here is passed over."""


class _IpamConfig(_Read):
    subnet: str = ""


class _Ipam(_Read):
    config: list[_IpamConfig] | None = None


class _Attached(_Read):
    endpoint_id: str = msgspec.field(name="EndpointID", default="")


class DockerNetwork(_Read):
    """A network; `containers` is there only where one network is asked for."""

    id: str
    name: str
    labels: dict[str, str] | None = None
    ipam: _Ipam = msgspec.field(name="IPAM", default_factory=_Ipam)
    containers: dict[str, _Attached] | None = None

    @property
    def subnets(self) -> list[IPNetwork]:
        """The subnets, of which Docker's null IPAM has none; older engines keep host bits as they were given."""
        texts = [config.subnet for config in self.ipam.config or [] if config.subnet]
        return [ip_network(text, strict=False) for text in texts]


class _Joined(_Read):
    network_id: str = msgspec.field(name="NetworkID", default="")
    endpoint_id: str = msgspec.field(name="EndpointID", default="")


class _Networking(_Read):
    networks: dict[str, _Joined | None] | None = None


class DockerContainer(_Read):
    """A running container."""

    id: str
    names: list[str] | None = None
    network_settings: _Networking | None = None

    @property
    def name(self) -> str:
        """Its name; others in the list are those by which links know it, as ``/one/alias``."""
        own = [name.removeprefix("/") for name in self.names or []]
        return next((name for name in own if "/" not in name), self.id[:12])

    @property
    def endpoints(self) -> dict[str, str]:
        """The ids of its endpoints, by network's id."""
        joined = (self.network_settings.networks if self.network_settings else None) or {}
        return {each.network_id: each.endpoint_id for each in joined.values() if each and each.endpoint_id}


class _Actor(_Read):
    id: str = msgspec.field(name="ID", default="")
    attributes: dict[str, str] | None = None


class DockerEvent(_Read):
    """Something that happened. kind: ``container`` or ``network``; action: ``rename``, ``connect`` and so on."""

    kind: str = msgspec.field(name="Type", default="")
    action: str = ""
    actor: _Actor = msgspec.field(default_factory=_Actor)

    @property
    def container(self) -> str:
        """The id of the container that it is about, empty for an event of a network alone."""
        return (
            self.actor.id if self.kind == "container" else (self.actor.attributes or {}).get("container", "")
        )


class DockerApi:
    """The Docker Engine whose API listens on the unix socket `path`.

    Every method raises NotFound for what is not there, PermissionDenied, Busy where no answer comes in time, and
    DovetailError where nobody listens, the answer is an error or is no JSON of that form.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def networks(self) -> list[DockerNetwork]:
        """List all networks, whatever their driver."""
        return self._get("/networks", list[DockerNetwork])

    def network(self, network_id: str) -> DockerNetwork:
        """Give one network with what is on it."""
        return self._get(f"/networks/{quote(network_id, safe='')}", DockerNetwork)

    def containers(
        self, *, networks: Collection[str] = (), ids: Collection[str] = ()
    ) -> list[DockerContainer]:
        """List running containers, of all `networks` and `ids` where those are given."""
        wanted = {"network": list(networks), "id": list(ids)}
        filters = {key: values for key, values in wanted.items() if values}
        return self._get("/containers/json", list[DockerContainer], filters=json.dumps(filters))

    def has(self, asked: Collection[str]) -> DockerNetworks:
        """Give the networks that it has, and the endpoints on those whose ids are `asked` for."""
        networks = self.networks()
        try:
            subnets = frozenset(subnet for network in networks for subnet in network.subnets)
        except ValueError as exc:
            raise DovetailError(f"Docker at {self.path} has a network on what is no subnet: {exc}") from exc
        endpoints: set[str] = set()
        for network_id in {network.id for network in networks}.intersection(asked):
            try:
                attached = self.network(network_id).containers or {}
            except NotFound:  # it has gone meanwhile
                continue
            endpoints.update(each.endpoint_id for each in attached.values())
        return DockerNetworks(
            ids=frozenset(network.id for network in networks),
            subnets=subnets,
            endpoints=frozenset(endpoints),
        )

    def events(self, kinds: Mapping[str, Collection[str]], *, for_s: float) -> AbstractContextManager[Events]:
        """Follow events for so long: actions by kind. Nothing is missed that comes after this is entered."""
        actions = sorted({action for each in kinds.values() for action in each})
        now = time.time()
        query = {
            "filters": json.dumps({"type": list(kinds), "event": actions}),
            # the last second again: the answer's head comes a little before Docker begins to listen for us
            "since": f"{now - 1:.9f}",
            "until": f"{now + for_s:.9f}",
        }
        return self._follow("/events", query)

    @contextmanager
    def _follow(self, path: str, query: Mapping[str, str]) -> Iterator[Events]:
        with self._ask(path, query) as (answer, connected):
            connected.settimeout(None)
            yield Events(self, answer, connected)

    def _get(self, path: str, kind: type[T], **query: str) -> T:
        with self._ask(path, query) as (answer, _), self.in_words():
            text = answer.read()
        return self.read(text, kind)

    def read(self, text: bytes, kind: type[T]) -> T:
        """Read an answer; raises DovetailError where it is not of that form."""
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise DovetailError(f"Docker at {self.path} answers what is not understood: {exc}") from exc

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Raise what goes wrong with a connection as Busy."""
        try:
            yield
        except TimeoutError as exc:
            raise Busy(f"Docker at {self.path} does not answer within {_ANSWER_S:g} s") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise Busy(f"the connection to Docker at {self.path} broke: {one_sentence(exc)}") from exc

    @contextmanager
    def _ask(
        self, path: str, query: Mapping[str, str]
    ) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
        connection = http.client.HTTPConnection("docker")
        try:
            with self.in_words():
                connection.sock = connected = self._connect()
                connection.request("GET", f"{path}?{urlencode(query)}" if query else path)
                answer = connection.getresponse()
                if answer.status != _OK:
                    raise self._refusal(path, answer)
            yield answer, connected
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connected.settimeout(_ANSWER_S)
        try:
            connected.connect(self.path)
        except OSError as exc:
            connected.close()
            if exc.errno in _ABSENT:
                raise DovetailError(
                    f"no Docker listens at {self.path}", hint="--docker-socket says where"
                ) from exc
            if isinstance(exc, PermissionError):
                raise PermissionDenied(
                    f"no permission to talk to Docker at {self.path}", hint="run as root"
                ) from exc
            if "too long" in str(exc):
                raise InvalidArgument(f"the path {self.path} is too long for a socket") from exc
            raise
        return connected

    def _refusal(self, path: str, answer: http.client.HTTPResponse) -> DovetailError:
        text = answer.read(4096).decode(errors="replace")
        try:
            message: Any = json.loads(text)["message"]
        except (ValueError, KeyError, TypeError):
            message = text
        if answer.status == http.client.NOT_FOUND:
            return NotFound("Docker object", path)
        return DovetailError(
            f"Docker at {self.path} answers {answer.status}: {' '.join(str(message).split())[:200]}"
        )


class Events:
    """A stream of events; iterate over it on one thread, `stop` it from another."""

    def __init__(self, api: DockerApi, answer: http.client.HTTPResponse, connected: socket.socket) -> None:
        self._api = api
        self._answer = answer
        self._connected = connected

    def __iter__(self) -> Iterator[DockerEvent]:
        """Give events as they happen, until the time is up, Docker ends or `stop` is called."""
        while line := self._line():
            yield self._api.read(line, DockerEvent)

    def _line(self) -> bytes:
        with self._api.in_words():
            return self._answer.readline()

    def stop(self) -> None:
        """End the iteration; again is no error."""
        try:
            self._connected.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended by itself
