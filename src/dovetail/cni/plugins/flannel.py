"""Type ``flannel``: has another plugin, ``bridge`` mostly, attach the container to this host's share of flannel's network."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any

import msgspec

from dovetail.cni import flannel
from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.delegate import Delegate
from dovetail.cni.errors import INVALID_CONFIG, NOT_AVAILABLE, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugins.call import Call, Plugin
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns

__all__ = ["FlannelPlugin"]

_VALID = ("cni.dev/valid-attachments", "cni.dev/attachments")


class FlannelConf(Conf, frozen=True, kw_only=True):
    """The keys of ``flannel``."""

    subnet_file: Annotated[str, "what flanneld writes"] = "/run/flannel/subnet.env"
    data_dir: Annotated[str, "where the delegate's configuration is kept for DEL"] = "/var/lib/cni/flannel"
    delegate: Annotated[
        dict[str, Any],
        "the delegate's keys; without a type it is bridge, and ipMasq, mtu and isGateway are flannel's",
    ] = msgspec.field(default_factory=dict)
    ipam: Annotated[
        dict[str, Any], "keys of the delegate's IPAM plugin, host-local; the ranges are flannel's"
    ] = msgspec.field(default_factory=dict)


class FlannelPlugin(Plugin):
    """Keeps no part: the delegate does."""

    conf = FlannelConf

    def add(self, call: Call, netns: Netns) -> Result:
        """Have the delegate do it. What it was told is written down first, for a DEL whoever does it."""
        directory, container = _data_dir(call), call.environment.container_id
        document = flannel.merged(call.config, call.name, flannel.read_host_subnet(_subnet_file(call)))
        with ExitStack() as undo:
            undo.callback(flannel.remember, directory, container, flannel.recall(directory, container))
            delegate = self._delegate(call, document)
            flannel.remember(directory, container, _bytes(document))
            result = delegate.add(netns, undo)
            undo.pop_all()
        return result

    def delete(self, call: Call, netns: Netns | None) -> None:
        """Have the delegate undo what it was told then, and forget that.

        Where nothing was written down, or somebody else has taken it, it is told as much as can be known: two
        interfaces of a container share the file.
        """
        directory, container = _data_dir(call), call.environment.container_id
        document = _object(flannel.recall(directory, container))
        if document is None:
            document = flannel.bare(call.config, call.name)
        self._delegate(call, _with_result(document, call)).delete(netns)
        flannel.forget(directory, container)

    def check(self, call: Call, netns: Netns) -> None:
        """Have the delegate compare. Raises code 7 without a previous result."""
        call.required_result()
        document = _object(flannel.recall(_data_dir(call), call.environment.container_id))
        if document is None:
            document = flannel.merged(call.config, call.name, flannel.read_host_subnet(_subnet_file(call)))
        self._delegate(call, _with_result(document, call)).check(netns)

    def gc(self, call: Call) -> None:
        """Have all delegates of the network forget what the runtime does not have, and forget what they were told."""
        if call.valid is None:
            return
        directory, valid = _data_dir(call), {container for container, _ in call.valid}
        there = dict(flannel.kept(directory, call.name))
        present = flannel.bare(call.config, call.name)
        by_type = {str(document.get("type")): document for document in (*there.values(), present)}
        with ExitStack() as all_of_them:  # each is done whatever becomes of the others
            for container in there.keys() - valid:
                all_of_them.callback(flannel.forget, directory, container)
            for document in by_type.values():
                all_of_them.callback(self._collect, call, document)

    def _collect(self, call: Call, document: dict[str, Any]) -> None:
        said = {
            key: [one.document for one in call.config.objects(key)] for key in _VALID if key in call.config
        }
        self._delegate(call, {**document, **said}).gc()

    def status(self, call: Call) -> None:
        """Raise code 50 where flanneld has not said yet what this host's share is, and whatever the delegate says."""
        _data_dir(call)
        try:
            host = flannel.read_host_subnet(_subnet_file(call))
        except CniError as exc:
            raise CniError(NOT_AVAILABLE, exc.msg, exc.details) from exc
        self._delegate(call, flannel.merged(call.config, call.name, host)).status()

    def _delegate(self, call: Call, document: dict[str, Any]) -> Delegate:
        """Find the delegate, which gets `document` for its configuration."""
        config = Folded(document)
        told = Call(
            environment=call.environment,
            config=config,
            name=call.name,
            version=call.version,
            environ=call.environ,
            stdin=_bytes(document),
        )
        told.stderr = call.stderr
        return Delegate(self.engine, told, config.text("type"))


def _bytes(document: dict[str, Any]) -> bytes:
    """Write a configuration as Go does: its keys in order."""
    return msgspec.json.encode(document, order="sorted")


def _object(document: bytes | None) -> dict[str, Any] | None:
    """Read what was kept; None where it is nothing that could be of use."""
    try:
        found = msgspec.json.decode(document) if document is not None else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("type"), str) else None


def _with_result(document: dict[str, Any], call: Call) -> dict[str, Any]:
    result = call.prev_document
    return {**document, "prevResult": result} if result is not None else document


def _subnet_file(call: Call) -> str:
    return _absolute(
        read_conf(call.config, FlannelConf).subnet_file or FlannelConf().subnet_file, "subnetFile"
    )


def _data_dir(call: Call) -> str:
    return _absolute(read_conf(call.config, FlannelConf).data_dir or FlannelConf().data_dir, "dataDir")


def _absolute(path: str, key: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise CniError(INVALID_CONFIG, f"$.{key}: {path!r} is not an absolute path")
    return path
