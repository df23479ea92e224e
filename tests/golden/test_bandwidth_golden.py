"""The commands of shaping, checking and taking it away, for each combination of directions, against committed text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from dovetail.features.bandwidth import differences, ifb_name, shape, unshape
from dovetail.kernel.protocol import LinkSpec
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.bandwidth import Bandwidth, parse_bandwidth

_HERE = Path(__file__).parent / "bandwidth"
_IFB = ifb_name("mynet", "ctr1", "eth0")
COMBINATIONS = {
    "nothing": parse_bandwidth(),
    "ingress": parse_bandwidth(ingress_rate=8_000_000, ingress_burst=800_000),
    "egress": parse_bandwidth(egress_rate=50_000_000_000, egress_burst=4_000_000),
    "both": parse_bandwidth(
        ingress_rate=8_000_000, ingress_burst=800_000, egress_rate=4_000_000, egress_burst=400_000
    ),
}


def kernel_with_veth() -> RecordingKernel:
    kernel = RecordingKernel()
    kernel.add_veth(LinkSpec("vhost"), LinkSpec("eth0"))
    kernel.commands.clear()
    return kernel


def act(kernel: RecordingKernel, bandwidth: Bandwidth) -> None:
    with ExitStack() as undo:
        shape(kernel, "vhost", _IFB, bandwidth, mtu=1500, alias="dovetail:store/endpoint/e1", undo=undo)
        undo.pop_all()


def results(operation: str) -> Iterator[tuple[str, str, object]]:
    for title, bandwidth in COMBINATIONS.items():
        kernel = kernel_with_veth()
        act(kernel, bandwidth)
        if operation == "unshape":
            assert differences(kernel, "vhost", _IFB, bandwidth) == []
            kernel.commands.clear()
            unshape(kernel, _IFB, host_link="vhost")
        yield title, "\n".join(kernel.commands), bandwidth


def test_shaping(compare: Callable[..., None]) -> None:
    compare(_HERE / "shape.txt", results("shape"))


def test_taking_it_away(compare: Callable[..., None]) -> None:
    compare(_HERE / "unshape.txt", results("unshape"))
