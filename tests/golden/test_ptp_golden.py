"""The commands and elements of ptp networks, for each combination of options, against committed text.

As for bridge networks: each combination of all options is compared with the section of those that matter to an
operation, so it is tested as well that the others do not.
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

from dovetail.drivers.ptp import PtpDriver
from dovetail.features.isolation import Isolation
from dovetail.features.masquerade import Masquerade
from dovetail.features.portmap import PortMap
from dovetail.features.ruleset import RULESET
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet
from dovetail.model.port import PortMapping

_HERE = Path(__file__).parent / "ptp"
_DRIVER = PtpDriver()
_FEATURES = (Isolation(), Masquerade(), PortMap())
_PORTS = (
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=53, protocol="udp", host_ip=ip_address("192.0.2.1")),
)


class Combination(NamedTuple):
    """One combination; ``two`` has a second IPv4 subnet beside that of the endpoint, and no IPv6."""

    icc: str
    internal: str
    masquerade: str
    mode: str
    mtu: str
    stack: str

    def title(self, matters: tuple[str, ...]) -> str:
        values = self._asdict()
        return " ".join(f"{name}={values[name]}" for name in matters) or "always"


COMBINATIONS = [
    Combination(*values)
    for values in itertools.product(
        ("true", "false"),
        ("no", "yes"),
        ("true", "false"),
        ("nat", "nat-unprotected", "routed"),
        ("default", "1400"),
        ("single", "dual", "two"),
    )
]
_SUBNETS = (
    Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.1")),
    Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1")),
    Subnet(subnet=ip_network("10.89.0.0/24"), gateway=ip_address("10.89.0.1")),
)
_STACKS = {"single": _SUBNETS[:1], "dual": _SUBNETS[:2], "two": (_SUBNETS[0], _SUBNETS[2])}


class Scene(NamedTuple):
    """A planned network and endpoint on a recording kernel."""

    kernel: RecordingKernel
    network: Network
    endpoint: Endpoint


def scene(combination: Combination) -> Scene:
    kernel = RecordingKernel()
    options = {
        "icc": combination.icc,
        "masquerade": combination.masquerade,
        "gateway_mode_ipv4": combination.mode,
        "gateway_mode_ipv6": combination.mode,
    }
    if combination.mtu != "default":
        options["mtu"] = combination.mtu
    network = Network(
        id="ab" * 32,
        name="web",
        driver="ptp",
        subnets=_STACKS[combination.stack],
        internal=combination.internal == "yes",
        options=options,
    )
    network = _DRIVER.plan_network(kernel, network, "store")
    endpoint = Endpoint(
        id="cd" * 32,
        network_id=network.id,
        owner=Owner(face="cli"),
        addresses=(ip_interface("10.88.0.2/24"), ip_interface("fd88::2/64"))[
            : 2 if combination.stack == "dual" else 1
        ],
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
    return created(combination).kernel.commands


def join(combination: Combination) -> list[str]:
    return joined(combination, sandbox=True).kernel.commands


def hand_over(combination: Combination) -> list[str]:
    """The commands, and what dockerd is told to do inside."""
    made = joined(combination, sandbox=False)
    attachment = made.endpoint.attachment
    assert attachment is not None
    inside = [f"{r.destination}{f' via {r.gateway}' if r.gateway else ''}" for r in attachment.routes]
    inside += [f"default via {gateway}" for gateway in attachment.gateways]
    return [*made.kernel.commands, *(f"inside: {words}" for words in inside)]


def leave(combination: Combination) -> list[str]:
    made = joined(combination, sandbox=True)
    made.kernel.commands.clear()
    _DRIVER.leave(made.kernel, made.endpoint)
    _DRIVER.leave(made.kernel, made.endpoint)
    return made.kernel.commands


def delete_network(combination: Combination) -> list[str]:
    made = created(combination)
    made.kernel.commands.clear()
    _DRIVER.delete_network(made.kernel, made.network)
    _DRIVER.delete_network(made.kernel, made.network)
    return made.kernel.commands


def elements(combination: Combination) -> list[str]:
    made = scene(combination)
    made.kernel.nft_apply(RULESET)
    made.kernel.commands.clear()
    network, endpoint = made.network, made.endpoint
    made.kernel.nft_add_elements([e for f in _FEATURES for e in f.network_elements(network)])
    made.kernel.nft_add_elements([e for f in _FEATURES for e in f.link_elements(network, endpoint)])
    made.kernel.nft_add_elements([e for f in _FEATURES for e in f.endpoint_elements(network, endpoint)])
    return made.kernel.commands


OPERATIONS: list[tuple[Callable[[Combination], list[str]], tuple[str, ...]]] = [
    (create_network, ("stack",)),
    (join, ("internal", "mode", "mtu", "stack")),
    (hand_over, ("internal", "mode", "mtu", "stack")),
    (leave, ()),
    (delete_network, ("stack",)),
    (elements, ("icc", "internal", "masquerade", "mode", "stack")),
]


def same_whatever(operation: Callable[[Combination], list[str]], combination: Combination) -> Combination:
    """Give the combination that stands for all with the same result, where one option overrides another."""
    if operation in {join, hand_over} and (combination.internal == "yes" or combination.mode != "routed"):
        combination = combination._replace(
            mode="nat"
        )  # only where ports are published 127.0.0.1 leads to them
    if operation is elements and combination.internal == "yes":
        combination = combination._replace(masquerade="true", mode="nat")  # nothing leaves or enters
    if operation is elements and combination.mode == "routed":
        combination = combination._replace(masquerade="true")  # nothing is translated
    return combination


@pytest.mark.parametrize(
    ("operation", "matters"), OPERATIONS, ids=lambda value: getattr(value, "__name__", "")
)
def test_each_combination_gives_the_golden_commands(
    operation: Callable[[Combination], list[str]], matters: tuple[str, ...], compare: Callable[..., None]
) -> None:
    def results() -> Iterator[tuple[str, str, Combination]]:
        for combination in COMBINATIONS:
            title = same_whatever(operation, combination).title(matters)
            yield title, "\n".join(operation(combination)), combination

    compare(_HERE / f"{operation.__name__}.txt", results())
