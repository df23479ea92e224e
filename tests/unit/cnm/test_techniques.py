"""Plugins that stand for one technique: ``driver: macvlan`` of a compose file becomes ``driver: dovetail-macvlan``."""

from __future__ import annotations

import json

from dovetail.api.views import driver_view
from dovetail.cnm.server import PluginServer
from dovetail.daemon.daemon import TECHNIQUES


def ask(dockerd, technique: str, method: str, body: object = None) -> tuple[int, dict[str, object]]:
    server = PluginServer(dockerd.engine, technique=technique)
    status, payload = server.handle(f"/{method}", json.dumps(body).encode() if body is not None else b"")
    return status, json.loads(payload)


def create(dockerd, technique: str, **generic: str) -> tuple[int, dict[str, object]]:
    pool = {"AddressSpace": "LocalDefault", "Pool": "10.70.0.0/24", "Gateway": "10.70.0.1/24"}
    options = {"com.docker.network.generic": generic}
    body = {"NetworkID": "a" * 64, "Options": options, "IPv4Data": [pool], "IPv6Data": []}
    return ask(dockerd, technique, "NetworkDriver.CreateNetwork", body)


def test_there_is_one_for_each_driver_with_addresses_but_the_usual_one(dockerd):
    drivers = dockerd.engine.core.drivers.values()

    assert [*TECHNIQUES] == sorted(d.name for d in drivers if d.addressed and d.name != "bridge")
    assert {driver_view(d).plugin for d in drivers} == {"dovetail", *(f"dovetail-{t}" for t in TECHNIQUES)}


def test_its_networks_are_of_that_technique(dockerd):
    assert create(dockerd, "bridge")[0] == 200

    assert dockerd.engine.networks.all()[0].driver == "bridge"


def test_another_technique_is_refused(dockerd):
    status, reply = create(dockerd, "macvlan", **{"dovetail.driver": "bridge"})

    assert status == 400
    assert "networks of the plugin dovetail-macvlan are macvlan networks, not 'bridge'" in str(reply["Err"])
    assert dockerd.engine.networks.all() == []


def test_it_is_no_ipam_driver_so_that_activating_it_begins_no_replay(dockerd):
    dockerd.call("Plugin.Activate")
    pool = dockerd.call("IpamDriver.RequestPool", {"Pool": "10.71.0.0/24"})
    taken = {"PoolID": pool["PoolID"], "Address": "10.71.0.9"}
    dockerd.call("IpamDriver.RequestAddress", taken)

    assert ask(dockerd, "macvlan", "Plugin.Activate") == (200, {"Implements": ["NetworkDriver"]})

    assert ask(dockerd, "macvlan", "IpamDriver.RequestPool", {})[0] == 404
    assert "10.71.0.9" in dockerd.refused("IpamDriver.RequestAddress", taken)
