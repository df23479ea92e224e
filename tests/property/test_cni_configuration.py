"""Hostile configurations of every plugin type on a real kernel: JSON for each, and what is refused changes nothing.

``FUZZ=20000`` sends many more.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dovetail.assembly import build_engine
from dovetail.cni.conf import keys_of
from dovetail.cni.plugin import run
from dovetail.cni.plugins import PLUGINS, plugin_type
from dovetail.cni.plugins.interface_plugin import InterfacePlugin

pytestmark = pytest.mark.root

EXAMPLES = int(os.environ.get("FUZZ", "100"))
HOSTILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.generate,),
    database=None,
    suppress_health_check=list(HealthCheck),
)
TYPES = sorted(
    set(PLUGINS) - {"dovetail", "dhcp", "flannel"}
)  # those that ask a server, or write beside the test
MAKING = tuple(name for name in TYPES if issubclass(plugin_type(name) or object, InterfacePlugin))
VALID = [{"containerID": name, "ifname": "eth0"} for name in ("c2", "c3")]


class Place:
    """An engine in this process, on the host's kernel; one container with an interface, one without."""

    def __init__(self, host: Any, directory: Path) -> None:
        self.host, self.directory = host, directory
        self.data_dir = str(directory / "networks")
        self.engine = build_engine(state_dir=str(directory / "state"), run_dir=str(directory / "run"))
        for name in ("c1", "c2", "c3"):
            host.run("ip", "netns", "add", name)
        plugin = {"type": "bridge", "bridge": "br0", "isGateway": True}
        ipam = {"type": "host-local", "dataDir": self.data_dir}
        ipam["ranges"] = [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]  # type: ignore[assignment]
        self.results = {}
        for name in ("c2", "c3"):
            status, self.results[name] = self.call("bridge", "ADD", {**plugin, "ipam": ipam}, container=name)
            assert status == 0, self.results

    def attached(self) -> list[str]:
        """Name the containers that have parts, one for each."""
        return sorted(part.owner.container for part in self.engine.core.store.parts())

    def call(
        self,
        plugin: str,
        verb: str,
        config: Any,
        *,
        container: str = "c1",
        ifname: str = "eth0",
        args: str = "",
    ) -> tuple[int, Any]:
        """Answer one call; what it prints is one JSON object, or nothing."""
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{container}",
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(self.directory / "no-plugins"),
            "CNI_ARGS": args,
        }
        whole = {"cniVersion": "1.1.0", "name": "pods", **config} if isinstance(config, dict) else config
        stdin = whole if isinstance(whole, bytes) else json.dumps(whole).encode("utf-8", "surrogatepass")
        outcome = run(environ, stdin, lambda: self.engine, plugin=plugin)
        answer = json.loads(outcome.stdout) if outcome.stdout else None
        if outcome.status:
            assert isinstance(answer, dict)
            assert 0 < answer["code"] != 999
            assert answer["msg"] != ""
            assert "internal error" not in answer["msg"], (answer, stdin)
        else:
            assert (answer is not None) == (verb == "ADD")
        return outcome.status, answer

    def state(self) -> Any:
        """Give what there is, without what changes by itself and what a failed ADD may leave: forwarding, an empty table."""
        kernel, found = self.engine.kernel, []
        for path in ("", "/run/netns/c1", "/run/netns/c2", "/run/netns/c3"):
            text = self.host.run(*(("nsenter", f"--net={path}") if path else ()), "ip", "-o", "addr")
            found.append(
                sorted(line.partition("valid_lft")[0] for line in text.splitlines() if "fe80" not in line)
            )
            routes = self.host.run(
                *(("nsenter", f"--net={path}") if path else ()), "ip", "route", "show", "table", "all"
            )
            found.append(
                sorted(
                    line.replace("dead ", "").replace(
                        "linkdown ", ""
                    )  # which follows a bridge's ports by and by
                    for line in routes.splitlines()
                    if "fe80" not in line and "ff00" not in line
                )
            )
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=False).stdout
        ours = rules.find("table inet dovetail")
        rules = rules if ours < 0 else rules[:ours]
        files = {
            str(p): p.read_bytes() for p in Path(self.data_dir).rglob("*") if p.is_file() and p.name[0] != "l"
        }
        rows = [(p.kind, p.owner, p.status, p.detail) for p in self.engine.core.store.parts()]
        return (
            found,
            kernel.nft_elements(),
            rows,
            files,
            self.engine.core.store.published_ports(),
            len(rules.splitlines()),
        )


@pytest.fixture(scope="module")
def place(module_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(module_host, tmp_path_factory.mktemp("f"))
    yield made
    for name in ("c1", "c2", "c3"):
        module_host.run("ip", "netns", "del", name)
    made.engine.reconcile()
    made.engine.core.store.close()


def differences(now: Any, before: Any) -> list[Any]:
    """Name what differs."""
    return [
        (one, other)
        for one, other in zip((*now[0], *now[1:]), (*before[0], *before[1:]), strict=True)
        if one != other
    ]


# -- what is written ------------------------------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from(
        [
            "",
            "x",
            "auto",
            "br0",
            "br7",
            "lo",
            "eth0",
            "a/b",
            "..",
            "%",
            "veth%",
            "x" * 16,
            "x" * 5000,
            "\x00",
            "\n",
            "\u2603",
            "-j",
            "; reboot",
            "$(reboot)",
            "1",
            "-1",
            "0x10",
            "9" * 400,
            "host-local",
            "static",
            "bridge",
            "nftables",
            "iptables",
            "same-bridge",
            "isolated",
            "02:00:00:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "net.ipv4.conf.IFNAME.arp_notify",
            "kernel.core_pattern",
            "net/../kernel/x",
        ]
    ),
    st.text(max_size=12),
)
ADDRESSES = st.sampled_from(
    [
        "10.50.0.0/24", "10.51.0.0/24", "10.51.0.0/30", "10.51.0.0/32", "10.51.0.7", "10.51.0.7/24", "10.51.0.255/24",
        "10.50.0.2", "10.50.0.9/24", "255.255.255.255/32", "255.255.255.254/31", "0.0.0.0/0", "0.0.0.0", "224.0.0.1/4",
        "127.0.0.1/8", "fd51::/64", "fd51::7/64", "fd51::7/128", "::/0", "::", "::1/128", "fe80::1%eth0/64", "fe80::1/64",
        "ff02::1/16", "::ffff:10.51.0.7/120", "10.51.0.0/33", "fd51::/129", "010.51.0.7/24", "10.51.0.7/ 24", "x",
    ]
)  # fmt: skip
NUMBERS = st.one_of(
    st.sampled_from(
        [
            0,
            1,
            4,
            13,
            31,
            32,
            68,
            80,
            1280,
            1400,
            1500,
            4094,
            4095,
            65535,
            65536,
            2**31,
            2**32,
            2**63,
            2**70,
            -1,
        ]
    ),
    st.integers(-(2**70), 2**70),
    st.sampled_from([1.5, 1e308, 80.0]),
)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, ADDRESSES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=5,
)


def objects(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=keys)


RANGE = objects(subnet=ADDRESSES, rangeStart=ADDRESSES, rangeEnd=ADDRESSES, gateway=ADDRESSES)
ROUTES = st.lists(
    objects(
        dst=ADDRESSES,
        gw=ADDRESSES,
        mtu=NUMBERS,
        advmss=NUMBERS,
        priority=NUMBERS,
        table=NUMBERS,
        scope=NUMBERS,
    ),
    max_size=2,
)
MAPPINGS = st.lists(
    objects(
        hostPort=NUMBERS,
        containerPort=NUMBERS,
        protocol=st.sampled_from(["tcp", "UDP", "sctp", "icmp", ""]),
        hostIP=ADDRESSES,
    ),
    max_size=3,
)
RATES = dict.fromkeys(("ingressRate", "ingressBurst", "egressRate", "egressBurst"), NUMBERS)
DNS = objects(nameservers=st.lists(ADDRESSES, max_size=2), domain=WORDS, search=st.lists(WORDS, max_size=2))


def usual(accepts: str, name: str, data_dir: str) -> st.SearchStrategy[Any]:
    """Give what a key may well be."""
    special: dict[str, st.SearchStrategy[Any]] = {
        "dataDir": st.sampled_from(
            [data_dir, data_dir, "relative", "", "/dev/null", "/proc/nothing", "/dev/null/x"]
        ),
        "resolvConf": st.sampled_from(["/etc/resolv.conf", "/dev/zero", "/proc/self/mem", "/", "x", "\x00"]),
        "sysctl": st.dictionaries(WORDS, WORDS, max_size=2),
        "vlanTrunk": st.lists(objects(id=NUMBERS, minID=NUMBERS, maxID=NUMBERS), max_size=2),
        "routes": ROUTES,
        "ranges": st.lists(st.lists(RANGE, max_size=2), max_size=2),
        "addresses": st.lists(objects(address=ADDRESSES, gateway=ADDRESSES), max_size=2),
        "dns": DNS,
        "gateways": st.lists(ADDRESSES, max_size=2),
        **dict.fromkeys(("subnet", "rangeStart", "rangeEnd", "gateway"), ADDRESSES),
        "enabledad": st.just(False),  # it takes its time
    }
    if name in special:
        return special[name]
    kinds = {
        "true or false": st.booleans(),
        "a whole number": NUMBERS,
        "a list of texts": st.lists(WORDS, max_size=2),
    }
    if accepts.startswith("a whole number"):
        return st.one_of(NUMBERS, st.just("auto"))
    return kinds.get(accepts, WORDS)


@st.composite
def configurations(draw: st.DrawFn, plugin: str, data_dir: str, result: Any) -> Any:
    """A configuration with what the type takes, and with too much, too little or something else in some places."""
    kind = plugin_type(plugin)
    assert kind is not None
    keys = {key.name: usual(key.accepts, key.name, data_dir) for key in keys_of(kind.conf)}
    own = draw(objects(**keys))
    config: dict[str, Any] = {"type": plugin}
    if kind.where == "$.ipam":
        config["ipam"] = {"type": plugin, **own}
        if plugin == "host-local":
            config["ipam"].setdefault("dataDir", data_dir)
    else:
        config |= own
    if plugin in MAKING:
        good = {"type": "host-local", "subnet": "10.52.0.0/24", "dataDir": data_dir}
        static = st.lists(objects(address=ADDRESSES, gateway=ADDRESSES), max_size=2)
        ipams = st.one_of(
            st.just(good),
            st.just(good),
            st.fixed_dictionaries(
                {"type": st.just("static"), "addresses": static}, optional={"routes": ROUTES, "dns": DNS}
            ),
            st.fixed_dictionaries(
                {"type": st.just("host-local"), "dataDir": st.just(data_dir)},
                optional={"subnet": ADDRESSES, "routes": ROUTES},
            ),
            st.fixed_dictionaries({"type": WORDS}),
        )
        config["ipam"] = draw(ipams)
    else:
        config["prevResult"] = result
    runtime = objects(
        portMappings=MAPPINGS,
        ips=st.lists(ADDRESSES, max_size=2),
        mac=WORDS,
        bandwidth=objects(**RATES),
        ipRanges=st.lists(st.lists(RANGE)),
    )
    if draw(st.booleans()):
        config["runtimeConfig"] = draw(runtime)
    if draw(st.integers(0, 4)) == 0:
        config["args"] = draw(
            st.one_of(JUNK, objects(cni=objects(ips=st.lists(ADDRESSES, max_size=2), mac=WORDS)))
        )
    spot = draw(st.integers(0, 8))
    if spot == 0:
        config[
            draw(
                st.sampled_from(
                    [*config, "prevResult", "runtimeConfig", "dns", "ipam", "args", "name", "cniVersion"]
                )
            )
        ] = draw(JUNK)
    if spot == 1:
        config["dns"] = draw(DNS)
    if spot == 2:
        config = {key.upper() if draw(st.booleans()) else key: value for key, value in config.items()}
    if spot == 3:
        text = json.dumps({"cniVersion": "1.1.0", "name": "pods", **config}).encode()
        return text[: draw(st.integers(0, len(text)))]
    if spot == 4 and isinstance(config.get("prevResult"), dict):
        config["prevResult"] = {
            **config["prevResult"],
            draw(st.sampled_from([*config["prevResult"]])): draw(JUNK),
        }
    if isinstance(config.get("ipam"), dict) and isinstance(config["ipam"].get("dataDir", ""), str):
        pass
    elif isinstance(config.get("ipam"), dict):
        config["ipam"]["dataDir"] = data_dir
    return config


@pytest.mark.parametrize("plugin", TYPES)
def test_what_is_refused_is_refused_in_json_and_changes_nothing(place: Place, plugin: str) -> None:
    counts = {0: 0, 1: 0}
    container = "c1" if plugin in {*MAKING, "host-local", "static", "loopback"} else "c2"
    container = "c3" if plugin == "sbr" else container  # its routes do not come back
    args = st.sampled_from(["", "", "IgnoreUnknown=1", "IP=10.52.0.9", "MAC=x", "IP=;GATEWAY=", "X=1"])

    @settings(HOSTILE, max_examples=EXAMPLES // len(TYPES))
    @given(configurations(plugin, place.data_dir, place.results.get(container, place.results["c2"])), args)
    def send(config: Any, said: str) -> None:
        before = place.state()
        status, _ = place.call(plugin, "ADD", config, container=container, args=said)
        counts[status] += 1
        if status:
            assert differences(place.state(), before) == []
            place.call(plugin, "STATUS", config)
            place.call(plugin, "CHECK", config, container=container, args=said)
            assert differences(place.state(), before) == []
        else:
            place.call(plugin, "CHECK", config, container=container, args=said)
        place.call(plugin, "DEL", config, container=container, args=said)
        assert place.attached() == ["c2", "c2", "c3", "c3"]
        if plugin in MAKING:
            assert place.host.links("/run/netns/c1").keys() == {"lo"}

    send()

    assert counts[0] > 0 or plugin not in {
        "bridge",
        "ptp",
        "static",
        "loopback",
        "tuning",
        "firewall",
    }
    assert place.host.links("/run/netns/c1").keys() == {"lo"}
    assert place.attached() == ["c2", "c2", "c3", "c3"]
    place.host.run("nsenter", "--net=/run/netns/c2", "ping", "-c1", "-W2", "10.50.0.1")


@HOSTILE
@given(st.sampled_from(TYPES), st.sampled_from(["GC", "DEL", "STATUS", "CHECK"]), JUNK, JUNK)
def test_junk_in_other_verbs(place: Place, plugin: str, verb: str, junk: Any, more: Any) -> None:
    config: Any = {
        "type": plugin,
        "ipam": junk,
        "prevResult": more,
        "runtimeConfig": junk,
        "cni.dev/attachments": more,
    }
    if isinstance(junk, dict):
        config |= {key: value for key, value in junk.items() if key not in {"name", "cniVersion"}}
    config["cni.dev/valid-attachments"] = more if verb != "GC" else [*VALID, *([more] if more else [])]

    place.call(plugin, verb, config)

    assert place.attached() == ["c2", "c2", "c3", "c3"]
