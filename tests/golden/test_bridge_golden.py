"""The commands of bridge networks, for each combination of options, against committed text.

Each ``*.txt`` has a section for each combination of the options that *matter* to one operation. Every
combination of all options is compared with the section of those that matter, so it is tested as
well that the others do not. ``DOVETAIL_UPDATE_GOLDEN=1`` writes the files anew.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from dovetail.drivers.bridge import BridgeDriver
from dovetail.features.ruleset import RULESET
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet
from dovetail.model.port import PortMapping

_HERE = Path(__file__).parent
_UPDATE = os.environ.get("DOVETAIL_UPDATE_GOLDEN") == "1"
_DRIVER = BridgeDriver()
_PORTS = (
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=53, protocol="udp", host_ip=ip_address("192.0.2.1")),
    PortMapping(container_port=9, host_port=99, protocol="sctp", host_ip=ip_address("fd00:2::1")),
)


class Combination(NamedTuple):
    """One combination; the bridge is dovetail's ``own``, or ``adopted`` and has the IPv4 gateway's address."""

    hairpin: str
    icc: str
    internal: str
    masquerade: str
    mtu: str
    stack: str
    bridge: str

    def title(self, matters: tuple[str, ...]) -> str:
        values = self._asdict()
        return " ".join(f"{name}={values[name]}" for name in matters) or "always"


COMBINATIONS = [
    Combination(*values)
    for values in itertools.product(
        ("true", "false"),
        ("true", "false"),
        ("no", "yes"),
        ("true", "false"),
        ("default", "1400"),
        ("single", "dual"),
        ("own", "adopted"),
    )
]


class Scene(NamedTuple):
    """A planned network and endpoint on a recording kernel; adopting, its bridge was there before."""

    kernel: RecordingKernel
    network: Network
    endpoint: Endpoint

    def commands(self) -> list[str]:
        taken = list(self.kernel.commands)
        self.kernel.commands.clear()
        return taken


def scene(combination: Combination) -> Scene:
    kernel = RecordingKernel()
    options = {
        "hairpin": combination.hairpin,
        "icc": combination.icc,
        "masquerade": combination.masquerade,
    }
    if combination.mtu != "default":
        options["mtu"] = combination.mtu
    if combination.bridge == "adopted":
        options["bridge"] = "br0"
        kernel.add_bridge("br0")
        kernel.add_address("br0", ip_interface("10.88.0.1/24"))
        kernel.set_link("br0", up=True)
        kernel.commands.clear()
    count = 2 if combination.stack == "dual" else 1
    subnets = (
        Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.1")),
        Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1")),
    )
    network = Network(
        id="ab" * 32,
        name="web",
        driver="bridge",
        subnets=subnets[:count],
        internal=combination.internal == "yes",
        options=options,
    )
    network = _DRIVER.plan_network(kernel, network, "store")
    endpoint = Endpoint(
        id="cd" * 32,
        network_id=network.id,
        owner=Owner(face="cli"),
        addresses=(ip_interface("10.88.0.2/24"), ip_interface("fd88::2/64"))[:count],
        ports=_PORTS,
    )
    return Scene(kernel, network, _DRIVER.plan_endpoint(network, endpoint))


def created(combination: Combination) -> Scene:
    made = scene(combination)
    with ExitStack() as undo:
        _DRIVER.create_network(made.kernel, made.network, "store", undo)
        undo.pop_all()
    return made


def joined(combination: Combination, *, sandbox: bool) -> Scene:
    made = created(combination)
    netns = made.kernel.create_netns("/run/netns/box") if sandbox else None
    made.kernel.commands.clear()
    with ExitStack() as undo:
        attachment = _DRIVER.join(
            made.kernel,
            made.network,
            made.endpoint,
            sandbox=netns,
            ifname="eth0",
            store_id="store",
            undo=undo,
        )
        undo.pop_all()
    return made._replace(endpoint=msgspec.structs.replace(made.endpoint, attachment=attachment))


def create_network(combination: Combination) -> list[str]:
    return created(combination).commands()


def join(combination: Combination) -> list[str]:
    return joined(combination, sandbox=True).commands()


def hand_over(combination: Combination) -> list[str]:
    return joined(combination, sandbox=False).commands()


def leave(combination: Combination) -> list[str]:
    made = joined(combination, sandbox=True)
    made.kernel.commands.clear()
    _DRIVER.leave(made.kernel, made.endpoint)
    _DRIVER.leave(made.kernel, made.endpoint)
    return made.commands()


def delete_network(combination: Combination) -> list[str]:
    made = created(combination)
    made.kernel.commands.clear()
    _DRIVER.delete_network(made.kernel, made.network)
    _DRIVER.delete_network(made.kernel, made.network)
    return made.commands()


OPERATIONS: list[tuple[Callable[[Combination], list[str]], tuple[str, ...]]] = [
    (create_network, ("internal", "mtu", "stack", "bridge")),
    (join, ("hairpin", "icc", "internal", "mtu", "stack", "bridge")),
    (hand_over, ("hairpin", "icc", "mtu", "bridge")),
    (leave, ()),
    (delete_network, ("internal", "stack", "bridge")),
]


def same_whatever(operation: Callable[[Combination], list[str]], combination: Combination) -> Combination:
    """Give the combination that stands for all with the same result, where one option overrides another."""
    if operation is create_network and combination.bridge == "adopted":
        combination = combination._replace(mtu="default")  # the bridge keeps the MTU it has
    if operation is delete_network and combination.bridge == "own":
        combination = combination._replace(internal="no", stack="single")  # all goes with the link
    return combination


@pytest.mark.parametrize(
    ("operation", "matters"), OPERATIONS, ids=lambda value: getattr(value, "__name__", "")
)
def test_each_combination_gives_the_golden_commands(
    operation: Callable[[Combination], list[str]], matters: tuple[str, ...]
) -> None:
    path = _HERE / f"{operation.__name__}.txt"
    golden = {} if _UPDATE else dict(sections(path.read_text()))
    seen: set[str] = set()
    for combination in COMBINATIONS:
        title = same_whatever(operation, combination).title(matters)
        text = "\n".join(operation(combination))
        seen.add(title)
        if _UPDATE:
            golden.setdefault(title, text)
        assert text == golden.get(title), f"{combination} in {path.name}, section {title!r}"
    assert seen == golden.keys(), "a section that no combination gives"
    if _UPDATE:
        path.write_text("\n\n".join(f"# {title}\n{text}".rstrip() for title, text in golden.items()) + "\n")


def test_the_ruleset_is_the_golden_text() -> None:
    path = _HERE / "ruleset.txt"
    if _UPDATE:
        path.write_text(RULESET)

    assert path.read_text() == RULESET


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Split a golden file into (title, commands)."""
    for block in text.rstrip("\n").split("\n\n"):
        title, _, commands = block.partition("\n")
        yield title.removeprefix("# "), commands
