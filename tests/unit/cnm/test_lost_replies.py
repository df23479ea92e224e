"""What dockerd never heard of, as the daemon died before it answered, or dockerd before it asked."""

from __future__ import annotations

from typing import Any


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
