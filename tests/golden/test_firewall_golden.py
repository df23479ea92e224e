"""The firewall's elements for every combination of the options that it looks at, against committed text.

What a network adds to the sets is one part that says what its bridge is, and one part for each IP version it
has. Each part that may come out is one file below ``firewall/``, named after the sets that it fills;
``firewall/index.txt`` says which options lead to which, and leaves out those that do not matter there. Every
combination is made whole and compared with the parts that the index names, so it is tested as well that the
two IP versions know nothing of each other. ``DOVETAIL_UPDATE_GOLDEN=1`` writes all of it anew.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TypeAlias

import msgspec

from dovetail.drivers.bridge import BridgeDriver
from dovetail.engine.ports import bind
from dovetail.features.isolation import Isolation
from dovetail.features.masquerade import Masquerade
from dovetail.features.portmap import PortMap
from dovetail.kernel.commands import describe
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet
from dovetail.model.port import PortMapping

_HERE = Path(__file__).parent / "firewall"
_INDEX = _HERE / "index.txt"
_UPDATE = os.environ.get("DOVETAIL_UPDATE_GOLDEN") == "1"
_DRIVER = BridgeDriver()
_FEATURES = (Isolation(), Masquerade(), PortMap())

Options: TypeAlias = dict[str, str]

_MODES = ("nat", "nat-unprotected", "routed", "isolated")
_BRIDGE: dict[str, Sequence[str]] = {
    "internal": ("yes", "no"),
    "bridge": ("own", "adopted"),
    "icc": ("true", "false"),
    "trusted": ("none", "eth1:eth2"),
}
_FAMILY: dict[str, Sequence[str]] = {
    "internal": ("yes", "no"),
    "mode": _MODES,
    "masquerade": ("true", "false"),
    "source": ("none", "given"),
    "ports": ("none", "some"),
    "trusted": ("none", "eth1:eth2"),
    "binding": ("none", "127.0.0.1", "::1"),
}
"""Of one part, in the order in which the index asks for them."""

_PLAIN = {key: values[0] for key, values in (_FAMILY | _BRIDGE).items()}

_SUBNETS = {
    4: Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.1")),
    6: Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1")),
}
_SOURCES = {4: "192.0.2.7", 6: "fd00:2::7"}
_ADDRESSES = {4: ip_interface("10.88.0.2/24"), 6: ip_interface("fd88::2/64")}
_PORTS = (
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=53, protocol="udp", host_ip=ip_address("192.0.2.1")),
    PortMapping(container_port=9, host_port=99, protocol="sctp", host_ip=ip_address("fd00:2::1")),
    PortMapping(container_port=22, host_port=2222, host_ip=ip_address("127.0.0.1")),
)


def combinations(options: Mapping[str, Sequence[str]]) -> list[Options]:
    """Give every combination of what each option may be."""
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


def planned(options: Options, modes: Mapping[int, str]) -> Network:
    """Let the driver read the options of a network with the subnets of `modes`."""
    given = {"icc": options["icc"], "masquerade": options["masquerade"]}
    given |= {f"gateway_mode_ipv{version}": mode for version, mode in modes.items()}
    if options["source"] == "given":
        given |= {f"host_ipv{version}": source for version, source in _SOURCES.items()}
    if options["trusted"] != "none":
        given["trusted_host_interfaces"] = options["trusted"]
    if options["binding"] != "none":
        given["host_binding"] = options["binding"]
    kernel = RecordingKernel()
    if options["bridge"] == "adopted":
        given["bridge"] = "br0"
        kernel.add_bridge("br0")
    network = Network(
        id="ab" * 32,
        name="web",
        driver="bridge",
        subnets=tuple(_SUBNETS[version] for version in modes),
        internal=options["internal"] == "yes",
        options=given,
    )
    planned = _DRIVER.plan_network(kernel, network, "store")
    assert planned.firewall is not None
    link = "br0" if options["bridge"] == "adopted" else "dv-abababababab"
    assert (planned.link, planned.firewall.link) == (link, link)
    return msgspec.structs.replace(planned, firewall=msgspec.structs.replace(planned.firewall, link="BRIDGE"))


def elements(options: Options, modes: Mapping[int, str]) -> list[Element]:
    """Give what the network and an endpoint on it add to the sets."""
    network = planned(options, modes)
    assert network.firewall is not None
    ports = _PORTS if options["ports"] == "some" else ()
    endpoint = Endpoint(
        id="cd" * 32,
        network_id=network.id,
        owner=Owner(face="cli"),
        addresses=tuple(_ADDRESSES[version] for version in modes),
        ports=tuple(bind(network.firewall, port) for port in ports),
    )
    found = [element for feature in _FEATURES for element in feature.network_elements(network)]
    return found + [e for feature in _FEATURES for e in feature.endpoint_elements(network, endpoint)]


def version_of(element: Element) -> int:
    """Give the IP version that an element is about, 0 for none."""
    digits = [int(letter) for letter in element.set if letter.isdigit()]
    return digits[0] if digits else 0


def parts(found: Sequence[Element]) -> dict[int, str]:
    """Give the commands that add elements, by the IP version they are about."""
    return {
        version: "".join(
            f"{line}\n"
            for line in describe("nft_add_elements", [e for e in found if version_of(e) == version])
        )
        for version in (0, 4, 6)
    }


def name_of(version: int, found: Sequence[Element]) -> str:
    """Name a part after the sets that it fills, with how many elements each gets where that is more than one."""
    sets = Counter(
        element.set.replace(str(version), "") for element in found if version_of(element) == version
    )
    names = [name if count == 1 else f"{name}.{count}" for name, count in sets.items()]
    return f"{f'ipv{version}' if version else 'bridge'}-{'-'.join(names) or 'nothing'}"


# -- the index -------------------------------------------------------------------------------------


def tree(cases: Sequence[tuple[Options, str]], options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Write which options lead to which name, asking for them in turn where they matter."""
    names = {name for _, name in cases}
    if len(names) == 1:
        yield "", names.pop()
        return
    option, rest = options[0], options[1:]
    values = dict.fromkeys(case[option] for case, _ in cases)
    branches = {
        value: tuple(tree([(c, name) for c, name in cases if c[option] == value], rest)) for value in values
    }
    for branch in dict.fromkeys(branches.values()):
        alike = [value for value in values if branches[value] == branch]
        said = "" if len(alike) == len(values) else f" {option}={'|'.join(alike)}"
        yield from ((said + more, name) for more, name in branch)


def read_index() -> dict[str, list[tuple[dict[str, list[str]], str]]]:
    """Read the conditions and names for each kind of part."""
    index: dict[str, list[tuple[dict[str, list[str]], str]]] = {}
    for line in _INDEX.read_text(encoding="utf-8").splitlines():
        condition, _, name = line.partition(": ")
        kind, *words = condition.split(" ")
        pairs = dict(word.split("=", 1) for word in words)
        index.setdefault(kind, []).append(({k: v.split("|") for k, v in pairs.items()}, name))
    return index


def look_up(index: Sequence[tuple[dict[str, list[str]], str]], options: Options) -> str:
    """Give the only name that the options lead to."""
    found = [name for when, name in index if all(options[key] in values for key, values in when.items())]
    assert len(found) == 1, (options, found)
    return found[0]


def write_golden() -> None:
    """Write the files and the index anew."""
    _HERE.mkdir(exist_ok=True)
    for old in _HERE.iterdir():
        old.unlink()
    lines = []
    for version, kind in ((0, "bridge"), (4, "ipv4"), (6, "ipv6")):
        matters = _FAMILY if version else _BRIDGE
        cases = []
        for options in combinations(matters):
            modes = {4: "nat", 6: "nat", **({version: options["mode"]} if version else {})}
            if not allowed(options, modes):
                continue
            found = elements({**_PLAIN, **options}, modes)
            name = name_of(version, found)
            path, text = _HERE / f"{name}.txt", parts(found)[version]
            assert not path.exists() or path.read_text(encoding="utf-8") == text, f"{name} is two things"
            path.write_text(text, encoding="utf-8")
            cases.append((options, name))
        lines += [f"{kind}{condition}: {name}" for condition, name in tree(cases, tuple(matters))]
    _INDEX.write_text("\n".join(lines) + "\n", encoding="utf-8")


def allowed(options: Options, modes: Mapping[int, str]) -> bool:
    """Leave out what the driver refuses, which other tests are about."""
    if "isolated" in modes.values() and options["internal"] == "no":
        return False
    binding = options.get("binding", "none")
    return binding == "none" or ip_address(binding).version in modes


def test_each_combination_adds_the_golden_elements() -> None:
    if _UPDATE:
        write_golden()
    index = read_index()
    used = {"index"}
    golden = {path.stem: path.read_text(encoding="utf-8") for path in _HERE.glob("*.txt")}
    stacks = [{4: four} for four in _MODES] + [{6: six} for six in _MODES]
    stacks += [{4: four, 6: six} for four in _MODES for six in _MODES]
    others = {key: each for key, each in (_BRIDGE | _FAMILY).items() if key != "mode"}
    for modes in stacks:
        for options in combinations(others):
            if not allowed(options, modes):
                continue
            names = {0: look_up(index["bridge"], options)}
            for version, mode in modes.items():
                names[version] = look_up(index[f"ipv{version}"], {**options, "mode": mode})
            made = {version: text for version, text in parts(elements(options, modes)).items() if text}
            wanted = {version: golden[name] for version, name in names.items() if golden[name]}
            assert made == wanted, (modes, options)
            used.update(names.values())
    assert used == golden.keys(), "a file that no combination leads to"
