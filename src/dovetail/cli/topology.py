"""``dovetail topology``."""

from __future__ import annotations

import click

from dovetail.api.topology import Topology
from dovetail.api.views import EndpointView, NetworkView, SandboxView
from dovetail.cli.command import Verb
from dovetail.cli.render import Branch, interface, known, tree
from dovetail.cli.session import Session, pass_session
from dovetail.model.codec import decode

__all__ = ["draw", "topology"]


@click.command(cls=Verb, examples=("dovetail topology", "dovetail topology --format json"))
@pass_session
def topology(session: Session) -> None:
    """Draw the host, its networks and endpoints.

    An endpoint's line has the container's or sandbox's name, the face it came by (docker, cni, cli), its interface,
    addresses and published ports, and the host's end of its link.
    """
    payload = session.request("GET", "/v1/topology")
    session.show(payload, draw(decode(payload, Topology)))


def draw(view: Topology) -> str:
    """Draw a host."""
    limbs = [_network(network) for network in view.networks]
    if view.sandboxes:
        limbs.append(Branch("on no network", [_sandbox(sandbox) for sandbox in view.sandboxes]))
    return tree(Branch(f"host {view.host}", limbs or [Branch("no networks")]))


def _network(network: NetworkView) -> Branch:
    names = {binding.name for binding in network.bindings} - {"", network.name}
    words = [f"network {known(network.name, sorted(names))}", f"({network.driver}"]
    words[-1] += ", internal)" if network.internal else ")"
    words += [str(subnet.subnet) for subnet in network.subnets]
    if network.parent:
        words.append(f"parent {network.parent}")
    if network.link:
        words.append(f"link {network.link}")
    if network.status != "active":
        words.append(network.status.upper())
    lines = _aligned([_cells(endpoint) for endpoint in network.endpoints])
    return Branch("  ".join(words), [Branch(line) for line in lines] or [Branch("no endpoints")])


def _cells(endpoint: EndpointView) -> tuple[str, ...]:
    ports = " ".join(map(str, endpoint.ports))
    status = "" if endpoint.status == "joined" else endpoint.status.upper()
    return (
        endpoint.container,
        endpoint.face,
        interface(endpoint.ifname, endpoint.face),
        " ".join(map(str, endpoint.addresses)),
        endpoint.link,
        f"ports {ports}" if ports else "",
        status,
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip()
        for row in rows
    ]


def _sandbox(sandbox: SandboxView) -> Branch:
    return Branch(f"{sandbox.name}  {sandbox.face}  {sandbox.netns}")
