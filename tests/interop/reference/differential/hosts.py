"""Two hosts that are the same, for two directories of plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from differential.case import Case

GO = "/usr/lib/cni"
OURS = "/run/dovetail-bin"
_PACKAGE = Path(__file__).parents[1]
# What a kernel may lack, and the command that needs it.
FEATURES = {
    "dummy": "ip link add probe type dummy",
    "tap": "ip tuntap add probe mode tap",
    "macvlan": "ip link add probe link up0 type macvlan",
    "ipvlan": "ip link add probe link up0 type ipvlan",
    "vlan": "ip link add probe link up0 type vlan id 7",
    "vrf": "ip link add probe type vrf table 7",
    "ifb": "ip link add probe type ifb",
    "bridge VLAN filtering": "ip link add probe type bridge vlan_filtering 1",
}


class TwinHost:
    """A host of its own: network, mounts, processes; `host_process` is in it."""

    def __init__(self) -> None:
        """Start it. Needs root."""
        self._start()

    def _start(self) -> None:
        flags = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
        path = os.pathsep.join([*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin"])
        self._process = subprocess.Popen(
            ["unshare", *flags, sys.executable, "-m", "differential.host_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(_PACKAGE), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert self._read() == "up"
        self._installed = False

    def ask(self, do: str, **request: Any) -> Any:
        """Have it do something and give the answer; an error there is one here."""
        assert self._process.stdin is not None
        print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the host's process has ended"
        reply = json.loads(line)
        assert "error" not in reply, reply["error"]
        return reply["answer"]

    def stop(self) -> None:
        """End it and all that is in it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()

    def install_ours(self) -> None:
        """Install our plugins once, and start the daemon unless DOVETAIL_DAEMON is ``no``."""
        if self._installed:
            return
        dovetail = (sys.executable, "-m", "dovetail")
        self.ask("run", command=[*dovetail, "cni", "install", "--bin-dir", OURS])
        if os.environ.get("DOVETAIL_DAEMON") != "no":
            self.ask("start", command=[*dovetail, "daemon"], ready="/run/dovetail/cni.sock")
        self._installed = True

    def run_case(self, case: Case, *path: str) -> Any:
        """Run a case with the plugins in `path`; gives the steps with their tables. The host is clean before and after."""
        try:
            outcome = self.ask("case", case=case.document(), path=list(path))
            assert not outcome["left"], f"{case} leaves what cannot be cleaned: {outcome['left']}"
            assert not (case.ends_clean and outcome["endpoints"]), (
                f"{case} leaves endpoints in dovetail's store"
            )
        except AssertionError:
            self.stop()
            self._start()
            raise
        if outcome["endpoints"]:  # of what the case leaves attached: the next is to find nothing of it
            self.stop()
            self._start()
        return outcome["steps"]


class TwinHosts:
    """The two, which work at the same time."""

    def __init__(self) -> None:
        """Start both."""
        self._pool = ThreadPoolExecutor(2)
        self.go, self.ours = self._pool.map(lambda _: TwinHost(), range(2))
        self._lacking: dict[str, bool] = {}

    def lacks(self, case: Case) -> list[str]:
        """Name the features that a case needs and the kernel does not have."""
        return [feature for feature in case.needs if not self._has(feature)]

    def _has(self, feature: str) -> bool:
        if feature not in self._lacking:
            try:
                self.go.ask("run", command=["bash", "-c", f"{FEATURES[feature]} && ip link del probe"])
                self._lacking[feature] = False
            except AssertionError:
                self._lacking[feature] = True
        return not self._lacking[feature]

    def run(self, case: Case, *ours: str) -> tuple[Any, Any]:
        """Run a case with Go's plugins and, at the same time, with those in the directories `ours`."""
        left = self._pool.submit(self.go.run_case, case, GO)
        right = self._pool.submit(self.ours.run_case, case, *ours)
        return left.result(), right.result()

    def stop(self) -> None:
        """End both."""
        self._pool.shutdown()
        self.go.stop()
        self.ours.stop()
