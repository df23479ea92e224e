"""Calls of Docker's, sorted into the operations that they belong to."""

from __future__ import annotations

from collections.abc import Iterable

from dovetail.cli.sequence import Operation, commands, operations
from dovetail.cli.trace import sequence_text
from dovetail.engine.trace import Step


class Trace:
    """Root steps a millisecond apart, as a daemon would have noted them."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.now = 1000.0

    def docker(self, method: str, *, error: str = "", **detail: str) -> Trace:
        """Note a call of Docker's; the half before the dot may be left out."""
        ipam = method in {"RequestPool", "RequestAddress", "ReleaseAddress", "ReleasePool"}
        name = method if "." in method else f"{'IpamDriver' if ipam else 'NetworkDriver'}.{method}"
        return self.step(Step(layer="docker", name=name, detail=detail, error=error))

    def step(self, step: Step) -> Trace:
        step.started, step.duration_ms = self.now, 0.5
        self.steps.append(step)
        self.now += 0.001
        return self

    def network(self, network: str, subnet: str) -> Trace:
        pool = f"dovetail/{subnet}"
        gateway = subnet.replace(".0/", ".1/")
        self.docker("RequestPool", pool="any IPv4", answer=subnet)
        self.docker("RequestAddress", pool=pool, type="gateway", answer=gateway)
        return self.docker("CreateNetwork", network=network, pools=subnet)

    def join(self, network: str, endpoint: str, address: str) -> Trace:
        self.docker("RequestAddress", pool="dovetail/10.0.0.0/24", answer=f"{address}/24")
        self.docker("CreateEndpoint", network=network, endpoint=endpoint, address=f"{address}/24")
        return self.docker("Join", network=network, endpoint=endpoint, sandbox="/run/x")


def titles(steps: Iterable[Step]) -> list[tuple[str, int]]:
    return [(operation.title.partition(":")[0], len(operation.steps)) for operation in operations(steps)]


def test_the_life_of_a_container_is_four_operations() -> None:
    trace = Trace().network("n1", "10.0.0.0/24").join("n1", "e1", "10.0.0.2")
    trace.docker("ProgramExternalConnectivity", network="n1", endpoint="e1")
    trace.docker("EndpointOperInfo", network="n1", endpoint="e1")
    trace.docker("RevokeExternalConnectivity", network="n1", endpoint="e1")
    trace.docker("Leave", network="n1", endpoint="e1").docker("DeleteEndpoint", network="n1", endpoint="e1")
    trace.docker("ReleaseAddress", pool="dovetail/10.0.0.0/24", address="10.0.0.2")
    trace.docker("ReleaseAddress", pool="dovetail/10.0.0.0/24", address="10.0.0.1")
    trace.docker("ReleasePool", pool="dovetail/10.0.0.0/24").docker("DeleteNetwork", network="n1")

    assert titles(trace.steps) == [
        ("docker network create", 3),
        ("docker run or network connect", 5),
        ("docker stop or network disconnect", 4),
        ("docker network rm", 3),
    ]


def test_two_containers_that_start_at_once_are_told_apart() -> None:
    trace = Trace()
    for endpoint in ("1", "2"):
        trace.docker("RequestAddress", pool="p", answer=f"10.0.0.{endpoint}/24")
        trace.docker("CreateEndpoint", network="n", endpoint=f"e{endpoint}", address=f"10.0.0.{endpoint}/24")
    for endpoint in ("e2", "e1"):
        trace.docker("Join", network="n", endpoint=endpoint)

    found = operations(trace.steps)

    assert [operation.title for operation in found] == [
        "docker run or network connect: endpoint e1 joins network n",
        "docker run or network connect: endpoint e2 joins network n",
    ]
    assert [len(operation.steps) for operation in found] == [3, 3]


def test_an_address_of_each_family_belongs_to_one_endpoint() -> None:
    trace = Trace().docker("RequestAddress", pool="p4", answer="10.0.0.2/24")
    trace.docker("RequestAddress", pool="p6", answer="fd00::2/64")
    trace.docker("CreateEndpoint", network="n", endpoint="e", address="10.0.0.2/24 fd00::2/64")

    assert titles(trace.steps) == [("docker run or network connect", 3)]


def test_a_reserved_address_belongs_to_the_network_that_is_made() -> None:
    trace = Trace().docker("RequestPool", pool="10.0.0.0/24", answer="10.0.0.0/24")
    trace.docker("RequestAddress", pool="dovetail/10.0.0.0/24", address="10.0.0.9", answer="10.0.0.9/24")
    trace.docker("CreateNetwork", network="n", pools="10.0.0.0/24")

    assert titles(trace.steps) == [("docker network create", 3)]


def test_a_way_out_that_changes_is_part_of_the_connect_or_disconnect_that_changed_it() -> None:
    trace = Trace().join("n1", "e1", "10.0.0.2").join("n2", "e2", "10.1.0.2")
    trace.docker("RevokeExternalConnectivity", network="n1", endpoint="e1")
    trace.docker("ProgramExternalConnectivity", network="n2", endpoint="e2")
    trace.docker("EndpointOperInfo", network="n1", endpoint="e1")
    trace.docker("Leave", network="n2", endpoint="e2")
    trace.docker("ProgramExternalConnectivity", network="n1", endpoint="e1")
    trace.docker("DeleteEndpoint", network="n2", endpoint="e2")
    trace.docker("ReleaseAddress", pool="p", address="10.1.0.2")

    found = operations(trace.steps)

    assert [(operation.title.partition(": ")[2], len(operation.steps)) for operation in found] == [
        ("endpoint e1 joins network n1", 3),
        ("endpoint e2 joins network n2", 6),
        ("endpoint e2 leaves network n2", 4),
    ]


def test_calls_long_apart_are_two_operations() -> None:
    trace = Trace().docker("Leave", network="n", endpoint="e")
    trace.now += 60
    trace.docker("Leave", network="n", endpoint="e")

    assert titles(trace.steps) == [("docker stop or network disconnect", 1)] * 2


def test_what_came_by_another_face_is_an_operation_with_the_parts_of_the_engine() -> None:
    kernel = Step(layer="kernel", name="add_veth", detail={"command": "ip link add a ; ip link set a up"})
    driver = Step(layer="driver", name="bridge join", duration_ms=0.4, started=1000.0002, children=[kernel])
    attach = Step(layer="engine", name="attach", children=[Step(layer="ipam", name="addresses"), driver])
    trace = Trace().step(Step(layer="cni", name="ADD", detail={"container": "c1"}, children=[attach]))

    (operation,) = operations(trace.steps)

    lines = sequence_text(operation).splitlines()
    assert operation.title == "cni ADD  container=c1"
    assert [line.split()[2:] for line in lines[1:3]] == [
        ["1", "ipam:", "addresses"],
        ["2", "driver:", "bridge", "join"],
    ]
    assert [line.strip() for line in lines[3:]] == ["ip link add a", "ip link set a up"]
    assert len(sequence_text(operation, depth=0).splitlines()) == 3


def test_a_call_shows_what_it_asked_what_it_was_answered_and_how_it_failed() -> None:
    trace = Trace().docker("RequestPool", pool="10.0.0.0/8", answer="10.0.0.0/8", error="it is taken")

    text = sequence_text(operations(trace.steps)[0])

    assert "pool 10.0.0.0/8  ->  10.0.0.0/8  FAILED: it is taken" in text


def test_a_command_of_several_lines_is_shown_by_its_first() -> None:
    step = Step(layer="kernel", name="nft_apply", detail={"command": "nft -f - <<'EOF'\nadd table x\nEOF"})

    assert list(commands(step)) == ["nft -f - <<'EOF' …"]


def test_an_operation_of_nothing_but_activation_is_the_start_of_dockerd() -> None:
    trace = Trace().docker("Plugin.Activate").docker("IpamDriver.GetCapabilities")

    assert titles(trace.steps) == [("dockerd starts, or meets dovetail for the first time", 2)]
    assert isinstance(operations(trace.steps)[0], Operation)
