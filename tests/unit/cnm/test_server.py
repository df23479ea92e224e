"""The protocol's edge: what is accepted, what is refused, and how."""

from __future__ import annotations

import json
from typing import Any

import pytest

METHODS_WITH_ARGUMENTS = [
    "NetworkDriver.CreateNetwork",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.AllocateNetwork",
    "NetworkDriver.FreeNetwork",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.EndpointOperInfo",
    "NetworkDriver.Join",
    "NetworkDriver.Leave",
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
    "NetworkDriver.GwAllocCheck",
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
]


@pytest.mark.cnm(1, 4)
def test_activation_names_both_roles_and_capabilities_are_spelt_as_docker_reads_them(dockerd: Any) -> None:
    assert dockerd.call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert dockerd.call("NetworkDriver.GetCapabilities") == {
        "Scope": "local",
        "ConnectivityScope": "local",
        "GwAllocChecker": True,
    }
    assert dockerd.call("IpamDriver.GetCapabilities") == {
        "RequiresMACAddress": False,
        "RequiresRequestReplay": True,
    }
    assert dockerd.call("IpamDriver.GetDefaultAddressSpaces") == {
        "LocalDefaultAddressSpace": "dovetail-local",
        "GlobalDefaultAddressSpace": "dovetail-global",
    }


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"NetworkID": 7}']
)
@pytest.mark.parametrize("method", METHODS_WITH_ARGUMENTS)
@pytest.mark.cnm(2, 3)
def test_a_body_that_cannot_be_read_is_a_400_with_both_keys(dockerd: Any, method: str, body: bytes) -> None:
    status, reply = dockerd.ask(method, body)

    if method in {"NetworkDriver.GwAllocCheck", "IpamDriver.RequestPool"} and b"NetworkID" in body:
        assert status == 200  # has no required key, and ignores this one
        return
    assert status == 400
    assert reply["Err"] == reply["Error"] != ""


@pytest.mark.parametrize(
    "path", ["/NetworkDriver.Nope", "/", "", "/x/y", "/networkdriver.join", "/Plugin.Deactivate"]
)
@pytest.mark.cnm(1, 3)
def test_an_unknown_method_is_a_404_with_both_keys(dockerd: Any, path: str) -> None:
    status, payload = dockerd.server.handle(path, b"{}")

    assert status == 404
    assert set(json.loads(payload)) == {"Err", "Error"}


def test_keys_match_in_any_case_and_null_is_empty_and_unknown_keys_are_ignored(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")

    reply = dockerd.call(
        "IpamDriver.RequestAddress",
        {"poolid": pool["id"], "ADDRESS": None, "Options": None, "FutureKey": {"x": [1]}},
    )

    assert reply == {"Address": "10.77.0.2/24", "Data": {}}


def test_null_lists_and_options_of_a_network_are_empty(dockerd: Any) -> None:
    body = {"NetworkID": dockerd.new_id(), "Options": None, "IPv4Data": None, "IPv6Data": None}

    assert dockerd.call("NetworkDriver.CreateNetwork", body) == {}


@pytest.mark.cnm(3)
def test_a_defect_is_answered_as_json_and_does_not_spread(
    dockerd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(dockerd.engine.networks, "unbind", fail)

    message = dockerd.refused("NetworkDriver.DeleteNetwork", {"NetworkID": "n"})

    assert "ZeroDivisionError" in message


def test_what_is_not_found_is_no_404_as_docker_would_ignore_it(dockerd: Any) -> None:
    ids = {"NetworkID": dockerd.new_id(), "EndpointID": dockerd.new_id()}

    status, reply = dockerd.ask("NetworkDriver.ProgramExternalConnectivity", ids)

    assert status == 500
    assert ids["EndpointID"][:12] in reply["Err"]


def test_each_call_is_a_step_of_the_trace_with_its_ids(dockerd: Any) -> None:
    network, endpoint = dockerd.new_id(), dockerd.new_id()

    dockerd.call("NetworkDriver.Leave", {"NetworkID": network, "EndpointID": endpoint})

    step = dockerd.engine.tracer.recent(1)[0]
    assert (step.layer, step.name) == ("docker", "NetworkDriver.Leave")
    assert step.detail == {"network": network[:12], "endpoint": endpoint[:12]}


def test_calls_of_a_swarm_are_answered(dockerd: Any) -> None:
    discovery = {
        "DiscoveryType": 1,
        "DiscoveryData": {"Address": "10.0.0.1", "BindAddress": "", "Self": True},
    }

    assert dockerd.call("NetworkDriver.DiscoverNew", discovery) == {}
    assert dockerd.call("NetworkDriver.DiscoverDelete", discovery) == {}
    body = {"NetworkID": "n", "Options": {"k": "v"}, "IPv4Data": [], "IPv6Data": []}
    assert dockerd.call("NetworkDriver.AllocateNetwork", body) == {"Options": {"k": "v"}}
    assert dockerd.call("NetworkDriver.FreeNetwork", {"NetworkID": "n"}) == {}
