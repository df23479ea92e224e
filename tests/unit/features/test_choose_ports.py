from __future__ import annotations

from ipaddress import ip_address

import pytest

from dovetail.errors import PortInUse
from dovetail.features import portmap
from dovetail.features.portmap import choose_ports
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.port import PortMapping


def port(host: int, *, ip: str = "", protocol: str = "tcp", to: int = 80) -> PortMapping:
    return PortMapping(
        container_port=to,
        host_port=host,
        protocol=protocol,  # type: ignore[arg-type]
        host_ip=ip_address(ip) if ip else None,
    )


def test_a_port_that_nobody_has_stays_as_it_was_asked_for() -> None:
    kernel = RecordingKernel()

    assert choose_ports(kernel, [port(8080)], [port(8081)]) == (port(8080),)
    assert kernel.mutations == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("", ""),
        ("", "192.0.2.1"),
        ("192.0.2.1", ""),
        ("192.0.2.1", "192.0.2.1"),
        ("0.0.0.0", "192.0.2.1"),
        ("::", "fd00::1"),
    ],
)
def test_a_port_that_is_published_on_an_overlapping_address_is_refused(one: str, other: str) -> None:
    with pytest.raises(PortInUse, match="published already") as caught:
        choose_ports(RecordingKernel(), [port(8080, ip=one)], [port(8080, ip=other, to=99)])

    assert "8080" in str(caught.value)
    assert "->99/tcp" in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (port(8080, ip="192.0.2.1"), port(8080, ip="192.0.2.2")),
        (port(8080, ip="0.0.0.0"), port(8080, ip="fd00::1")),
        (port(8080), port(8080, protocol="udp")),
    ],
)
def test_ports_that_do_not_overlap_go_together(one: PortMapping, other: PortMapping) -> None:
    assert choose_ports(RecordingKernel(), [one], [other]) == (one,)


def test_the_same_port_twice_in_one_request_is_refused() -> None:
    with pytest.raises(PortInUse):
        choose_ports(RecordingKernel(), [port(8080), port(8080, to=81)], [])


def test_a_port_a_local_process_is_bound_to_is_refused() -> None:
    kernel = RecordingKernel()
    kernel.bound = {("tcp", 8080)}

    with pytest.raises(PortInUse, match="bound by a local process"):
        choose_ports(kernel, [port(8080)], [])


def test_chosen_ports_are_dynamic_ones_and_differ() -> None:
    chosen = choose_ports(RecordingKernel(), [port(0) for _ in range(200)], [])

    numbers = {mapping.host_port for mapping in chosen}
    assert len(numbers) == 200
    assert min(numbers) >= 49153


def test_a_chosen_port_takes_neither_an_asked_for_nor_a_published_nor_a_bound_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(portmap, "_CHOSEN", range(50000, 50004))
    kernel = RecordingKernel()
    kernel.bound = {("tcp", 50001)}

    chosen = choose_ports(kernel, [port(0), port(50003)], [port(50000)])

    assert [mapping.host_port for mapping in chosen] == [50002, 50003]
    with pytest.raises(PortInUse, match="no tcp port of the host from 50000 to 50003 is free"):
        choose_ports(kernel, [port(0), port(0)], [port(50000), port(50003)])


def one_of(first: int, last: int, *, to: int = 80) -> PortMapping:
    return PortMapping(container_port=to, host_port=first, host_port_end=last)


def test_of_a_range_the_first_port_that_is_free_is_taken() -> None:
    kernel = RecordingKernel()
    kernel.bound = {("tcp", 8001)}

    chosen = choose_ports(kernel, [one_of(8000, 8010), one_of(8000, 8010, to=81)], [port(8000)])

    assert [str(mapping) for mapping in chosen] == ["8002->80/tcp", "8003->81/tcp"]


def test_a_range_takes_no_asked_for_port_away() -> None:
    chosen = choose_ports(RecordingKernel(), [one_of(8000, 8001), port(8000, to=81)], [])

    assert [str(mapping) for mapping in chosen] == ["8001->80/tcp", "8000->81/tcp"]


def test_the_narrower_range_chooses_first() -> None:
    chosen = choose_ports(RecordingKernel(), [one_of(8000, 8002), one_of(8000, 8001), one_of(8000, 8001)], [])

    assert [mapping.host_port for mapping in chosen] == [8002, 8000, 8001]


def test_a_range_without_a_free_port_is_refused_by_its_ends() -> None:
    with pytest.raises(PortInUse, match="no tcp port of the host from 8000 to 8001 is free"):
        choose_ports(RecordingKernel(), [one_of(8000, 8001)], [port(8000), port(8001)])
