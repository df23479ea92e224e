from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from dovetail.drivers.host import HostDriver
from dovetail.drivers.null import NullDriver
from dovetail.drivers.protocol import Driver
from dovetail.errors import InvalidArgument, Unsupported
from dovetail.kernel.recording import RecordedNetns, RecordingKernel
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.mac import Mac
from dovetail.model.network import Network
from dovetail.model.port import PortMapping


def a_network(name: str, **options: str) -> Network:
    return Network(id="ab" * 32, name="plain", driver=name, options=options)


ENDPOINT = Endpoint(id="cd" * 32, network_id="ab" * 32, owner=Owner(face="cli"))


@pytest.mark.parametrize("driver", [NullDriver(), HostDriver()])
def test_an_option_is_refused_unless_it_is_dockers(driver: Driver) -> None:
    network = a_network(driver.name, **{"com.docker.network.driver.mtu": "1400"})
    assert driver.plan_network(RecordingKernel(), network, "s") == network

    with pytest.raises(InvalidArgument) as caught:
        driver.plan_network(RecordingKernel(), a_network(driver.name, mtu="1400"), "s")

    assert caught.value.where == "$.options.mtu"


def test_joining_a_null_network_brings_the_loopback_up() -> None:
    kernel, driver = RecordingKernel(), NullDriver()
    sandbox = kernel.open_netns("/run/netns/box")

    with ExitStack() as undo:
        attachment = driver.join(
            kernel, a_network("null"), ENDPOINT, sandbox=sandbox, ifname="eth0", store_id="s", undo=undo
        )

    assert (attachment.ifname, attachment.addresses) == ("lo", ())
    assert kernel.commands == ["ip -n box link set dev lo up"]
    assert driver.check(kernel, a_network("null"), ENDPOINT, sandbox) == []


def test_checking_a_null_network_says_that_the_loopback_is_down() -> None:
    kernel = RecordingKernel()
    sandbox = kernel.open_netns("/run/netns/box")

    found = NullDriver().check(kernel, a_network("null"), ENDPOINT, sandbox)

    assert found == ["interface 'lo' of the sandbox is down"]


def test_the_hosts_namespace_joins_a_host_network_and_nothing_changes() -> None:
    kernel, driver = RecordingKernel(), HostDriver()
    sandbox = RecordedNetns("/proc/1/ns/net", kernel.netns_inode)

    with ExitStack() as undo:
        attachment = driver.join(
            kernel, a_network("host"), ENDPOINT, sandbox=sandbox, ifname="eth0", store_id="s", undo=undo
        )

    assert attachment.sandbox == "/proc/1/ns/net"
    assert kernel.commands == []
    assert driver.check(kernel, a_network("host"), ENDPOINT, sandbox) == []


@pytest.mark.parametrize("path", ["/run/netns/box", ""])
def test_another_namespace_cannot_join_a_host_network(path: str) -> None:
    kernel = RecordingKernel()
    sandbox = kernel.open_netns(path) if path else None

    with pytest.raises(Unsupported, match="is not the host's network namespace"), ExitStack() as undo:
        HostDriver().join(
            kernel, a_network("host"), ENDPOINT, sandbox=sandbox, ifname="eth0", store_id="s", undo=undo
        )


def test_an_endpoint_on_a_host_network_has_neither_mac_nor_ports() -> None:
    for endpoint in (
        Endpoint(id="c", network_id="a", owner=Owner(face="cli"), mac=Mac("02:00:00:00:00:01")),
        Endpoint(
            id="c",
            network_id="a",
            owner=Owner(face="cli"),
            ports=(PortMapping(container_port=1, host_ip=ip_address("::1")),),
        ),
    ):
        with pytest.raises(InvalidArgument):
            HostDriver().plan_endpoint(a_network("host"), endpoint)
