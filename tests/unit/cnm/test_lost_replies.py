"""What dockerd never heard of, as the daemon died before it answered, or dockerd before it asked."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dovetail.engine.core import Core


def test_a_pool_whose_reply_was_lost_is_given_again(dockerd: Any) -> None:
    body = {
        "AddressSpace": "dovetail-local",
        "Options": {},
        "Pool": "10.77.0.0/24",
        "SubPool": "",
        "V6": False,
    }
    lost = dockerd.call("IpamDriver.RequestPool", body)
    dockerd.restart_plugin()

    pool = dockerd.pool("10.77.0.0/24")

    assert pool["id"] == lost["PoolID"]
    assert "which Docker holds" in dockerd.refused("IpamDriver.RequestPool", body)
    network = dockerd.create_network(pool)
    dockerd.remove_network(network, pool)
    assert dockerd.is_empty()


def test_a_network_whose_reply_was_lost_goes_with_its_pool(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    dockerd.create_network(pool)

    dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": pool["id"], "Address": "10.77.0.1"})
    dockerd.call("IpamDriver.ReleasePool", {"PoolID": pool["id"]})

    assert dockerd.is_empty()


def test_an_endpoint_that_dockerd_has_lost_does_not_keep_its_network(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)
    dockerd.run(network, pool)

    dockerd.remove_network(network, pool)  # dockerd asks for this only when it knows of no endpoint any more

    assert dockerd.is_empty()


def test_an_endpoint_that_dockerd_has_lost_leaves_a_shared_network(dockerd: Any) -> None:
    dockerd.web("10.88.0.0/24")
    options = {"dovetail.network": "web"}
    pool = dockerd.pool("10.88.0.0/24", opts=options)
    network = dockerd.create_network(pool, opts=options)
    dockerd.run(network, pool)

    dockerd.remove_network(network, pool)

    assert dockerd.store.endpoints() == []
    assert len(dockerd.store.networks()) == 1


def test_the_address_of_a_container_that_is_gone_can_be_asked_for_before_docker_releases_it(
    dockerd: Any,
) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    container = dockerd.run(dockerd.create_network(pool), pool)
    address = container["addresses"][0].partition("/")[0]
    body = {"Address": address, "Options": None, "PoolID": pool["id"]}
    dockerd.kernel.delete_links([dockerd.store.endpoints()[0].link])  # its namespace has gone
    assert "is in use" in dockerd.refused("IpamDriver.RequestAddress", body)

    dockerd.engine.reconcile()

    assert dockerd.call("IpamDriver.RequestAddress", body)["Address"] == container["addresses"][0]
    assert "is in use" in dockerd.refused("IpamDriver.RequestAddress", body)


def test_a_pool_whose_reply_was_lost_is_released_when_docker_has_started_anew(
    dockerd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"AddressSpace": "dovetail-local", "Options": {}, "Pool": "", "SubPool": "", "V6": False}
    dockerd.call("IpamDriver.RequestPool", body)
    kept = dockerd.pool("10.77.0.0/24")
    dockerd.create_network(kept)
    monkeypatch.setattr(Core, "now", staticmethod(lambda: time.time() + 100))
    assert dockerd.engine.reconcile().findings == []

    dockerd.activate()
    dockerd.call("IpamDriver.RequestPool", {**body, "Pool": "10.77.0.0/24"})
    monkeypatch.setattr(Core, "now", staticmethod(lambda: time.time() + 200))
    found = dockerd.engine.reconcile().findings

    assert [(f.action, f.kind) for f in found] == [("release", "pool")]
    assert [str(pool.subnet) for pool in dockerd.store.pools()] == ["10.77.0.0/24"]
