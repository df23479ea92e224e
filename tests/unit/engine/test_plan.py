"""What a reconciliation would do is told first, by the same decisions, and then done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from dovetail.engine.core import Core
from dovetail.engine.engine import Engine
from dovetail.engine.report import DockerNetworks, Report
from dovetail.errors import Busy
from dovetail.model.addresses import parse_address, parse_subnet
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.model.pool import AddressRequest, PoolRequest
from dovetail.model.sandbox import Sandbox

_ENDPOINT, _DOCKER = "e" * 64, "d" * 64
_SUBNET = parse_subnet("10.88.0.0/24")


class Town:
    """Network ``web`` with CNI container c1, and what Docker would say."""

    def __init__(self, rig: Any) -> None:
        self.later = 0.0
        self.rig, self.store, self.kernel = rig, rig.store, rig.kernel
        self.docker: DockerNetworks | Exception = DockerNetworks()
        self.asked: list[list[str]] = []
        core = replace(rig.engine.core, docker=self._ask)
        self.engine = Engine(replace(core, kernel=rig.kernel))
        self.engine.networks.create(NetworkSpec(name="web", subnets=(SubnetSpec(subnet=_SUBNET),)))
        rig.attach("c1")

    def _ask(self, networks: Any) -> DockerNetworks:
        self.asked.append(sorted(networks))
        if isinstance(self.docker, Exception):
            raise self.docker
        return self.docker

    def plan(self, **how: bool) -> Report:
        """Plan when the calls that were made are long ago."""
        return self._later(self.engine.plan, **how)

    def reconcile(self, **how: bool) -> Report:
        """The same for what is done."""
        return self._later(self.engine.reconcile, **how)

    def _later(self, call: Callable[..., Report], **how: bool) -> Report:
        self.later = 100.0
        try:
            return call(**how)
        finally:
            self.later = 0.0

    def make_docker_network(self, name: str = "") -> Any:
        made = self.engine.networks.create(
            NetworkSpec(id=_DOCKER, name="docker-d", face="docker", external_id=_DOCKER)
        )
        if name:
            self.engine.networks.name_binding("docker", _DOCKER, name, {"app": "shop"})
        return made

    def run(self, *, named: str = "", network: str = "docker-d") -> None:
        owner = Owner(face="docker", network=_DOCKER)
        self.engine.endpoints.create(network, EndpointSpec(id=_ENDPOINT, owner=owner))
        sandbox = Sandbox(id="box", name="box", netns="/run/docker/netns/box", face="docker")
        self.engine.endpoints.join(_ENDPOINT, sandbox=sandbox, netns=None, ifname="eth")
        handed = self.store.endpoint(_ENDPOINT).attachment.handover
        self.kernel._space.links[handed] = None  # dockerd moves it
        if named:
            self.engine.endpoints.name(_ENDPOINT, named, container="c" * 64)

    def change(self, row: Any, **fields: Any) -> None:
        changed = msgspec.structs.replace(row, **fields)
        {"Endpoint": self.store.put_endpoint, "Network": self.store.put_network}[type(row).__name__](changed)


@pytest.fixture
def town(rig: Any, monkeypatch: pytest.MonkeyPatch) -> Town:
    made = Town(rig)
    monkeypatch.setattr(Core, "now", staticmethod(lambda: time.time() + made.later))
    return made


def _half_made_endpoint(town: Town) -> None:
    town.change(town.store.endpoints()[0], status="creating")


def _reboot(town: Town) -> None:
    for endpoint in town.store.endpoints():
        town.change(endpoint, boot_id="another")


def _no_namespace(town: Town) -> None:
    town.kernel.delete_links([town.store.endpoints()[0].link])


def _half_made_network(town: Town) -> None:
    town.change(town.make_docker_network(), status="creating")


def _no_bridge(town: Town) -> None:
    town.kernel.delete_links([town.store.networks()[0].link])


def _link_of_nobody(town: Town) -> None:
    endpoint = town.store.endpoints()[0]
    town.store.delete_address(town.store.pools()[0].id, endpoint.addresses[0].ip)
    town.store.delete_endpoint(endpoint.id)


def _address_of_nobody(town: Town) -> None:
    pool = town.store.pools()[0]
    request = AddressRequest(kind="docker", owner="docker", address=parse_address("10.88.0.77"))
    town.engine.addresses.request(pool.id, request)


def _pool_of_nobody(town: Town) -> None:
    town.store.put_pool(msgspec.structs.replace(town.store.pools()[0], id="x", owner="nobody"))


def _namespace_of_nobody(town: Town) -> None:
    directory = town.engine.core.netns_dir
    os.makedirs(directory, exist_ok=True)
    town.kernel.create_netns(f"{directory}/stray")
    with open(f"{directory}/stray", "w", encoding="ascii"):
        pass


def _sandbox_without_namespace(town: Town) -> None:
    sandbox = town.engine.sandboxes.create("box")
    town.store.put_sandbox(msgspec.structs.replace(sandbox, boot_id="another"))


def _flushed(town: Town) -> None:
    town.kernel.nft_apply("delete table inet dovetail\n")


def _never_joined(town: Town) -> None:
    owner = Owner(face="docker", network=_DOCKER)
    town.engine.endpoints.create("web", EndpointSpec(id=_ENDPOINT, owner=owner))


def _broken_join(town: Town) -> None:
    town.make_docker_network()
    town.run()
    town.change(town.store.endpoint(_ENDPOINT), status="joining", boot_id=town.engine.core.boot_id)


def _handed_back(town: Town) -> None:
    town.make_docker_network()
    owner = Owner(face="docker", network=_DOCKER)
    town.engine.endpoints.create("docker-d", EndpointSpec(id=_ENDPOINT, owner=owner))
    sandbox = Sandbox(id="box", name="box", netns="/run/docker/netns/box", face="docker")
    town.engine.endpoints.join(_ENDPOINT, sandbox=sandbox, netns=None, ifname="eth")


SCENES: dict[str, tuple[Callable[[Town], None], str]] = {
    "half made endpoint": (_half_made_endpoint, "release endpoint: a crash left it half made"),
    "reboot": (_reboot, "release endpoint: the host has been restarted since"),
    "no namespace": (
        _no_namespace,
        "release endpoint: its interface is gone, with its container's namespace",
    ),
    "half made network": (_half_made_network, "remove network: a crash left it half made"),
    "no bridge": (_no_bridge, "restore link: it is missing"),
    "link of nobody": (_link_of_nobody, "remove link: endpoint"),
    "address of nobody": (_address_of_nobody, "release address: Docker asked for it"),
    "pool of nobody": (_pool_of_nobody, "release pool: its network is gone"),
    "namespace of nobody": (_namespace_of_nobody, "remove namespace: no sandbox has it"),
    "sandbox without namespace": (_sandbox_without_namespace, "remove sandbox: its namespace is gone"),
    "flushed": (_flushed, "restore firewall: the nftables table is missing"),
    "never joined": (_never_joined, "release endpoint: nobody joined it"),
    "broken join": (_broken_join, "remove interface: the join of its endpoint broke off"),
    "handed back": (
        _handed_back,
        "release endpoint: its container is gone, and its interface is back on the host",
    ),
}


@pytest.mark.parametrize("name", SCENES)
def test_what_is_told_is_what_is_done(town: Town, name: str) -> None:
    make, sentence = SCENES[name]
    make(town)
    rows, state = town.rig.rows(), town.rig.kernel_state()

    plan = town.plan()

    assert (town.rig.rows(), town.rig.kernel_state()) == (rows, state)
    assert next(f"{f.action} {f.kind}: {f.why}" for f in plan.findings).startswith(sentence)
    assert plan.failed == []
    done = town.reconcile()
    assert done.failed == []
    assert [f for f in done.findings if f.kind != "firewall"] == [
        f for f in plan.findings if f.kind != "firewall"
    ]
    if name not in {"broken join", "namespace of nobody"}:  # an endpoint that waits; a file that is none
        assert town.plan().findings == []


def test_nothing_is_found_where_all_is_well(town: Town) -> None:
    town.make_docker_network()
    town.run()

    assert town.plan(ask_docker=True) == town.reconcile(ask_docker=True)
    assert town.plan(ask_docker=True).findings == []


def test_what_is_young_is_left_to_the_call_that_may_still_come(town: Town) -> None:
    _never_joined(town)
    _address_of_nobody(town)
    _handed_back(town)

    assert town.engine.plan(ask_docker=True, everything=True).findings == []


# -- what Docker says --------------------------------------------------------------------------------------


def test_a_network_that_docker_had_named_and_has_no_more_goes_on_its_own(town: Town) -> None:
    town.make_docker_network("shop")

    report = town.reconcile(ask_docker=True)

    assert town.asked == [[_DOCKER]]
    assert [str(f) for f in report.findings] == [
        "network docker-d, Docker's shop: Docker does not have it any more"
    ]
    assert [network.name for network in town.store.networks()] == ["web"]
    assert town.store.bindings() == []


def test_a_network_that_docker_never_named_is_a_persons_decision(town: Town) -> None:
    town.make_docker_network()

    assert town.reconcile(ask_docker=True).findings == []

    plan = town.plan(ask_docker=True, everything=True)
    assert [str(f) for f in plan.findings] == [
        "network docker-d, Docker's dddddddddddd: Docker does not have it"
    ]
    assert town.reconcile(ask_docker=True, everything=True).findings == plan.findings
    assert [network.name for network in town.store.networks()] == ["web"]


@pytest.mark.parametrize("everything", [False, True])
def test_a_network_with_a_container_on_it_stays_whatever_docker_says(town: Town, everything: bool) -> None:
    town.make_docker_network("shop")
    town.run()  # of another Docker Engine, say

    assert town.reconcile(ask_docker=True, everything=everything).findings == []


def test_a_network_that_others_use_is_let_go_only_by_docker(town: Town) -> None:
    town.engine.networks.bind("docker", _DOCKER, "web")
    town.engine.networks.name_binding("docker", _DOCKER, "shop", {})

    report = town.reconcile(ask_docker=True)

    assert [str(f) for f in report.findings] == [
        "binding Docker's shop on web: Docker does not have it any more"
    ]
    assert town.store.bindings() == []
    assert [network.name for network in town.store.networks()] == ["web"]


def test_an_endpoint_that_docker_had_named_and_has_no_more_is_released(town: Town) -> None:
    town.make_docker_network("shop")
    town.run(named="one")
    town.docker = DockerNetworks(ids=frozenset({_DOCKER}), endpoints=frozenset({_ENDPOINT}))
    assert town.plan(ask_docker=True).findings == []

    town.docker = DockerNetworks(ids=frozenset({_DOCKER}))
    report = town.reconcile(ask_docker=True)

    assert [f.why for f in report.findings] == ["Docker does not have it any more"]
    assert town.store.endpoint(_ENDPOINT) is None


def test_nothing_is_decided_for_a_docker_that_does_not_answer(town: Town) -> None:
    town.make_docker_network("shop")
    town.docker = Busy("Docker at /run/docker.sock does not answer")

    report = town.plan(ask_docker=True, everything=True)

    assert report.findings == []
    assert report.notes == [
        "what Docker has forgotten is not known: Docker at /run/docker.sock does not answer"
    ]


def test_docker_is_not_asked_where_it_has_nothing_here(town: Town) -> None:
    town.reconcile(ask_docker=True, everything=True)

    assert town.asked == []


def test_what_docker_made_and_others_kept_is_a_persons_decision_once_they_have_gone(town: Town) -> None:
    town.make_docker_network("shop")
    town.rig.attach("c2", network="docker-d")
    town.engine.networks.unbind("docker", _DOCKER)
    assert {network.name for network in town.store.networks()} == {"web", "docker-d"}
    assert town.plan(everything=True).findings == []

    town.engine.endpoints.detach(next(e.id for e in town.store.endpoints() if e.owner.container == "c2"))

    assert town.plan().findings == []
    found = town.reconcile(everything=True).findings
    assert [f"{f.action} {f.what}" for f in found] == ["remove docker-d"]
    assert [network.name for network in town.store.networks()] == ["web"]


# -- a pool that Docker asked for and never used --------------------------------------------------------------


def test_a_pool_whose_reply_was_lost_goes_when_docker_has_started_anew_without_it(town: Town) -> None:
    request = PoolRequest(subnet=parse_subnet("10.99.0.0/24"), owner="docker")
    town.engine.addresses.request_pool(request)
    assert town.plan(everything=True).findings == []  # it may have the answer, and no container yet

    town.engine.addresses.begin_replay()
    found = town.reconcile().findings

    assert [str(f) for f in found] == [
        "pool 10.99.0.0/24: Docker has started anew since and does not ask for it any more"
    ]
    assert [pool.subnet for pool in town.store.pools()] == [_SUBNET]


def test_a_pool_that_docker_asks_for_again_is_kept(town: Town) -> None:
    request = PoolRequest(subnet=parse_subnet("10.99.0.0/24"), owner="docker")
    town.engine.addresses.request_pool(request)

    town.engine.addresses.begin_replay()
    town.engine.addresses.request_pool(request)

    assert town.reconcile().findings == []


def test_a_pool_that_is_used_is_never_taken_for_a_replay_that_did_not_come(town: Town) -> None:
    request = PoolRequest(subnet=parse_subnet("10.99.0.0/24"), owner="docker")
    pool = town.engine.addresses.request_pool(request)
    town.engine.addresses.request(pool.id, AddressRequest(kind="gateway", owner="docker"))

    town.engine.addresses.begin_replay()  # of a dockerd that began when no daemon was there, say

    assert town.reconcile().findings == []


def test_a_pool_on_which_docker_has_no_network_is_a_persons_decision(town: Town) -> None:
    request = PoolRequest(subnet=parse_subnet("10.99.0.0/24"), owner="docker")
    town.engine.addresses.request_pool(request)
    assert town.reconcile(ask_docker=True).findings == []

    town.docker = DockerNetworks(subnets=frozenset({parse_subnet("10.99.0.0/24")}))
    assert town.plan(ask_docker=True, everything=True).findings == []

    town.docker = DockerNetworks(subnets=frozenset({parse_subnet("10.98.0.0/24")}))
    found = town.reconcile(ask_docker=True, everything=True).findings
    assert [f.why for f in found] == ["Docker has no network on it"]
