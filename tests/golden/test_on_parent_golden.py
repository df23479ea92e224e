"""The commands of macvlan and ipvlan networks, for each combination of options, against committed text.

As for bridge networks: each combination of all options is compared with the section of those that matter to an
operation, so it is tested as well that the others do not. What is a word in the command and nothing else, the
mode and the parent's name, stands as MODE and PARENT.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from dovetail.drivers.ipvlan import IpvlanDriver
from dovetail.drivers.macvlan import MacvlanDriver
from dovetail.kernel.protocol import Dummy, LinkSpec
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.mac import Mac
from dovetail.model.network import HOST, Network, Subnet

_HERE = Path(__file__).parent
_DRIVERS = {"macvlan": MacvlanDriver(), "ipvlan": IpvlanDriver()}
_SUBNETS = (
    Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.254")),
    Subnet(subnet=ip_network("fd88::/64")),
)
_HOSTS = (ip_address("10.88.0.9"), ip_address("fd88::9"))


class Combination(NamedTuple):
    """One combination; mode of an ipvlan is its mode and its flag."""

    driver: str
    mode: str
    parent: str
    internal: str
    host: str
    mtu: str
    stack: str

    def title(self, matters: tuple[str, ...]) -> str:
        routed = "yes" if self.mode.startswith("l3") else "no"
        mac = "own" if self.driver == "macvlan" and self.mode != "passthru" else "parent's"
        values = {**self._asdict(), "routed": routed, "mac": mac}
        return " ".join(f"{name}={values[name]}" for name in matters) or "always"


def combinations(driver: str) -> list[Combination]:
    modes = {
        "macvlan": ("bridge", "private", "vepa", "passthru"),
        "ipvlan": tuple("/".join(pair) for pair in itertools.product(("l2", "l3", "l3s"), _FLAGS)),
    }
    found = itertools.product(
        (driver,),
        modes[driver],
        ("up0", "up0.10", "none"),
        ("no", "yes"),
        ("no", "yes"),
        ("parent's", "1400"),
        ("single", "dual"),
    )
    return [c for c in itertools.starmap(Combination, found) if c.host == "no" or _meet(c)]


_FLAGS = ("bridge", "private", "vepa")


def _meet(combination: Combination) -> bool:
    """Say whether links of a parent reach each other, the host's too: only then host_access is taken."""
    return combination.mode.endswith("bridge")


class Scene(NamedTuple):
    """A planned network and endpoint on a recording kernel with the network card up0."""

    kernel: RecordingKernel
    network: Network
    endpoint: Endpoint

    def commands(self) -> list[str]:
        taken = list(self.kernel.commands)
        self.kernel.commands.clear()
        return taken


def scene(combination: Combination) -> Scene:
    kernel = RecordingKernel()
    kernel.add_link(LinkSpec("up0", mac=Mac("02:00:00:00:00:01"), up=True), Dummy())
    kernel.commands.clear()
    mode, _, flag = combination.mode.partition("/")
    options = {"mode": mode, "host_access": "true" if combination.host == "yes" else "false"}
    if flag:
        options["flag"] = flag
    if combination.parent != "none":
        options["parent"] = combination.parent
    if combination.mtu != "parent's":
        options["mtu"] = combination.mtu
    count = 2 if combination.stack == "dual" else 1
    subnets = _SUBNETS[:count]
    if combination.host == "yes":
        subnets = tuple(
            msgspec.structs.replace(s, aux={HOST: a}) for s, a in zip(subnets, _HOSTS, strict=False)
        )
    driver = _DRIVERS[combination.driver]
    network = Network(
        id="ab" * 32,
        name="lan",
        driver=combination.driver,
        subnets=subnets,
        internal=combination.internal == "yes",
        options=options,
    )
    network = driver.plan_network(kernel, network, "store")
    endpoint = Endpoint(
        id="cd" * 32,
        network_id=network.id,
        owner=Owner(face="cli"),
        addresses=(ip_interface("10.88.0.2/24"), ip_interface("fd88::2/64"))[:count],
    )
    return Scene(kernel, network, driver.plan_endpoint(network, endpoint))


def created(combination: Combination) -> Scene:
    made = scene(combination)
    with ExitStack() as undo:
        _DRIVERS[combination.driver].create_network(made.kernel, made.network, "store", undo)
        undo.pop_all()
    return made


def joined(combination: Combination, *, sandbox: bool) -> Scene:
    made = created(combination)
    netns = made.kernel.create_netns("/run/netns/box") if sandbox else None
    made.kernel.commands.clear()
    with ExitStack() as undo:
        attachment = _DRIVERS[combination.driver].join(
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
    """The commands, and what dockerd is told to do inside."""
    made = joined(combination, sandbox=False)
    attachment = made.endpoint.attachment
    assert attachment is not None
    inside = [f"{r.destination}{f' via {r.gateway}' if r.gateway else ''}" for r in attachment.routes]
    inside += [f"default via {gateway}" for gateway in attachment.gateways]
    return [*made.commands(), *(f"inside: {words}" for words in inside)]


def leave(combination: Combination) -> list[str]:
    """Of one that was joined, then of one that was handed over; each twice, as a caller may."""
    driver = _DRIVERS[combination.driver]
    made = joined(combination, sandbox=True)
    made.kernel.commands.clear()
    for _ in range(2):
        driver.leave(made.kernel, made.endpoint, sandbox="/run/netns/box")
    waiting = joined(combination, sandbox=False)
    waiting.kernel.commands.clear()
    for _ in range(2):
        driver.leave(waiting.kernel, waiting.endpoint)
    return [*made.commands(), *waiting.commands()]


def delete_network(combination: Combination) -> list[str]:
    made = created(combination)
    made.kernel.commands.clear()
    driver = _DRIVERS[combination.driver]
    for _ in range(2):
        driver.delete_network(made.kernel, made.network)
        driver.release_parent(made.kernel, made.network, ())
    return made.commands()


def normal(combination: Combination, commands: list[str]) -> str:
    """Put MODE and PARENT in the place of what differs by no more than that word."""
    words = f"type {combination.driver} mode {combination.mode.replace('/', ' ')}"
    prefix = {"macvlan": "dm", "ipvlan": "di"}[combination.driver]
    parent = combination.parent if combination.parent != "none" else f"{prefix}-{'ab' * 6}"
    lines = (line.replace(words, f"type {combination.driver} MODE") for line in commands)
    return "\n".join(line.replace(f"link {parent} name", "link PARENT name") for line in lines)


OPERATIONS: list[tuple[Callable[[Combination], list[str]], tuple[str, ...]]] = [
    (create_network, ("parent", "host", "mtu", "stack")),
    (join, ("routed", "mac", "internal", "mtu", "stack")),
    (hand_over, ("routed", "mac", "internal", "mtu", "stack")),
    (leave, ()),
    (delete_network, ("parent", "host")),
]


def same_whatever(operation: Callable[[Combination], list[str]], combination: Combination) -> Combination:
    """Give the combination that stands for all with the same result, where one option overrides another."""
    if operation in {join, hand_over} and combination.parent == "none":
        combination = combination._replace(internal="yes")  # there is no way out
    if combination.internal == "yes":
        combination = combination._replace(mode=combination.mode.replace("l3s", "l2").replace("l3", "l2"))
    if operation is hand_over and not (combination.mode.startswith("l3")):
        combination = combination._replace(stack="single")  # IPv6 has no gateway here
    if operation is create_network and combination.host == "no":
        combination = combination._replace(stack="single")  # the host has no address
    return combination


@pytest.mark.parametrize("driver", list(_DRIVERS))
@pytest.mark.parametrize(
    ("operation", "matters"), OPERATIONS, ids=lambda value: getattr(value, "__name__", "")
)
def test_each_combination_gives_the_golden_commands(
    driver: str,
    operation: Callable[[Combination], list[str]],
    matters: tuple[str, ...],
    compare: Callable[..., None],
) -> None:
    def results() -> Iterator[tuple[str, str, object]]:
        for combination in combinations(driver):
            title = same_whatever(operation, combination).title(matters)
            yield title, normal(combination, operation(combination)), combination

    compare(_HERE / driver / f"{operation.__name__}.txt", results())
