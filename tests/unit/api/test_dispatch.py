from __future__ import annotations

import json

import pytest

from dovetail.errors import NotFound
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.sandbox import Sandbox


def test_a_network_is_made_listed_shown_and_removed(api):
    made = api("POST", "/v1/networks", {"name": "db", "internal": True, "labels": {"team": "x"}})

    assert made.status == 201
    assert [row["name"] for row in api("GET", "/v1/networks").body] == ["db", "web"]
    shown = api("GET", "/v1/networks/db").body
    assert shown == made.body
    assert shown["labels"] == {"team": "x"}
    assert api("DELETE", "/v1/networks/db") == (200, {})
    assert api("GET", "/v1/networks/db").status == 404


def test_a_network_is_found_by_name_id_and_unique_beginning_of_its_id(api):
    network = api("GET", "/v1/networks/web").body

    for ref in (network["id"], network["id"][:12], network["id"][:4]):
        assert api("GET", f"/v1/networks/{ref}").body["name"] == "web"


def test_connect_gives_the_endpoint_and_the_next_free_interface_name(api):
    api("POST", "/v1/networks", {"name": "db"})

    first = api("POST", "/v1/networks/web/connect", {"sandbox": "a"})
    second = api("POST", "/v1/networks/db/connect", {"sandbox": "a"})

    assert (first.status, first.body["ifname"], first.body["addresses"]) == (201, "eth0", ["10.88.0.2/24"])
    assert (first.body["container"], first.body["face"]) == ("a", "cli")
    assert second.body["ifname"] == "eth1"


def test_connect_takes_address_interface_mac_aliases_and_ports(api):
    body = {
        "sandbox": "a",
        "ips": ["10.88.0.77"],
        "ifname": "net7",
        "mac": "02:00:00:00:00:07",
        "aliases": ["www"],
        "publish": ["8080:80", "127.0.0.1:5000-5001:53-54/udp"],
    }

    view = api("POST", "/v1/networks/web/connect", body).body

    assert (view["ifname"], view["addresses"], view["mac"]) == (
        "net7",
        ["10.88.0.77/24"],
        "02:00:00:00:00:07",
    )
    assert view["aliases"] == ["www"]
    assert [(p["host_port"], p["container_port"], p["protocol"], p["host_ip"]) for p in view["ports"]] == [
        (8080, 80, "tcp", None),
        (5000, 53, "udp", "127.0.0.1"),
        (5001, 54, "udp", "127.0.0.1"),
    ]


def test_routes_and_what_the_interfaces_name_begins_with_are_the_networks(api):
    body = {
        "name": "lan",
        "subnets": [{"subnet": "10.91.0.0/24"}],
        "routes": ["10.0.0.0/8 via 10.91.0.254"],
        "options": {"route": "10.99.0.0/16", "ifname_prefix": "lan"},
    }
    network = api("POST", "/v1/networks", body).body
    routes = [(route["destination"], route["gateway"]) for route in network["routes"]]

    first = api("POST", "/v1/networks/lan/connect", {"sandbox": "a"}).body
    second = api("POST", "/v1/networks/lan/connect", {"sandbox": "b"}).body

    assert routes == [("10.0.0.0/8", "10.91.0.254"), ("10.99.0.0/16", None)]
    assert (first["ifname"], second["ifname"]) == ("lan0", "lan0")
    assert {(route["destination"], route["gateway"]) for route in first["routes"]} == set(routes)


def test_sysctls_are_set_on_the_interface_and_shown(api):
    sysctls = {"net.ipv4.conf.IFNAME.forwarding": "1"}

    view = api("POST", "/v1/networks/web/connect", {"sandbox": "a", "sysctls": sysctls}).body

    assert view["sysctls"] == sysctls
    assert any("net/ipv4/conf/eth0/forwarding=1" in command for command in api.kernel.commands)


def test_without_a_gateway_none_is_reserved_and_there_is_no_way_out(api):
    body = {"name": "flat", "subnets": [{"subnet": "10.91.0.0/24"}], "options": {"gateway": "none"}}
    network = api("POST", "/v1/networks", body).body

    view = api("POST", "/v1/networks/flat/connect", {"sandbox": "a"}).body

    assert network["subnets"][0]["gateway"] is None
    assert (view["addresses"], view["gateways"]) == (["10.91.0.1/24"], [])


def test_a_sticky_network_gives_a_sandbox_the_address_that_its_name_had(api):
    api(
        "POST",
        "/v1/networks",
        {"name": "kept", "subnets": [{"subnet": "10.91.0.0/24"}], "options": {"sticky": "true"}},
    )

    def address(sandbox):
        view = api("POST", "/v1/networks/kept/connect", {"sandbox": sandbox}).body
        api("POST", "/v1/networks/kept/disconnect", {"sandbox": sandbox})
        return view["addresses"]

    assert [address(name) for name in ("a", "b", "a", "b")] == [["10.91.0.2/24"], ["10.91.0.3/24"]] * 2


def test_a_second_connection_of_a_sandbox_needs_an_interface_name(api):
    api("POST", "/v1/networks/web/connect", {"sandbox": "a"})

    refused = api("POST", "/v1/networks/web/connect", {"sandbox": "a"})
    given = api("POST", "/v1/networks/web/connect", {"sandbox": "a", "ifname": "eth7"})

    assert refused.status == 409
    assert "eth0" in refused.body["error"]
    assert "--ifname" in refused.body["hint"]
    assert given.status == 201


def test_disconnect_takes_all_endpoints_of_the_sandbox_on_that_network(api):
    api("POST", "/v1/networks/web/connect", {"sandbox": "a"})
    api("POST", "/v1/networks/web/connect", {"sandbox": "a", "ifname": "eth7"})
    api("POST", "/v1/networks/web/connect", {"sandbox": "b"})

    assert api("POST", "/v1/networks/web/disconnect", {"sandbox": "a"}) == (200, {})

    assert [view["container"] for view in api("GET", "/v1/endpoints").body] == ["b"]
    assert api("POST", "/v1/networks/web/disconnect", {"sandbox": "a"}).status == 404


def test_what_cni_attached_is_not_disconnected_here(api):
    netns = api.engine.kernel.open_netns("/run/netns/pod")
    api.engine.endpoints.attach(
        "web",
        EndpointSpec(owner=Owner(face="cni", network="web", container="pod", ifname="eth0")),
        netns=netns,
        sandbox=Sandbox(id="pod", name="pod", netns="/run/netns/pod", face="cni"),
    )

    refused = api("POST", "/v1/networks/web/disconnect", {"sandbox": "pod"})

    assert refused.status == 409
    assert "cni attached sandbox 'pod'" in refused.body["error"]
    assert "CNI runtime" in refused.body["hint"]


def test_a_cni_container_may_be_connected_to_another_network(api):
    netns = api.engine.kernel.open_netns("/run/netns/pod")
    api("POST", "/v1/networks", {"name": "db"})
    api.engine.endpoints.attach(
        "web",
        EndpointSpec(owner=Owner(face="cni", network="web", container="pod", ifname="eth0")),
        netns=netns,
        sandbox=Sandbox(id="pod", name="pod", netns="/run/netns/pod", face="cni"),
    )

    assert api("POST", "/v1/networks/db/connect", {"sandbox": "pod"}).body["ifname"] == "eth1"
    assert api("POST", "/v1/networks/db/disconnect", {"sandbox": "pod"}).status == 200


def test_removing_a_network_in_use_names_its_endpoints(api):
    api("POST", "/v1/networks/web/connect", {"sandbox": "a"})
    api("POST", "/v1/networks/web/connect", {"sandbox": "b"})

    refused = api("DELETE", "/v1/networks/web")

    assert refused.status == 409
    assert refused.body["kind"] == "InUse"
    assert "endpoint a" in refused.body["error"]
    assert "endpoint b" in refused.body["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind", "where", "words"),
    [
        ("POST", "/v1/networks", {"name": "web"}, 409, "AlreadyExists", "", "'web' already exists"),
        ("POST", "/v1/networks", {"name": "a/b"}, 400, "InvalidArgument", "$.name", "'a/b'"),
        ("POST", "/v1/networks", {"name": "x", "colour": 1}, 400, "InvalidArgument", "", "colour"),
        ("POST", "/v1/networks", {}, 400, "InvalidArgument", "", "name"),
        ("POST", "/v1/networks", {"name": "x", "driver": "ring"}, 404, "NotFound", "", "'ring'"),
        (
            "POST",
            "/v1/networks",
            {"name": "x", "options": {"mut": "9"}},
            400,
            "InvalidArgument",
            "$.options.mut",
            "mut",
        ),
        (
            "POST",
            "/v1/networks",
            {"name": "x", "subnets": [{"subnet": "10.0.0.1/24"}]},
            400,
            "InvalidArgument",
            "$.subnets[0].subnet",
            "host bits",
        ),
        (
            "POST",
            "/v1/networks",
            {"name": "x", "subnets": [{"subnet": "10.9.0.0/24", "gateway": "10.8.0.1"}]},
            400,
            "InvalidArgument",
            "$.subnets[0].gateway",
            "10.8.0.1",
        ),
        (
            "POST",
            "/v1/networks",
            {"name": "x", "subnets": [{"subnet": "10.88.0.128/25"}]},
            409,
            "PoolOverlap",
            "$.subnets[0]",
            "10.88.0.0/24",
        ),
        ("GET", "/v1/networks/nope", None, 404, "NotFound", "", "no such network: 'nope'"),
        ("POST", "/v1/networks/nope/connect", {"sandbox": "a"}, 404, "NotFound", "", "'nope'"),
        ("POST", "/v1/networks/web/connect", {"sandbox": "zz"}, 404, "NotFound", "", "'zz'"),
        (
            "POST",
            "/v1/networks/web/connect",
            {"sandbox": "a", "mac": "xx"},
            400,
            "InvalidArgument",
            "$.mac",
            "'xx'",
        ),
        (
            "POST",
            "/v1/networks/web/connect",
            {"sandbox": "a", "ifname": "a b"},
            400,
            "InvalidArgument",
            "$.ifname",
            "'a b'",
        ),
        (
            "POST",
            "/v1/networks/web/connect",
            {"sandbox": "a", "ips": ["10.88.0.1"]},
            409,
            "AddressInUse",
            "",
            "10.88.0.1",
        ),
        (
            "POST",
            "/v1/networks/web/connect",
            {"sandbox": "a", "publish": ["99999:80"]},
            400,
            "InvalidArgument",
            "$.publish[0]",
            "99999",
        ),
        ("POST", "/v1/sandboxes", {"name": "a"}, 409, "AlreadyExists", "", "'a'"),
        ("DELETE", "/v1/sandboxes/zz", None, 404, "NotFound", "", "'zz'"),
        ("GET", "/v1/endpoints/zz", None, 404, "NotFound", "", "'zz'"),
        ("GET", "/v1/nothing", None, 404, "NotFound", "", "/v1/nothing"),
        ("GET", "/v2/networks", None, 404, "NotFound", "", "/v2/networks"),
        ("PUT", "/v1/networks", None, 405, "NotAllowed", "", "GET, POST"),
        ("DELETE", "/v1/networks/web/connect", None, 405, "NotAllowed", "", "POST"),
    ],
)
def test_bad_requests_get_a_status_a_kind_a_place_and_a_sentence(
    api, method, path, body, status, kind, where, words
):
    before = len(api.kernel.commands)

    answer = api(method, path, body)

    assert (answer.status, answer.body["kind"], answer.body["where"]) == (status, kind, where)
    assert words in answer.body["error"]
    assert "\n" not in answer.body["error"]
    assert len(api.kernel.commands) == before


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"name": 7}'])
def test_bodies_that_are_no_request_are_refused(api, raw):
    assert api("POST", "/v1/networks", raw=raw).status == 400


def test_a_name_that_is_free_again_after_a_failed_creation(api):
    api.kernel.fail(on=lambda verb: verb == "add_bridge")
    failed = api("POST", "/v1/networks", {"name": "db"})
    api.kernel.fail()

    assert (failed.status, failed.body["kind"]) == (500, "KernelError")
    assert api("POST", "/v1/networks", {"name": "db"}).status == 201


def test_a_defect_becomes_a_sentence_and_not_a_traceback(api, monkeypatch, caplog):
    def broken():
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(api.engine.networks, "all", broken)

    answer = api("GET", "/v1/networks")

    assert answer.status == 500
    assert answer.body["kind"] == "InternalError"
    assert "ZeroDivisionError" in answer.body["error"]
    assert "Traceback" in caplog.text


def test_several_failures_of_one_deletion_are_all_told(api, monkeypatch):
    for sandbox in ("a", "a"):
        api(
            "POST",
            "/v1/networks/web/connect",
            {"sandbox": sandbox, "ifname": f"eth{len(api('GET', '/v1/endpoints').body)}"},
        )

    def broken(endpoint_id):
        raise NotFound("thing", endpoint_id[:4])

    monkeypatch.setattr(api.engine.endpoints, "detach", broken)

    answer = api("POST", "/v1/networks/web/disconnect", {"sandbox": "a"})

    assert answer.status == 404
    assert answer.body["error"].count("no such thing") == 2


def test_each_change_is_a_root_step_of_the_trace_and_reading_is_none(api):
    api("POST", "/v1/networks/web/connect", {"sandbox": "a"})
    api("GET", "/v1/networks")
    api("POST", "/v1/networks/web/disconnect", {"sandbox": "a"})

    steps = api("GET", "/v1/trace", query={"last": "2"}).body

    assert [(step["layer"], step["name"]) for step in steps] == [
        ("cli", "network connect"),
        ("cli", "network disconnect"),
    ]
    assert steps[0]["detail"] == {"network": "web", "sandbox": "a"}
    assert steps[0]["children"]


@pytest.mark.parametrize("last", ["0", "-1", "x", "1.5", "", "²", "9" * 5000])
def test_trace_refuses_a_number_that_is_none(api, last):
    assert api("GET", "/v1/trace", query={"last": last}).status == 400


def test_the_trace_is_followed_by_asking_for_what_came_after(api):
    after = api("GET", "/v1/trace/next").body
    api("POST", "/v1/networks/web/connect", {"sandbox": "a"})

    news = api("GET", "/v1/trace/next", query={"after": str(after["next"]), "wait_s": "1"}).body

    assert after["steps"] == []
    assert [step["name"] for step in news["steps"]] == ["network connect"]
    assert api("GET", "/v1/trace/next", query={"after": str(news["next"])}).body == {
        "next": news["next"],
        "steps": [],
    }


@pytest.mark.parametrize("query", [{"after": "x"}, {"after": "-1"}, {"after": "0", "wait_s": "1.5"}])
def test_following_the_trace_refuses_what_is_no_number(api, query):
    assert api("GET", "/v1/trace/next", query=query).status == 400


def test_there_is_nothing_else_below_the_trace(api):
    assert api("GET", "/v1/trace/other").status == 404


def test_pools_are_told_with_their_network_and_use(api):
    api("POST", "/v1/networks/web/connect", {"sandbox": "a"})

    (pool,) = api("GET", "/v1/pools").body

    assert (pool["network"], pool["subnet"], pool["used"], pool["size"]) == ("web", "10.88.0.0/24", 2, 254)


def test_sizes_of_ipv6_subnets_stay_exact_numbers_of_json(make_api):
    api = make_api()
    api("POST", "/v1/networks", {"name": "six", "subnets": [{"subnet": "fd00::/48", "version": 6}]})

    assert api("GET", "/v1/networks/six").body["subnets"][0]["size"] == 2**53 - 1


def test_topology_has_networks_with_endpoints_and_sandboxes_without(api):
    api("POST", "/v1/networks/web/connect", {"sandbox": "a", "publish": ["8080:80"]})

    view = api("GET", "/v1/topology").body

    (network,) = view["networks"]
    assert [endpoint["container"] for endpoint in network["endpoints"]] == ["a"]
    assert [sandbox["name"] for sandbox in view["sandboxes"]] == ["b"]


def test_drivers_are_told_with_their_options(api):
    drivers = {view["name"]: view for view in api("GET", "/v1/drivers").body}

    assert drivers.keys() >= {"bridge", "host", "null"}
    assert drivers["bridge"]["options"]["icc"] == {
        "meaning": "whether endpoints reach each other (true)",
        "synonyms": ["com.docker.network.bridge.enable_icc"],
    }
    assert api("GET", "/v1/drivers/bridge").body == drivers["bridge"]
    assert api("GET", "/v1/drivers/nope").status == 404


def test_version_and_ping(api):
    assert api("GET", "/v1/version").body["api"] == "v1"
    assert api("GET", "/v1/ping") == (200, {})


def test_no_reply_holds_an_address_that_cannot_be_read_back(api):
    api("POST", "/v1/networks/web/connect", {"sandbox": "a"})

    for path in (
        "networks",
        "networks/web",
        "endpoints",
        "sandboxes",
        "pools",
        "topology",
        "trace",
        "doctor",
    ):
        answer = api("GET", f"/v1/{path}")
        assert answer.status == 200
        json.dumps(answer.body)
