"""The composition root: the only place that names concrete classes.

Both ways to run come through here: the daemon, and the CLI or a CNI plugin with no daemon beside it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from dovetail.drivers.protocol import Driver
from dovetail.engine.core import Core
from dovetail.engine.engine import Engine
from dovetail.engine.locks import Locks
from dovetail.engine.report import DockerNetworks
from dovetail.engine.trace import Step, Tracer
from dovetail.errors import DovetailError, KernelError, PermissionDenied, StoreError
from dovetail.features.protocol import HostFirewall
from dovetail.kernel.protocol import Kernel
from dovetail.part_kinds import PartKinds
from dovetail.store.protocol import Store

__all__ = ["DEFAULT_DOCKER_SOCKET", "DEFAULT_RUN_DIR", "DEFAULT_STATE_DIR", "build_engine", "failpoint"]

DEFAULT_STATE_DIR = "/var/lib/dovetail"
DEFAULT_RUN_DIR = "/run/dovetail"
DEFAULT_DOCKER_SOCKET = "/run/docker.sock"
_MANAGED = "DOVETAIL_MANAGED"  # set by packaging/docker-plugin/entrypoint.py: Docker runs us, in a container
_RULES_DIR = "/etc/dovetail/nftables.d"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def build_engine(
    *,
    state_dir: str = DEFAULT_STATE_DIR,
    run_dir: str = DEFAULT_RUN_DIR,
    docker_socket: str = "",
    rules_dir: str = "",
    kernel: Kernel | None = None,
    store: Store | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Engine:
    """Compose an engine on the kernel's present network namespace and the SQLite file of `state_dir`.

    docker_socket: where the Docker Engine's API listens that this is a plugin of; empty for none. rules_dir: of the
    user's own rules of the firewall; empty for that of ``DOVETAIL_RULES_DIR``, or /etc/dovetail/nftables.d.
    `kernel` and `store` replace the real ones (``--explain``, tests). `on_step` sees every step begin;
    without it ``DOVETAIL_FAILPOINT`` is obeyed, see `failpoint`. Makes both directories (0700, 0755).
    Raises PermissionDenied or StoreError with one sentence.
    """
    from dovetail.features.isolation import Isolation
    from dovetail.features.masquerade import Masquerade
    from dovetail.features.portmap import PortMap, choose_ports
    from dovetail.features.ruleset import ruleset
    from dovetail.features.user_rules import read_rules
    from dovetail.ipam.local import LocalIpam

    boot_id = Path(_BOOT_ID).read_text(encoding="ascii").strip()
    on_step = on_step or failpoint(os.environ)
    rules_dir = rules_dir or os.environ.get("DOVETAIL_RULES_DIR") or _RULES_DIR
    if store is None:
        _make_directory(state_dir, 0o700)
        store = _sqlite(os.path.join(state_dir, "dovetail.db"))
    else:
        state_dir = state_dir if os.path.isdir(state_dir) else os.devnull
    if kernel is None:
        _make_directory(run_dir, 0o755)
        kernel = _linux()
    if os.environ.get("DOVETAIL_FAILPOINT", "").endswith("=kill") and on_step is not None:
        store = cast("Store", _SteppingStore(store, on_step))
    core = Core(
        kernel=kernel,
        store=store,
        drivers={driver.name: driver for driver in _drivers()},
        ipams={"local": LocalIpam(store, boot_id=boot_id)},
        part_kinds=PartKinds(),
        features=(Masquerade(), PortMap(), Isolation()),
        ruleset=ruleset,
        user_rules=partial(read_rules, rules_dir),
        choose_ports=choose_ports,
        host_firewall=_host_firewall(),
        locks=Locks(os.path.join(state_dir, "lock") if state_dir != os.devnull else os.devnull),
        netns_dir=os.path.join(run_dir, "netns"),
        boot_id=boot_id,
        docker=_docker(docker_socket) if docker_socket else None,
        tracer=Tracer(on_step=on_step),
        orphan_grace_s=float(os.environ.get("DOVETAIL_ORPHAN_GRACE", "60")),
        delegate_timeout_s=float(os.environ.get("DOVETAIL_DELEGATE_TIMEOUT", "25")),
    )
    return Engine(core)


def failpoint(environ: Mapping[str, str]) -> Callable[[Step], None] | None:
    """Read ``DOVETAIL_FAILPOINT``: where to fail or die, for tests that walk the steps of an operation.

    ``N=kill`` or ``N=error``: at the N-th step that begins (from 1); ``LAYER:NAME=kill``: at the first step of
    that layer whose name begins with NAME; ``LAYER:NAME+N=kill``: at the N-th step after that one. To those
    that die, each change that is in the database for good is a step as well, ``store:committed``.
    None without the variable.
    """
    text = environ.get("DOVETAIL_FAILPOINT", "")
    if not text:
        return None
    where, _, action = text.rpartition("=")
    first, _, after = where.partition("+")
    layer, _, name = first.partition(":")
    left = int(first) if first.isdigit() else int(after or 0) + 1
    begun = first.isdigit()

    def on_step(step: Step) -> None:
        nonlocal left, begun
        begun = begun or (step.layer == layer and step.name.startswith(name))
        left -= begun
        if left or not begun:
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise KernelError(f"failpoint {text}", 5)  # EIO, include/uapi/asm-generic/errno-base.h

    return on_step


class _SteppingStore:
    """A store that says so when something is in the database for good: the moments a crash tells apart."""

    def __init__(self, store: Store, on_step: Callable[[Step], None]) -> None:
        self._store = store
        self._on_step = on_step
        self._open = threading.local()

    def __getattr__(self, verb: str) -> Any:
        attribute = getattr(self._store, verb)
        if not verb.startswith(("put_", "delete_", "claim_", "release_")):
            return attribute

        def change(*args: Any, **kwargs: Any) -> Any:
            with self.transaction():
                return attribute(*args, **kwargs)

        return change

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        depth = getattr(self._open, "depth", 0)
        self._open.depth = depth + 1
        try:
            with self._store.transaction(durable=durable):
                yield
        finally:
            self._open.depth = depth
        if not depth:
            self._on_step(Step(layer="store", name="committed"))


def _drivers() -> tuple[Driver, ...]:
    from dovetail.drivers.bridge import BridgeDriver
    from dovetail.drivers.host import HostDriver
    from dovetail.drivers.ipvlan import IpvlanDriver
    from dovetail.drivers.macvlan import MacvlanDriver
    from dovetail.drivers.null import NullDriver
    from dovetail.drivers.ptp import PtpDriver
    from dovetail.drivers.vlan import VlanDriver

    return (
        BridgeDriver(),
        HostDriver(),
        IpvlanDriver(),
        MacvlanDriver(),
        NullDriver(),
        PtpDriver(),
        VlanDriver(),
    )


def _host_firewall() -> HostFirewall:
    from dovetail.features import host_firewall

    return host_firewall.HostFirewall(
        keep_policy=os.environ.get("DOVETAIL_IP_FORWARD_NO_DROP", "") in {"1", "true"},
        docker=_MANAGED in os.environ,
    )


def _docker(path: str) -> Callable[[Collection[str]], DockerNetworks]:
    def has(asked: Collection[str]) -> DockerNetworks:
        from dovetail.cnm.docker_api import DockerApi

        return DockerApi(path).has(asked)

    return has


def _linux() -> Kernel:
    from dovetail.kernel.linux import LinuxKernel

    return LinuxKernel()


def _sqlite(path: str) -> Store:
    from dovetail.store.sqlite import SqliteStore

    return SqliteStore(path)


def _make_directory(path: str, mode: int) -> None:
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise _denied(path)
    except PermissionError as exc:
        raise _denied(path) from exc
    except OSError as exc:
        raise StoreError(f"the directory {path} cannot be made: {exc.strerror}") from exc


def _denied(path: str) -> DovetailError:
    return PermissionDenied(
        f"no permission to write to {path}", hint="run as root, or give --state-dir and --run-dir"
    )
