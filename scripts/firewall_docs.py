"""The parts of ``docs/explanation/firewall.md`` that come from the ruleset and from what networks add to it.

The rules, the sets and what each is for are read out of the text that is applied. The elements of a scene are what the
bridge driver and the features make of its options, the same functions that fill the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import NamedTuple

from dovetail.drivers.bridge import BridgeDriver
from dovetail.engine.ports import bind
from dovetail.features.isolation import Isolation
from dovetail.features.masquerade import Masquerade
from dovetail.features.portmap import PortMap
from dovetail.features.ruleset import RULESET
from dovetail.kernel.commands import element_text
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet
from dovetail.model.port import parse_publish

__all__ = ["PARTS"]

_COMMENT = re.compile(r'\s*comment "([^"]*)"')
_SET = re.compile(r"^ +(?:set|map) (\w+) \{ type ([^;]+);(.*)\}$", re.MULTILINE)
_CHAIN = re.compile(r"((?:^    #[^\n]*\n)*)^    chain (\w+) \{\n(.*?)^    \}", re.MULTILINE | re.DOTALL)
_HOOK = re.compile(r"type (\w+) hook (\w+) priority (-?\w+);")
_FEATURES = (Isolation(), Masquerade(), PortMap())


def sets() -> str:
    """Describe the sets and maps; those of IPv6 are told with their twins."""
    rows = []
    for name, kind, rest in _SET.findall(RULESET):
        if name.removesuffix("_at").endswith("6"):
            continue
        twin = f"`{name}` `{name.replace('4', '6')}`" if "4" in name else f"`{name}`"
        comment = _COMMENT.search(rest)
        rows.append((twin, kind.replace("ipv4_addr", "address"), comment[1] if comment else ""))
    return _table(("set", "of what", "what for"), rows)


def chains() -> str:
    """Describe each chain: when it is met, and what each of its rules is for."""
    parts = []
    for notes, name, body in _CHAIN.findall(RULESET):
        hook = _HOOK.search(body)
        met = f"{hook[1]}, hook {hook[2]}, priority {hook[3]}" if hook else "a rule leads here"
        note = " ".join(line.strip().removeprefix("# ") for line in notes.splitlines())
        rows = [(f"`{rule}`", why) for rule, why in _rules(body)]
        text = "\n\n".join(
            part for part in (note, _table(("rule", "what for"), rows) if rows else "") if part
        )
        parts.append(f"**`{name}`** ({met})\n\n{text or 'Empty.'}")
    return "\n\n".join(parts)


def _rules(body: str) -> Iterator[tuple[str, str]]:
    for line in body.splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#") and not _HOOK.search(rule):
            comment = _COMMENT.search(rule)
            yield _COMMENT.sub("", rule), comment[1] if comment else ""


class Scene(NamedTuple):
    """A network and a container on it. `options` and `ports` are as a user gives them."""

    title: str
    options: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    internal: bool = False
    ipv6: bool = False


_SCENES = (
    Scene("A network with a published port", ports=("8080:80",), ipv6=True),
    Scene("A port of one address of the host", ports=("127.0.0.1:8443:443",)),
    Scene("A network that leaves by an address of its own", ("host_ipv4=192.0.2.7",)),
    Scene(
        "A routed network with a published port",
        ("gateway_mode_ipv4=routed", "gateway_mode_ipv6=routed"),
        ("80",),
        ipv6=True,
    ),
    Scene("A network that trusts a link", ("trusted_host_interfaces=wg0",), ("8080:80",)),
    Scene("A network whose endpoints are kept apart, open to the outside", ("icc=false", "protected=false")),
    Scene("An internal network", internal=True),
)


def scenes() -> str:
    """Show what some networks add to the sets."""
    return "\n\n".join(_scene(scene) for scene in _SCENES)


def _scene(scene: Scene) -> str:
    command = ["dovetail network create web", "--subnet 10.88.0.0/24"]
    command += ["--subnet fd88::/64"] if scene.ipv6 else []
    command += ["--internal"] if scene.internal else []
    command += [f"-o {option}" for option in scene.options]
    lines = [" ".join(command)]
    lines += ["dovetail network connect web a " + " ".join(f"-p {port}" for port in scene.ports)] * bool(
        scene.ports
    )
    listed: dict[str, list[str]] = {}
    for element in _elements(scene):
        listed.setdefault(element.set, []).append(element_text(element))
    rows = [(f"`{name}`", " ".join(f"`{text}`" for text in texts)) for name, texts in listed.items()]
    shown = "\n".join(lines)
    return f"**{scene.title}**\n\n```\n{shown}\n```\n\n{_table(('set', 'elements'), rows)}"


def _elements(scene: Scene) -> list[Element]:
    subnets = [("10.88.0.0/24", "10.88.0.1", "10.88.0.2/24")]
    subnets += [("fd88::/64", "fd88::1", "fd88::2/64")] if scene.ipv6 else []
    network = Network(
        id="ab" * 32,
        name="web",
        driver="bridge",
        subnets=tuple(Subnet(subnet=ip_network(s), gateway=ip_address(g)) for s, g, _ in subnets),
        internal=scene.internal,
        options=dict(option.split("=", 1) for option in scene.options),
    )
    network = BridgeDriver().plan_network(RecordingKernel(), network, "docs")
    assert network.firewall is not None
    ports = [port for text in scene.ports for port in parse_publish(text)]
    endpoint = Endpoint(
        id="cd" * 32,
        network_id=network.id,
        owner=Owner(face="cli"),
        addresses=tuple(ip_interface(address) for *_, address in subnets),
        ports=tuple(bind(network.firewall, port) for port in ports),
    )
    found = [element for feature in _FEATURES for element in feature.network_elements(network)]
    return found + [e for feature in _FEATURES for e in feature.endpoint_elements(network, endpoint)]


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


PARTS: dict[str, Callable[[], str]] = {"sets": sets, "chains": chains, "scenes": scenes}
