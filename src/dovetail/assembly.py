"""The composition root: the only place that names concrete classes.

Both ways to run come through here: the daemon, and the CLI or a CNI plugin with no daemon beside it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from dovetail.engine.core import Core
from dovetail.engine.engine import Engine
from dovetail.engine.locks import Locks
from dovetail.engine.trace import Step, Tracer
from dovetail.errors import DovetailError, KernelError, PermissionDenied, StoreError
from dovetail.kernel.protocol import Kernel
from dovetail.store.protocol import Store

__all__ = ["DEFAULT_RUN_DIR", "DEFAULT_STATE_DIR", "build_engine", "failpoint"]

DEFAULT_STATE_DIR = "/var/lib/dovetail"
DEFAULT_RUN_DIR = "/run/dovetail"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def build_engine(
    *,
    state_dir: str = DEFAULT_STATE_DIR,
    run_dir: str = DEFAULT_RUN_DIR,
    kernel: Kernel | None = None,
    store: Store | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Engine:
    """Compose an engine on the kernel's present network namespace and the SQLite file of `state_dir`.

    `kernel` and `store` replace the real ones (``--explain``, tests). `on_step` sees every step begin;
    without it ``DOVETAIL_FAILPOINT`` is obeyed, see `failpoint`. Makes both directories (0700, 0755).
    Raises PermissionDenied or StoreError with one sentence.
    """
    from dovetail.drivers.bridge import BridgeDriver
    from dovetail.drivers.host import HostDriver
    from dovetail.drivers.null import NullDriver
    from dovetail.features.coexistence import accept_forwarding, withdraw_forwarding
    from dovetail.features.isolation import Isolation
    from dovetail.features.masquerade import Masquerade
    from dovetail.features.portmap import PortMap, choose_ports
    from dovetail.features.ruleset import RULESET
    from dovetail.ipam.local import LocalIpam

    boot_id = Path(_BOOT_ID).read_text(encoding="ascii").strip()
    if store is None:
        _make_directory(state_dir, 0o700)
        store = _sqlite(os.path.join(state_dir, "dovetail.db"))
    else:
        state_dir = state_dir if os.path.isdir(state_dir) else os.devnull
    if kernel is None:
        _make_directory(run_dir, 0o755)
        kernel = _linux()
    drivers = (BridgeDriver(), HostDriver(), NullDriver())
    core = Core(
        kernel=kernel,
        store=store,
        drivers={driver.name: driver for driver in drivers},
        ipams={"local": LocalIpam(store, boot_id=boot_id)},
        features=(Masquerade(), PortMap(), Isolation()),
        ruleset=RULESET,
        choose_ports=choose_ports,
        accept_forwarding=accept_forwarding,
        withdraw_forwarding=withdraw_forwarding,
        locks=Locks(os.path.join(state_dir, "lock") if state_dir != os.devnull else os.devnull),
        netns_dir=os.path.join(run_dir, "netns"),
        boot_id=boot_id,
        tracer=Tracer(on_step=on_step or failpoint(os.environ)),
        orphan_grace_s=float(os.environ.get("DOVETAIL_ORPHAN_GRACE", "60")),
    )
    return Engine(core)


def failpoint(environ: Mapping[str, str]) -> Callable[[Step], None] | None:
    """Read ``DOVETAIL_FAILPOINT``: where to fail or die, for tests that walk the steps of an operation.

    ``N=kill`` or ``N=error``: at the N-th step that begins (from 1); ``LAYER:NAME=kill``: at the first step of
    that layer whose name begins with NAME. None without the variable.
    """
    text = environ.get("DOVETAIL_FAILPOINT", "")
    if not text:
        return None
    where, _, action = text.rpartition("=")
    seen = 0

    def on_step(step: Step) -> None:
        nonlocal seen
        seen += 1
        layer, _, name = where.partition(":")
        here = seen == int(where) if where.isdigit() else step.layer == layer and step.name.startswith(name)
        if not here:
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise KernelError(f"failpoint {text}", 5)  # EIO, include/uapi/asm-generic/errno-base.h

    return on_step


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
