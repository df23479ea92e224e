"""A real containerd on a directory of plugins, asked over its CRI socket as the kubelet asks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from long_form import LONG

pytestmark = [pytest.mark.root, pytest.mark.interop]

# the long form is of `make soak`
COUNT, AT_ONCE = (100, 16) if LONG else (10, 4)
RATES = {"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "4M"}


def check_nothing_is_left(containerd: Any, directory: Any) -> None:
    containerd.host.wait_for(lambda: directory.left() == [], what="nothing is left")


def test_pods_reach_each_other_and_their_ports_are_published(containerd: Any, directory: Any) -> None:
    host = containerd.host
    outside = host.outside()

    one, two = containerd.run("one", host_port=8080), containerd.run("two")

    addresses = [containerd.address(pod) for pod in (one, two)]
    assert [host.inet(containerd.netns(pod)) for pod in (one, two)] == [{a} for a in addresses]
    for netns in (containerd.netns(one), containerd.netns(two)):
        for address in addresses:
            assert host.get(f"http://{address}/", netns=netns) == "hello"
        assert host.get("http://192.0.2.1:8080/", netns=netns) == "hello", "by the host's address"
        assert {link["ifname"] for link in host.ip("link", "show", "up", netns=netns)} == {"lo", "eth0"}
    assert host.get("http://192.0.2.1:8080/", netns=outside) == "hello"
    assert host.get("http://127.0.0.1:8080/") == "hello"

    containerd.remove(one)
    containerd.remove(two)
    assert host.get("http://127.0.0.1:8080/") == ""
    check_nothing_is_left(containerd, directory)


def test_a_pod_has_the_bandwidth_of_its_annotations(containerd: Any, directory: Any) -> None:
    host = containerd.host

    pod = containerd.run("one", annotations=RATES)

    shapers = [
        qdisc["options"]["rate"]
        for qdisc in json.loads(host.run("tc", "-j", "qdisc", "show"))
        if qdisc["kind"] == "tbf"
    ]
    assert sorted(shapers) == [500_000, 1_000_000]  # bytes a second
    containerd.remove(pod)
    check_nothing_is_left(containerd, directory)


def test_many_pods_come_and_go_at_once(containerd: Any, directory: Any) -> None:
    def start(number: int) -> tuple[str, str]:
        if number == COUNT // 2:
            directory.restart()
        pod = containerd.run(f"pod-{number}", host_port=9000 + number, annotations=RATES)
        return pod, containerd.address(pod)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        # on a fresh host Go's portmaps make their chains against each other, so the first comes alone
        pods = [start(0)] if directory.name == "go" else []
        pods += pool.map(start, range(len(pods), COUNT))
        assert len({address for _, address in pods}) == COUNT
        assert len(directory.left()) >= COUNT, "what is looked for is there"
        list(pool.map(lambda row: containerd.remove(row[0]), pods))

    check_nothing_is_left(containerd, directory)
