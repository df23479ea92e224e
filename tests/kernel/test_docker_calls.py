"""The requests that real Docker Engines sent, again and in order, at the daemon's socket.

``tests/data/docker-calls.jsonl`` has them from Docker 20.10 and 29. What they took from the answers of the plugin
that was there then (pool ids, addresses) is replaced by what ours answered. Each answer is judged by the rules
that dockerd applies to it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

LINES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "docker-calls.jsonl").read_text().splitlines()
]
ENGINES = [line["engine"] for line in LINES if "engine" in line]
GENERIC = "com.docker.network.generic"
PORTMAP = "com.docker.network.portmap"
GATEWAY = "com.docker.network.gateway"
CONTENT_TYPES = {f"application/vnd.docker.plugins.v1{minor}+json" for minor in ("", ".1", ".2")}


def calls_of(engine: str) -> list[dict[str, Any]]:
    start = next(number for number, line in enumerate(LINES) if line.get("engine") == engine)
    rest = LINES[start + 1 :]
    end = next((number for number, line in enumerate(rest) if "engine" in line), len(rest))
    return rest[:end]


class Replay:
    """Sends the requests of one engine, and remembers what stands for what."""

    def __init__(self, installation: Any) -> None:
        self.installation = installation
        self.host = installation.host
        self.pool_ids: dict[str, str] = {}
        self.subnets: dict[str, str] = {}
        self.addresses: dict[tuple[str, str], str] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.prefixes: dict[str, str] = {}
        self.answers = 0
        self.connection: http.client.HTTPConnection | None = None
        self.headers: dict[str, str] = {}

    def connect(self, headers: dict[str, str]) -> None:
        """Open a connection, as a dockerd that has just started does."""
        if self.connection is not None:
            self.connection.close()
        self.connection = http.client.HTTPConnection("x", timeout=60)
        self.connection.sock = socket.socket(socket.AF_UNIX)
        self.connection.sock.settimeout(60)
        self.connection.sock.connect(self.installation.plugin_socket)
        self.headers = {
            "Accept": "application/vnd.docker.plugins.v1.2+json",
            "User-Agent": "Go-http-client/1.1",
            **headers,
        }

    def send(self, method: str, body: Any) -> tuple[int, Any]:
        """Send one request on the connection, which must stay open, and give status and answer."""
        assert self.connection is not None
        payload = b"" if body is None else json.dumps(body).encode()
        self.connection.putrequest("POST", f"/{method}", skip_host=True, skip_accept_encoding=True)
        for name, value in {**self.headers, "Content-Length": str(len(payload))}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders(payload)
        answer = self.connection.getresponse()
        assert answer.headers["Content-Type"] in CONTENT_TYPES
        assert answer.headers.get("Connection") != "close"
        reply = json.loads(answer.read())
        assert isinstance(reply, dict)
        self.answers += 1
        return answer.status, reply

    def call(self, line: dict[str, Any]) -> None:
        """Send a recorded call and judge its answer."""
        method, body = line["call"], self.substituted(line.get("body"))
        status, reply = self.send(method, body)
        if method == "NetworkDriver.ProgramExternalConnectivity" and self.is_refused(body):
            assert status == 400, "an internal network publishes nothing, whoever asks"
            assert reply["Err"] == reply["Error"] != ""
            return
        assert status == 200, (method, body, reply)
        assert "Err" not in reply and "Error" not in reply
        judge = getattr(self, "judge_" + method.partition(".")[2].lower(), self.judge_empty)
        judge(body, reply, line)

    def is_refused(self, body: Any) -> bool:
        return bool(body["Options"].get(PORTMAP)) and self.networks[body["NetworkID"]]["internal"]

    # -- what ours answered for what theirs had answered -----------------------------------------------

    def substituted(self, value: Any, key: str = "", pool: str = "") -> Any:
        if value == {"k": "v"}:  # the user's option for the driver that was there
            return {"mtu": "1400"}
        if isinstance(value, dict):
            pool = value.get("PoolID", pool)
            return {name: self.substituted(item, name, pool) for name, item in value.items()}
        if isinstance(value, list):
            return [self.substituted(item, key, pool) for item in value]
        match key:
            case "NetworkID" | "EndpointID":
                return value.ljust(64, "0")
            case "PoolID":
                return self.pool_ids[value]
            case "AddressSpace" if value == "pl":
                return "dovetail-local"
            case "Pool" if value:
                return self.subnets.get(value, value)
            case "Address" if pool:
                return self.addresses.get((pool, value), value)
            case "Gateway" | "Address" | "AddressIPv6" if value:
                return self.in_its_pool(value)
            case _:
                return value

    def in_its_pool(self, interface: str) -> str:
        address, _, length = interface.partition("/")
        for (_, theirs), ours in self.addresses.items():
            if theirs == address:
                return f"{ours}/{length}"
        return interface

    # -- the rules ---------------------------------------------------------------------------------------

    def judge_empty(self, body: Any, reply: Any, line: Any) -> None:
        assert reply == {}

    def judge_activate(self, body: Any, reply: Any, line: Any) -> None:
        assert set(reply["Implements"]) == {"NetworkDriver", "IpamDriver"}

    def judge_getcapabilities(self, body: Any, reply: Any, line: Any) -> None:
        if line["call"].startswith("Ipam"):
            assert reply["RequiresRequestReplay"] is True
            assert isinstance(reply["RequiresMACAddress"], bool)
        else:
            assert reply["Scope"] in {"local", "global"}
            assert reply["GwAllocChecker"] is True

    def judge_getdefaultaddressspaces(self, body: Any, reply: Any, line: Any) -> None:
        assert reply["LocalDefaultAddressSpace"] == "dovetail-local"
        assert reply["GlobalDefaultAddressSpace"]

    def judge_gwalloccheck(self, body: Any, reply: Any, line: Any) -> None:
        assert reply == {"SkipIPv4": False, "SkipIPv6": False}

    def judge_requestpool(self, body: Any, reply: Any, line: Any) -> None:
        subnet = ip_network(reply["Pool"])  # raises where it has host bits
        assert reply["PoolID"]
        assert (subnet.version == 6) == body["V6"]
        if body["Pool"]:
            assert reply["Pool"] == body["Pool"]
        theirs = line.get("gave", "")
        if not line["body"]["Pool"]:
            self.subnets[theirs.removeprefix("pool-")] = reply["Pool"]
        self.pool_ids[theirs] = reply["PoolID"]

    def judge_requestaddress(self, body: Any, reply: Any, line: Any) -> None:
        interface = ip_interface(reply["Address"])
        theirs = line["body"]["PoolID"]
        subnet = self.subnets.get(theirs.removeprefix("pool-"), theirs.removeprefix("pool-"))
        assert interface.network == ip_network(subnet), "the pool's prefix length"
        if body["Address"]:
            assert str(interface.ip) == body["Address"], "never a substitute"
        if "gave" in line:
            self.addresses[theirs, line["gave"]] = str(interface.ip)

    def judge_createnetwork(self, body: Any, reply: Any, line: Any) -> None:
        assert reply == {}
        options = body["Options"]
        self.networks[body["NetworkID"]] = {
            "internal": options.get("com.docker.network.internal", False),
            "gateways": {data.get("Gateway", "").partition("/")[0] for data in body["IPv4Data"]},
        }

    def judge_createendpoint(self, body: Any, reply: Any, line: Any) -> None:
        given, got = body["Interface"], reply["Interface"]
        assert not {key for key, value in given.items() if value} & {k for k, v in got.items() if v}
        mac = got.get("MacAddress") or given["MacAddress"]
        first = int(mac[:2], 16)
        assert not first & 1, "unicast"
        if not given["MacAddress"]:
            assert first & 2, "locally administered"
        else:
            text = body["Options"]["com.docker.network.endpoint.macaddress"]
            assert base64.b64decode(text).hex(":") == mac
        ifname = body["Options"].get("com.docker.network.endpoint.ifname")
        if ifname:
            self.prefixes[body["EndpointID"]] = ifname.rstrip("0")
        for key in ("Address", "AddressIPv6"):
            if got.get(key):
                assert "/" in got[key]
                ip_interface(got[key])

    def judge_join(self, body: Any, reply: Any, line: Any) -> None:
        name = reply["InterfaceName"]
        assert 0 < len(name["SrcName"]) <= 15
        assert name["DstPrefix"] == self.prefixes.get(body["EndpointID"], "eth")
        links = self.host.links()
        assert name["SrcName"] in links, "dockerd looks for it in the host's namespace"
        assert "UP" not in links[name["SrcName"]]["flags"]
        network = self.networks[body["NetworkID"]]
        if network["internal"]:
            assert "Gateway" not in reply and "GatewayIPv6" not in reply
            assert reply["DisableGatewayService"] is True
        elif network["gateways"] != {""}:
            assert {reply["Gateway"]} == network["gateways"]
        for route in reply.get("StaticRoutes", []):
            assert route["RouteType"] in {0, 1}

    def judge_endpointoperinfo(self, body: Any, reply: Any, line: Any) -> None:
        assert reply == {"Value": {}}


@pytest.mark.cnm(1, 4, 8, 11, 12, 14, 19, 20, 28, 31)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_recorded_request_gets_a_valid_answer(installation: Any, nobodys: Any, engine: str) -> None:
    installation.start()
    replay = Replay(installation)
    lines = calls_of(engine)
    wanted = sum("call" in line for line in lines)

    for line in lines:
        if "connects" in line:
            replay.connect(line["connects"])
        elif "call" in line:
            replay.call(line)

    assert replay.answers == wanted > 60
    left = {link for link in installation.host.links() if link.startswith("dv")}
    assert not {link for link in left if link.startswith("dvc")}, "no interface waits for a container"
    with contextlib.suppress(AttributeError):
        replay.connection.close()
    if "gateways" not in engine:  # that one ended with its networks there
        assert left == set()
        assert nobodys(installation.host.run, installation.state_dir) == []
