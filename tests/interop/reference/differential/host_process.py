"""The process in each of the twin hosts: runs cases there and tells what they leave. A line of JSON in, one out.

Started by `hosts.TwinHost` in namespaces of its own; nothing that it changes reaches what started it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from differential import kernel_state
from differential.kernel_state import run
from differential.libcni import Attachment, PluginError, Runtime, at_least
from differential.normal_form import HOST, WITHOUT_PEER, Flat, Names, normal_form, result_form

OUR_TABLE = ("inet", "dovetail")
STORE = "/var/lib/dovetail/dovetail.db"
_POINTER = re.compile(r"\b0xc0[0-9a-f]{8}\b")  # Go writes some where it means a value
_FIXED = "lo up0 up1 02:00:00:00:00:01 02:00:00:00:00:03"
# Without probes duplicate address detection ends at once, and a case takes no second longer for each family.
_AT_ONCE = ("net/ipv6/conf/default/dad_transmits", "net/ipv6/conf/default/router_solicitation_delay")
_SET_UP = """
mount -n -t tmpfs -o mode=755 tmpfs /run
mkdir -m 1777 /run/lock
mkdir -p /run/etc/upper /run/etc/work /run/var
mount -n -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
mount -n -t tmpfs -o mode=755 tmpfs /var/lib
mount -n -t sysfs sysfs /sys
echo 0 >/proc/sys/net/ipv6/conf/default/dad_transmits
echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitation_delay
ip link set lo up
ip netns add outside
ip link add up0 address 02:00:00:00:00:01 type veth peer name eth0 netns outside
ip link add up1 address 02:00:00:00:00:03 type veth peer name eth1 netns outside
ip -n outside link set eth0 address 02:00:00:00:00:02
ip -n outside link set eth1 address 02:00:00:00:00:04
for link in eth0 eth1; do ip -n outside link set "$link" up; done
ip -n outside addr add 192.0.2.2/24 dev eth0
ip -n outside addr add 2001:db8::2/64 dev eth0 nodad
ip link set up0 up
ip link set up1 up
ip addr add 192.0.2.1/24 dev up0
ip addr add 2001:db8::1/64 dev up0 nodad
ip route add default via 192.0.2.2
ip -6 route add default via 2001:db8::2
"""


class HostProcess:
    """A host with an uplink and what answers its requests."""

    def __init__(self) -> None:
        """Make the host, in namespaces that are this process's own."""
        self._shell(_SET_UP)
        self._remember()

    def _remember(self) -> None:
        """Take what is there as what a clean host is."""
        self._baseline_state = kernel_state.namespace()
        self._baseline = self._table({HOST: self._baseline_state}, "", {})

    @staticmethod
    def _shell(text: str, *, netns: str = "") -> None:
        where = ("ip", "netns", "exec", netns) if netns else ()
        run(*where, "bash", "-euo", "pipefail", "-c", text)

    @staticmethod
    def _table(namespaces: dict[str, Any], fixed: str, files: Any) -> Flat:
        return normal_form(namespaces, files, Names(namespaces, f"{_FIXED} {fixed}"))

    def answer(self, request: dict[str, Any]) -> Any:
        """Do what a request asks for."""
        match request["do"]:
            case "run":  # a command, which must succeed
                return run(*request["command"])
            case "start":  # a program that goes on; what it makes is part of a clean host
                return self._start(request["command"], Path(request["ready"]))
            case "case":
                return CaseRun(self, request["case"], request["path"]).outcome()
        raise ValueError(request)

    def _start(self, command: list[str], ready: Path) -> None:
        with open("/run/started.log", "ab") as log:
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not ready.exists():
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(Path("/run/started.log").read_text(encoding="utf-8"))
            time.sleep(0.01)
        self._remember()

    def changes(self, namespaces: dict[str, Any], names: Names, files: Any) -> Flat:
        """Give the table of a moment without what a clean host has; what it lacks is None."""
        now = normal_form(namespaces, files, names)
        changed = {path: value for path, value in now.items() if self._baseline.get(path) != value}
        return changed | {path: None for path in self._baseline if path not in now}

    def clean(self, containers: list[str]) -> Flat:
        """Take away what a case left; gives what cannot be taken away."""
        known = {link["ifname"] for link in self._baseline_state["links"]}
        for _ in range(8):  # one of a veth pair takes the other along
            links = [link["ifname"] for link in json.loads(run("ip", "-j", "link"))]
            extra = [name for name in links if name not in known]
            if not extra:
                break
            subprocess.run(["ip", "link", "del", extra[0]], check=False, stderr=subprocess.DEVNULL)
        for link in self._baseline_state["links"]:
            run("ip", "link", "set", link["ifname"], "mtu", str(link["mtu"]), "up", "promisc", "off")
        for name in containers:
            if os.path.ismount(f"/run/netns/{name}"):
                run("ip", "netns", "del", name)
            Path(f"/run/netns/{name}").unlink(missing_ok=True)  # sbr makes a file of that name to lock it
        for table in self._tables() - self._tables(self._baseline_state["nft"]) - {OUR_TABLE}:
            run("nft", "delete", "table", *table)
        self._shell("rm -rf /var/lib/cni /run/cni /run/case /etc/cni/tuning")
        deadline = time.monotonic() + 3
        while left := self._restore():
            if _empty_table_of_ours(left):  # it stays for the next network
                self._remember()
                return {}
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)  # what was in a namespace goes when the kernel gets to it
        return left

    @staticmethod
    def _tables(ruleset: Any = None) -> set[tuple[str, str]]:
        if ruleset is None:
            ruleset = json.loads(run("nft", "-j", "list", "tables"))["nftables"]
        return {(e["table"]["family"], e["table"]["name"]) for e in ruleset if "table" in e}

    def _restore(self) -> Flat:
        state = kernel_state.namespace()
        wrong = [
            path
            for path, value in self._baseline_state["sysctls"].items()
            if state["sysctls"].get(path, value) != value
        ]
        for path in wrong:
            Path(f"/proc/sys/{path}").write_text(self._baseline_state["sysctls"][path], encoding="ascii")
        if wrong:
            state = kernel_state.namespace()
        return self.changes({HOST: state}, Names({HOST: state}, _FIXED), {})


class CaseRun:
    """One case on one host."""

    def __init__(self, host: HostProcess, case: dict[str, Any], path: list[str]) -> None:
        self._host, self._case = host, case
        self._fixed = f"{_FIXED} {json.dumps(case)}"
        self._runtime = Runtime(*path)
        self._names: Names | None = None
        self._conflist = {
            "cniVersion": case["version"],
            "name": case["network"],
            "plugins": list(case["chain"]),
        }
        words = [step.split() for step in case["steps"]]
        verbs = {"ADD", "CHECK", "DEL", "in"}
        self._containers = list(dict.fromkeys(w[1] for w in words if w[0] in verbs))

    def outcome(self) -> dict[str, Any]:
        """Run it and clean up; gives the steps, each with its table, and what could not be cleaned."""
        try:
            for name in self._containers:
                run("ip", "netns", "add", name)
                kernel_state.within(name, _settle_at_once)
            for command in self._case["before"]:
                self._host._shell(command)
            steps: list[tuple[str, Flat]] = []
            for step in self._case["steps"]:
                verb, _, rest = step.partition(" ")
                if verb == "CHECK" and not at_least(self._case["version"], "0.4.0"):
                    continue
                if verb in {"ADD", "CHECK", "DEL"}:
                    steps.append((self._label(step, steps), self._call(verb, rest)))
                else:
                    self._command(verb, rest)
        finally:
            left = self._host.clean(self._containers)
        return {"steps": steps, "left": left, "endpoints": _endpoints()}

    @staticmethod
    def _label(step: str, steps: list[tuple[str, Flat]]) -> str:
        times = sum(label.partition(" #")[0] == step for label, _ in steps)
        return f"{step} #{times + 1}" if times else step

    def _command(self, verb: str, rest: str) -> None:
        match verb:
            case "host":
                self._host._shell(rest)
            case "outside":
                self._host._shell(rest, netns="outside")
            case "in":
                name, _, command = rest.partition(" ")
                self._host._shell(command, netns=name)
            case "lose":
                run("ip", "netns", "del", rest)
                self._wait_for_peers_to_go()
            case _:
                raise ValueError(verb)

    def _call(self, verb: str, rest: str) -> Flat:
        words = shlex.split(rest)
        settings = dict(word.split("=", 1) for word in words if "=" in word)
        container, *more = [word for word in words if "=" not in word]
        attachment = Attachment(
            container,
            settings.get("netns", f"/run/netns/{container}"),
            more[0] if more else "eth0",
            self._case["args"],
            self._case["capabilities_of"].get(container, self._case["capabilities"]),
        )
        outcome: Flat = {"failed": False}
        result = None
        try:
            match verb:
                case "ADD":
                    result = self._runtime.add(self._conflist, attachment)
                case "CHECK":
                    self._runtime.check(self._conflist, attachment)
                case "DEL":
                    self._runtime.delete(self._conflist, attachment, without_result="prevResult" in settings)
        except PluginError as exc:
            said = _POINTER.sub("0x", f"{exc.message} {exc.details}".strip().partition("\n")[0])
            outcome = {"failed": True, "error/code": exc.code, "error/text": said}
        namespaces = self._namespaces()
        names = self._names = Names(namespaces, self._fixed, self._names)
        if result is not None:
            outcome |= result_form(result, names, {name: f"/run/netns/{name}" for name in self._containers})
        if "error/text" in outcome:
            outcome["error/text"] = names.text(outcome["error/text"])
        return {**outcome, **self._host.changes(namespaces, names, kernel_state.files())}

    def _namespaces(self) -> dict[str, Any]:
        live = [name for name in self._containers if os.path.ismount(f"/run/netns/{name}")]
        return {HOST: kernel_state.namespace(), **{name: kernel_state.namespace(name) for name in live}}

    def _wait_for_peers_to_go(self) -> None:
        """Wait: the kernel takes a namespace's links away some time after it, and their peers with them."""
        deadline = time.monotonic() + 5
        while WITHOUT_PEER in Names(self._namespaces(), self._fixed).names[HOST].values():
            if time.monotonic() > deadline:
                raise RuntimeError("the links of a namespace that is gone are still there")
            time.sleep(0.01)


def _empty_table_of_ours(left: Flat) -> bool:
    base = f"{HOST}/nft {' '.join(OUR_TABLE)}"
    elements = [path for path, value in left.items() if value is True and path != f"{base}/table"]
    return all(path.startswith(base) for path in left) and not elements


def _endpoints() -> list[str]:
    """Give the ids of the endpoints that dovetail keeps, read past its own code."""
    if not os.path.exists(STORE):
        return []
    with closing(sqlite3.connect(STORE)) as database:
        return [identifier for (identifier,) in database.execute("SELECT id FROM endpoints")]


def _settle_at_once() -> None:
    for path in _AT_ONCE:
        Path(f"/proc/sys/{path}").write_text("0", encoding="ascii")


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what programs print is no answer
    host = HostProcess()
    print(json.dumps({"answer": "up"}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            reply = {"answer": host.answer(json.loads(line))}
        except Exception as exc:  # whatever it is, the test shows it
            reply = {"error": f"{type(exc).__name__}: {exc}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
