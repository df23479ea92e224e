"""host-local and static beside Go's: the same addresses in the same order, the same files, and each reads the other's.

Where ours differs on purpose it stands in `DIFFERENT`, with the reason.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from dovetail.cni.environment import read_environment
from dovetail.cni.errors import CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugins.ipam_config import data_dir, read_host_local, read_static
from dovetail.cni.spec.parts import dns
from dovetail.cni.spec.parts import route as write_route
from dovetail.errors import DovetailError, one_sentence
from dovetail.ipam.host_local import HostLocal

GO = "/usr/lib/cni"
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not os.path.exists(f"{GO}/host-local"), reason="containernetworking-plugins is not installed"
    ),
]


class Do(NamedTuple):
    """One call."""

    verb: str = "ADD"
    container: str = "c1"
    ifname: str = "eth0"
    args: str = ""
    runtime: Mapping[str, Any] = MappingProxyType({})
    for_cni: Mapping[str, Any] = MappingProxyType({})


Answer = dict[str, Any] | str
"""``ips``, ``routes`` and ``dns`` of a result, nothing of DEL and CHECK, or the words of a refusal."""


def configuration(ipam: Any, do: Do, plugin: str, version: str, directory: Path) -> dict[str, Any]:
    document = {"cniVersion": version, "name": "n1", "type": plugin}
    document |= {"ipam": {"type": plugin, "dataDir": str(directory), **ipam}} if ipam is not None else {}
    document |= {"runtimeConfig": do.runtime} if do.runtime else {}
    return document | ({"args": {"cni": do.for_cni}} if do.for_cni else {})


def environ(do: Do) -> dict[str, str]:
    return {
        "CNI_COMMAND": do.verb,
        "CNI_CONTAINERID": do.container,
        "CNI_IFNAME": do.ifname,
        "CNI_NETNS": "/x",
        "CNI_PATH": GO,
        **({"CNI_ARGS": do.args} if do.args else {}),
    }


def go(ipam: Any, do: Do, directory: Path, *, plugin: str = "host-local", version: str = "1.0.0") -> Answer:
    done = subprocess.run(
        [f"{GO}/{plugin}"],
        input=json.dumps(configuration(ipam, do, plugin, version, directory)),
        env=environ(do),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    document = json.loads(done.stdout) if done.stdout.strip() else {}
    if done.returncode:
        return str(document["msg"])
    return {key: document[key] for key in ("ips", "routes", "dns") if document.get(key)}


def ours(ipam: Any, do: Do, directory: Path, *, plugin: str = "host-local", version: str = "1.0.0") -> Answer:
    document = configuration(ipam, do, plugin, version, directory)
    config = Folded(json.loads(json.dumps(document)))
    try:
        environment = read_environment(environ(do))
        if do.verb != "ADD":
            host_local = HostLocal(data_dir(config), "n1")
            if do.verb == "DEL":
                host_local.delete(do.container, do.ifname)
                return {}
            return "; ".join(host_local.check(do.container, do.ifname)) or {}
        if plugin == "static":
            found: Any = read_static(config, version=version, args=environment.args)
            addresses = found.addresses
        else:
            found = read_host_local(config, version=version, args=environment.args)
            addresses = HostLocal(found.data_dir, "n1").add(
                do.container, do.ifname, found.range_sets, found.requested
            )
    except (CniError, DovetailError) as exc:
        return one_sentence(exc)
    ips = [
        {"address": str(one.address), **({"gateway": str(one.gateway)} if one.gateway else {})}
        for one in addresses
    ]
    result = {"ips": ips, "routes": [write_route(one) for one in found.routes], "dns": dns(found.dns)}
    return {key: value for key, value in result.items() if value}


def files(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Give mode and content of every file; Go 1.1.1 writes 0644 where later versions and we write 0600."""
    found = {}
    for path in sorted(directory.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_file():
            found[str(path.relative_to(directory))] = (
                0o600 if mode == 0o644 else mode,
                path.read_bytes(),
            )
        else:
            found[str(path.relative_to(directory))] = (mode, b"")
    return found


def crowd(count: int, **more: Any) -> list[Do]:
    return [Do(container=f"c{number}", **more) for number in range(count)]


V4, V6 = {"subnet": "10.0.0.0/29"}, {"subnet": "fd00::/125"}
FULL = [*crowd(7), Do("DEL", "c2"), Do("DEL", "c4"), *crowd(7), Do("DEL", "c9"), *crowd(6, ifname="eth1")]
RANGES = "ranges"
CASES: dict[str, tuple[Any, list[Do]]] = {
    "subnet": (V4, FULL),
    "subnet of IPv6": (V6, FULL),
    "subnet /30": ({"subnet": "10.0.0.0/30"}, FULL),
    "subnet /126": ({"subnet": "fd00::/126"}, FULL),
    "subnet /16": ({"subnet": "10.0.0.0/16"}, FULL),
    "subnet /64": ({"subnet": "fd00::/64"}, FULL),
    "subnet at the end": ({"subnet": "255.255.255.248/29"}, FULL),
    "rangeStart": ({**V4, "rangeStart": "10.0.0.4"}, FULL),
    "rangeStart of IPv6": ({**V6, "rangeStart": "fd00::5"}, FULL),
    "rangeEnd": ({**V4, "rangeEnd": "10.0.0.4"}, FULL),
    "rangeEnd of IPv6": ({**V6, "rangeEnd": "fd00::4"}, FULL),
    "rangeStart and rangeEnd": (
        {"subnet": "10.0.0.0/16", "rangeStart": "10.0.0.254", "rangeEnd": "10.0.1.2"},
        FULL,
    ),
    "one address": ({**V4, "rangeStart": "10.0.0.4", "rangeEnd": "10.0.0.4"}, FULL),
    "gateway": ({**V4, "gateway": "10.0.0.4"}, FULL),
    "gateway at the end": ({**V4, "gateway": "10.0.0.6"}, FULL),
    "gateway elsewhere": ({**V4, "gateway": "10.9.9.9"}, FULL),
    "gateway of IPv6": ({**V6, "gateway": "fd00::3"}, FULL),
    "gateway only": ({**V4, "rangeStart": "10.0.0.4", "rangeEnd": "10.0.0.4", "gateway": "10.0.0.4"}, FULL),
    "empty words": ({**V4, "gateway": "", "rangeStart": "", "rangeEnd": "", "resolvConf": ""}, FULL),
    "keys in other case": ({"SUBNET": "10.0.0.0/29", "RangeStart": "10.0.0.3", "GATEWAY": "10.0.0.5"}, FULL),
    "ranges": ({RANGES: [[V4]]}, FULL),
    "ranges of both families": ({RANGES: [[V4], [V6]]}, FULL),
    "ranges of IPv6 first": ({RANGES: [[V6], [V4]]}, FULL),
    "old key and ranges": ({**V4, RANGES: [[V6]]}, FULL),
    "two sets of IPv4": ({RANGES: [[V4], [{"subnet": "10.1.0.0/29"}]]}, FULL),
    "ranges in a set": (
        {RANGES: [[{"subnet": "10.0.0.0/30"}, {"subnet": "10.1.0.0/30"}, {"subnet": "10.2.0.0/30"}]]},
        FULL,
    ),
    "parts of a subnet in a set": (
        {RANGES: [[{**V4, "rangeEnd": "10.0.0.2"}, {**V4, "rangeStart": "10.0.0.5", "gateway": "10.0.0.6"}]]},
        FULL,
    ),
    "parts of a subnet in two sets": (
        {RANGES: [[{**V4, "rangeEnd": "10.0.0.3"}], [{**V4, "rangeStart": "10.0.0.4"}]]},
        FULL,
    ),
    "second set smaller": ({RANGES: [[V4], [{"subnet": "10.1.0.0/30"}]]}, FULL),
    "routes": (
        {**V4, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.0.0.1"}, {"dst": "::/0"}]},
        crowd(1),
    ),
    "resolvConf": ({**V4, "resolvConf": "RESOLV_CONF"}, crowd(1)),
    "runtimeConfig.ipRanges": (
        V6,
        [
            Do(container=f"c{n}", runtime={"ipRanges": [[{"subnet": "10.7.0.0/29", "gateway": "10.7.0.3"}]]})
            for n in range(7)
        ],
    ),
    "runtimeConfig.ipRanges as containerd writes them": (
        V6,
        [
            Do(
                runtime={
                    "IPRanges": [
                        [{"Subnet": "10.7.0.0/29", "RangeStart": "10.7.0.4", "RangeEnd": "", "Gateway": ""}]
                    ]
                }
            )
        ],
    ),
    "runtimeConfig.ipRanges empty": (V4, [Do(runtime={"ipRanges": []})]),
    "runtimeConfig.ips": (
        {RANGES: [[V4], [V6]]},
        [Do(runtime={"ips": ["fd00::5", "10.0.0.4/24"]}), *crowd(3)],
    ),
    "args.cni.ips": ({RANGES: [[V4], [V6]]}, [Do(for_cni={"ips": ["10.0.0.4"]}), *crowd(3)]),
    "CNI_ARGS IP": (V4, [Do(args="IP=10.0.0.4"), Do(container="c2", args="IP=10.0.0.6/8"), *crowd(5)]),
    "IP of each source": (
        {RANGES: [[V4], [V6], [{"subnet": "10.1.0.0/29"}]]},
        [Do(args="IP=10.1.0.5", runtime={"ips": ["10.0.0.4"]}, for_cni={"ips": ["fd00::4"]})],
    ),
    "the same IP of each source": (
        V4,
        [Do(args="IP=10.0.0.4", runtime={"ips": ["10.0.0.4"]}, for_cni={"ips": ["10.0.0.4"]})],
    ),
    "requested and taken": (V4, [*crowd(2), Do(container="x", args="IP=10.0.0.3"), *crowd(4)]),
    "requested gateway": (V4, [Do(args="IP=10.0.0.1"), *crowd(2)]),
    "unknown arguments": (
        V4,
        [Do(args="IP=10.0.0.3;X=1"), Do(args="X=1;IgnoreUnknown=1;IP=10.0.0.3"), Do(args="IP=")],
    ),
    "the same again": (V4, [Do(), Do(), Do(ifname="eth1"), Do(ifname="eth1"), Do("DEL"), Do("DEL"), Do()]),
    "CHECK": (V4, [Do(), Do("CHECK"), Do("CHECK", "c2"), Do("DEL"), Do("CHECK")]),
    "later set fails": (
        {RANGES: [[V6], [{"subnet": "10.0.0.0/30"}]]},
        [Do(), Do(container="c2"), Do(container="c2"), Do("DEL"), Do(container="c2")],
    ),
}
REFUSED: dict[str, Any] = {
    "requested broadcast": (V4, Do(args="IP=10.0.0.7")),
    "requested outside": (V4, Do(args="IP=10.9.0.1")),
    "requested of another family": (V4, Do(args="IP=fd00::2")),
    "requested too many": (V4, Do(for_cni={"ips": ["10.0.0.3", "10.0.0.4"]})),
    "requested no address": (V4, Do(runtime={"ips": ["x"]})),
    "no ipam": None,
    "no ranges": {},
    "ranges empty": {RANGES: []},
    "set empty": {RANGES: [[]]},
    "range empty": {RANGES: [[{}]]},
    "rangeStart alone": {"rangeStart": "10.0.0.1"},
    "subnet /31": {"subnet": "10.0.0.0/31"},
    "subnet /32": {"subnet": "10.0.0.0/32"},
    "subnet /127": {"subnet": "fd00::/127"},
    "host bits": {"subnet": "10.0.0.1/24"},
    "no prefix": {"subnet": "10.0.0.0"},
    "no subnet": {"subnet": "x"},
    "subnet empty": {"subnet": ""},
    "subnet a number": {"subnet": 5},
    "mapped": {"subnet": "::ffff:10.0.0.0/120"},
    "rangeStart outside": {**V4, "rangeStart": "10.9.0.1"},
    "rangeStart of IPv6 in IPv4": {**V4, "rangeStart": "fd00::1"},
    "rangeEnd outside": {**V4, "rangeEnd": "10.9.0.1"},
    "rangeStart after rangeEnd": {**V4, "rangeStart": "10.0.0.4", "rangeEnd": "10.0.0.3"},
    "gateway no address": {**V4, "gateway": "x"},
    "mixed": {RANGES: [[V4, V6]]},
    "overlap in a set": {RANGES: [[V4, V4]]},
    "overlap of sets": {RANGES: [[V4], [V6], [{"subnet": "10.0.0.0/24"}]]},
    "overlap with the old key": {**V4, RANGES: [[V4]]},
    "route no CIDR": {**V4, "routes": [{"dst": "x"}]},
    "resolvConf missing": {**V4, "resolvConf": "/nowhere"},
}
SAME_WORDS = (
    "failed to allocate all requested IPs: ",
    "too small to allocate from",
    "does not support more than 1 address per family",
    "no IP ranges specified",
    "IPAM config missing 'ipam' key",
    "empty range set",
    "mixed address families",
    " overlap",
    'unknown args ["',
)


def agree(theirs: Answer, mine: Answer, what: object) -> None:
    """The same result, or both refuse; and the words that runtimes look for are in both."""
    if isinstance(theirs, dict):
        assert mine == theirs, what
    else:
        assert isinstance(mine, str), f"{what}: Go says {theirs}, ours answers {mine}"
        whole = theirs.startswith(
            ("failed to allocate for", "host-local: ")
        )  # Go names any of those left over
        for words in (theirs,) if whole else SAME_WORDS:
            assert words in mine or words not in theirs, f"{what}: Go says {theirs}, ours {mine}"


@pytest.fixture
def resolv_conf(tmp_path: Path) -> str:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# c\nnameserver 1.1.1.1\nnameserver  2.2.2.2 x\ndomain d\nsearch a b\nsearch c\noptions ndots:5\n;",
        encoding="ascii",
    )
    return str(path)


@pytest.mark.parametrize("name", CASES)
def test_the_same_calls_give_the_same_addresses_and_files(
    name: str, tmp_path: Path, resolv_conf: str
) -> None:
    ipam, calls = CASES[name]
    ipam = {**ipam, **({"resolvConf": resolv_conf} if ipam.get("resolvConf") else {})}
    theirs, mine = tmp_path / "go", tmp_path / "ours"
    theirs.mkdir(mode=0o755)
    mine.mkdir(mode=0o755)

    for do in calls:
        agree(go(ipam, do, theirs), ours(ipam, do, mine), do)
        nothing = files(mine) == {} and set(files(theirs)) <= {
            "n1",
            "n1/lock",
        }  # where nothing was ever given
        assert nothing or files(mine) == files(theirs), do


@pytest.mark.parametrize("name", CASES)
def test_in_turn_on_one_directory_they_give_what_one_alone_gives(
    name: str, tmp_path: Path, resolv_conf: str
) -> None:
    ipam, calls = CASES[name]
    ipam = {**ipam, **({"resolvConf": resolv_conf} if ipam.get("resolvConf") else {})}
    alone, both = tmp_path / "go", tmp_path / "both"

    for number, do in enumerate(calls):
        agree(go(ipam, do, alone), (go, ours)[number % 2](ipam, do, both), do)

    assert {name for name in files(both) if "10." in name or "fd" in name} == {
        name for name in files(alone) if "10." in name or "fd" in name
    }
    for run, other in ((ours, go), (go, ours)):
        run(ipam, Do(container="last", ifname="eth9"), both)
        other(ipam, Do("DEL", "last", "eth9"), both)
        assert not any(b"last\r\n" in content for _, content in files(both).values())
    for number, do in enumerate(calls):
        (ours, go)[number % 2](ipam, Do("DEL", do.container, do.ifname), both)
    assert not any(b"\r\n" in content for _, content in files(both).values())


@pytest.mark.parametrize("name", REFUSED)
def test_what_go_refuses_ours_refuses_in_the_words_that_are_looked_for(name: str, tmp_path: Path) -> None:
    ipam, do = REFUSED[name] if isinstance(REFUSED[name], tuple) else (REFUSED[name], Do())

    theirs, mine = go(ipam, do, tmp_path / "go"), ours(ipam, do, tmp_path / "ours")

    assert isinstance(theirs, str)
    agree(theirs, mine, name)
    assert files(tmp_path / "ours") == {}


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_several_addresses_of_a_family_are_for_the_versions_that_go_gives_them_in(
    version: str, tmp_path: Path
) -> None:
    ipam = {RANGES: [[V4], [{"subnet": "10.1.0.0/24"}]]}

    theirs = go(ipam, Do(), tmp_path / "go", version=version)
    mine = ours(ipam, Do(), tmp_path / "ours", version=version)

    assert isinstance(mine, str) == isinstance(theirs, str)
    assert not isinstance(theirs, str) or theirs in str(mine)


def turn_after_a_refusal(directory: Path, run: Callable[..., Answer]) -> Answer:
    run(V4, Do(args="IP=10.9.0.1"), directory)
    return run(V4, Do(), directory)


def network_and_broadcast(directory: Path, run: Callable[..., Answer]) -> Answer:
    return run({**V4, "rangeStart": "10.0.0.0", "rangeEnd": "10.0.0.7"}, Do(), directory)


def second_by_request(directory: Path, run: Callable[..., Answer]) -> Answer:
    run(V4, Do(), directory)
    return run(V4, Do(args="IP=10.0.0.5"), directory)


def sources_that_contradict(directory: Path, run: Callable[..., Answer]) -> Answer:
    return run(V4, Do(args="IP=10.0.0.4", runtime={"ips": ["10.0.0.5"]}), directory)


def gateway_of_a_neighbour(directory: Path, run: Callable[..., Answer]) -> Answer:
    one = {**V4, "rangeStart": "10.0.0.2", "rangeEnd": "10.0.0.2", "gateway": "10.0.0.4"}
    return run({RANGES: [[one], [{**V4, "rangeStart": "10.0.0.4"}]]}, Do(), directory)


def gateway_of_another_family(directory: Path, run: Callable[..., Answer]) -> Answer:
    return run({**V4, "gateway": "fd00::1"}, Do(), directory)


def relative_directory(directory: Path, run: Callable[..., Answer]) -> Answer:
    return run({**V4, "dataDir": os.path.relpath(directory)}, Do(), directory)


def delete_without_ranges(directory: Path, run: Callable[..., Answer]) -> Answer:
    run(V4, Do(), directory)
    return run({}, Do("DEL"), directory)


def failed_add_of_one_that_runs(directory: Path, run: Callable[..., Answer]) -> Answer:
    run(V4, Do(), directory)
    run({RANGES: [[V6], [V4]]}, Do(), directory)
    return run(V4, Do("CHECK"), directory)


def route_to_nowhere(directory: Path, run: Callable[..., Answer]) -> Answer:
    return run({**V4, "routes": [{}]}, Do(), directory)


def route_with_host_bits(directory: Path, run: Callable[..., Answer]) -> Answer:
    return run({**V4, "routes": [{"dst": "10.9.1.1/8"}]}, Do(), directory)


def empty_file(directory: Path, run: Callable[..., Answer]) -> Answer:
    (directory / "n1").mkdir(parents=True)
    (directory / "n1" / "10.0.0.3").touch()
    run(V4, Do(), directory)
    run(V4, Do("DEL"), directory)
    return {"left": [name for name in files(directory) if "10." in name]}


def relative_resolv_conf(directory: Path, run: Callable[..., Answer]) -> Answer:
    directory.mkdir()
    (directory / "resolv.conf").write_text("domain d", encoding="ascii")
    return run({**V4, "resolvConf": os.path.relpath(directory / "resolv.conf")}, Do(), directory)


def static_twice(directory: Path, run: Callable[..., Answer]) -> Answer:
    return run({"addresses": [{"address": "10.0.0.5/24"}] * 2}, Do(), directory, plugin="static")


def static_multicast(directory: Path, run: Callable[..., Answer]) -> Answer:
    return run({"addresses": [{"address": "224.0.0.5/24"}]}, Do(), directory, plugin="static")


def link_in_place_of_the_network(directory: Path, run: Callable[..., Answer]) -> Answer:
    (directory / "elsewhere").mkdir(parents=True)
    (directory / "n1").symlink_to("elsewhere")
    return run(V4, Do(), directory)


TWO = {"ips": [{"address": "10.0.0.2/29", "gateway": "10.0.0.1"}]}
DIFFERENT = [
    # Go takes an address, finds that the one asked for is in no range, and gives it back: a turn is lost
    (
        turn_after_a_refusal,
        {"ips": [{"address": "10.0.0.3/29", "gateway": "10.0.0.1"}]},
        TWO,
    ),
    # a range may name the network or the broadcast address: no host may have them
    (network_and_broadcast, {"ips": [{"address": "10.0.0.0/29", "gateway": "10.0.0.1"}]}, TWO),
    # the specification has ADD twice fail, whether an address is asked for or not
    (
        second_by_request,
        {"ips": [{"address": "10.0.0.5/29", "gateway": "10.0.0.1"}]},
        "duplicate allocation is not allowed",
    ),
    # CONVENTIONS.md: runtimeConfig is stronger than CNI_ARGS; Go refuses, naming either
    (
        sources_that_contradict,
        "failed to allocate all requested IPs",
        {"ips": [{"address": "10.0.0.5/29", "gateway": "10.0.0.1"}]},
    ),
    # the gateway of one range is nobody's address in another
    (
        gateway_of_a_neighbour,
        {
            "ips": [
                {"address": "10.0.0.2/29", "gateway": "10.0.0.4"},
                {"address": "10.0.0.4/29", "gateway": "10.0.0.1"},
            ]
        },
        {
            "ips": [
                {"address": "10.0.0.2/29", "gateway": "10.0.0.4"},
                {"address": "10.0.0.5/29", "gateway": "10.0.0.1"},
            ]
        },
    ),
    # no route can lead there
    (
        gateway_of_another_family,
        {"ips": [{"address": "10.0.0.1/29", "gateway": "fd00::1"}]},
        "of another family",
    ),
    # the daemon's working directory is not the runtime's
    (relative_directory, TWO, "is not an absolute path"),
    # DEL gives back what there is, whatever has become of the configuration
    (delete_without_ranges, "no IP ranges specified", {}),
    # Go gives back everything of the container where a later set fails, the address that it runs with too
    (failed_add_of_one_that_runs, "Failed to find address", {}),
    # Go answers with a destination <nil>
    (route_to_nowhere, {**TWO, "routes": [{"dst": "<nil>"}]}, "has no prefix length"),
    # the kernel's route is the same
    (
        route_with_host_bits,
        {**TWO, "routes": [{"dst": "10.9.1.1/8"}]},
        {**TWO, "routes": [{"dst": "10.0.0.0/8"}]},
    ),
    # its writer was killed: whoever writes holds the lock
    (empty_file, {"left": ["n1/10.0.0.3"]}, {"left": []}),
    # as with dataDir
    (relative_resolv_conf, {**TWO, "dns": {"domain": "d"}}, "is not an absolute path"),
    # the interface could not have it
    (static_twice, {"ips": [{"address": "10.0.0.5/24"}] * 2}, "10.0.0.5 is there 2 times"),
    (static_multicast, {"ips": [{"address": "224.0.0.5/24"}]}, "is no address for an interface"),
    # whoever may write the directory would choose where root writes
    (link_in_place_of_the_network, TWO, "link or of another kind"),
]


@pytest.mark.parametrize(("scene", "theirs", "mine"), DIFFERENT, ids=lambda one: getattr(one, "__name__", ""))
def test_where_ours_differs_it_does_so_on_purpose(
    scene: Callable[..., Answer], theirs: Answer, mine: Answer, tmp_path: Path
) -> None:
    for run, expected, name in ((go, theirs, "go"), (ours, mine, "ours")):
        found = scene(tmp_path / name, run)
        assert found == expected if isinstance(expected, dict) else expected in str(found)


def test_a_delete_of_ours_makes_no_directory_and_go_does(tmp_path: Path) -> None:
    ours(V4, Do("DEL"), tmp_path / "ours")
    go(V4, Do("DEL"), tmp_path / "go")

    assert files(tmp_path) == {"go": (0o755, b""), "go/n1": (0o755, b""), "go/n1/lock": (0o750, b"")}


def test_old_files_without_an_interface_are_read_as_go_reads_them(tmp_path: Path) -> None:
    for run in (go, ours):
        directory = tmp_path / run.__name__ / "n1"
        directory.mkdir(parents=True)
        (directory / "10.0.0.4").write_bytes(b"c1")
        (directory / "10.0.0.5").write_bytes(b"c2\r\neth0\n")

    for do in (
        Do(),
        Do("CHECK"),
        Do(container="c2"),
        Do("CHECK", "c2"),
        Do("DEL"),
        Do("DEL", "c2"),
        *crowd(6),
    ):
        agree(go(V4, do, tmp_path / "go"), ours(V4, do, tmp_path / "ours"), do)
        assert {k for k in files(tmp_path / "go") if "10." in k} == {
            k for k in files(tmp_path / "ours") if "10." in k
        }


def test_gos_processes_and_ours_at_once_give_no_address_twice(tmp_path: Path) -> None:
    wide = {"subnet": "10.0.0.0/24"}
    deadline = time.monotonic() + 60

    def work(number: int) -> list[str]:
        run = (go, ours)[number % 2]
        found = []
        for step in range(5):
            answer = run(wide, Do(container=f"{number}-{step}"), tmp_path)
            assert isinstance(answer, dict), answer
            found.append(answer["ips"][0]["address"])
            if step == 2:
                other = (ours, go)[number % 2]
                assert other(wide, Do("DEL", f"{number}-{step}"), tmp_path) == {}
                found.pop()
        return found

    with ThreadPoolExecutor(16) as pool:
        given = [address for found in pool.map(work, range(16)) for address in found]

    assert time.monotonic() < deadline
    assert len(given) == len(set(given)) == 64
    assert {f"n1/{address.removesuffix('/24')}" for address in given} == {
        k for k in files(tmp_path) if "/10." in k
    }


FIVE = [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}]
STATIC: dict[str, tuple[Any, Do]] = {
    "nothing": ({}, Do()),
    "addresses": ({"addresses": FIVE}, Do()),
    "no gateway": ({"addresses": [{"address": "10.0.0.5/32"}]}, Do()),
    "both families": ({"addresses": [{"address": "fd00::5/64", "gateway": "fd00::1"}, *FIVE]}, Do()),
    "gateway elsewhere": ({"addresses": [{"address": "10.0.0.5/24", "gateway": "10.9.0.1"}]}, Do()),
    "routes": (
        {"addresses": FIVE, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.0.0.9"}]},
        Do(),
    ),
    "dns": ({"dns": {"nameservers": ["1.1.1.1"], "domain": "d", "search": ["s"], "options": ["o"]}}, Do()),
    "CNI_ARGS": ({"addresses": FIVE}, Do(args="IP=10.0.0.7/24;GATEWAY=10.0.0.9")),
    "CNI_ARGS of both": ({}, Do(args="IP=10.0.0.7/24, fd00::1/64;GATEWAY=10.0.0.1,fd00::9")),
    "CNI_ARGS two gateways": ({}, Do(args="IP=10.0.0.7/24;GATEWAY=10.0.0.1,10.0.0.2")),
    "CNI_ARGS gateway elsewhere": ({}, Do(args="IP=10.0.0.7/24;GATEWAY=10.9.0.1")),
    "CNI_ARGS gateway alone": ({"addresses": FIVE}, Do(args="GATEWAY=10.0.0.9")),
    "args": ({"addresses": FIVE}, Do(for_cni={"ips": ["10.0.0.8/24"]})),
    "runtimeConfig": ({"addresses": FIVE}, Do(runtime={"ips": ["10.0.0.9/24", "10.0.0.10/24"]})),
    "runtimeConfig empty": ({"addresses": FIVE}, Do(runtime={"ips": []})),
    "all": (
        {"addresses": FIVE},
        Do(args="IP=10.0.0.7/24", for_cni={"ips": ["10.0.0.8/24"]}, runtime={"ips": ["10.0.0.9/24"]}),
    ),
    "no prefix": ({"addresses": [{"address": "10.0.0.5"}]}, Do()),
    "no address": ({"addresses": [{}]}, Do()),
    "no gateway address": ({"addresses": [{"address": "10.0.0.5/24", "gateway": "x"}]}, Do()),
    "CNI_ARGS no prefix": ({}, Do(args="IP=10.0.0.5")),
    "CNI_ARGS no gateway address": ({}, Do(args="IP=10.0.0.5/24;GATEWAY=x")),
    "args no prefix": ({}, Do(for_cni={"ips": ["10.0.0.5"]})),
    "runtimeConfig no prefix": ({}, Do(runtime={"ips": ["10.0.0.5"]})),
    "unknown arguments": ({}, Do(args="FOO=1;bar=2")),
    "no ipam": (None, Do()),
}


@pytest.mark.parametrize("name", STATIC)
def test_static_answers_as_go_does(name: str, tmp_path: Path) -> None:
    ipam, do = STATIC[name]

    agree(go(ipam, do, tmp_path, plugin="static"), ours(ipam, do, tmp_path, plugin="static"), do)
    assert list(tmp_path.iterdir()) == []
