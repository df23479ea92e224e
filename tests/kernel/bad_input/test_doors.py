"""Bad input through every door where it can be made: the commands, the HTTP API, Docker's socket, CNI.

Each time the answer is one sentence that names the value, with the door's own code, and the kernel and the
store are as they were before.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.root


class Bad(NamedTuple):
    """One bad input: what the answer names, and for each door the request and the code it gives.

    In requests `{own}`, `{dir}` and `{pid}` stand for the host's namespace, the scene's directory, the test's process.
    """

    name: str
    names: str
    cli: tuple[str, int] | None = None
    api: tuple[str, object, int] | None = None
    docker: tuple[str, object, int] | None = None
    cni: tuple[dict[str, str], object, int] | None = None


def make(**fields: object) -> dict[str, object]:
    return {"name": "x", **fields}


def join(**fields: object) -> dict[str, object]:
    return {"sandbox": "free", **fields}


def runtime(**fields: object) -> dict[str, object]:
    return {"runtimeConfig": fields}


def data(subnet: str) -> dict[str, str]:
    return {"AddressSpace": "dovetail-local", "Pool": subnet}


def docker_network(**generic: str) -> dict[str, object]:
    options = {"com.docker.network.generic": generic}
    return {"NetworkID": "a" * 64, "Options": options, "IPv4Data": [data("10.7.0.0/24")]}


def docker_pool(subnet: str = "", **options: str) -> dict[str, object]:
    return {"AddressSpace": "dovetail-local", "Pool": subnet, "Options": options}


def docker_endpoint(**interface: str) -> dict[str, object]:
    return {"NetworkID": "d" * 64, "EndpointID": "b" * 64, "Interface": interface, "Options": {}}


def docker_ports(**binding: object) -> dict[str, object]:
    given = {"HostIP": "", "HostPort": 8080, "HostPortEnd": 8080, "Port": 80, "Proto": 6, **binding}
    ids = {"NetworkID": "d" * 64, "EndpointID": "e" * 64}
    return {**ids, "Options": {"com.docker.network.portmap": [given]}}


CREATE, CONNECT = "POST /v1/networks", "POST /v1/networks/web/connect"
NEW, ENDPOINT = "NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint"
POOL, ADDRESS = "IpamDriver.RequestPool", "IpamDriver.RequestAddress"
PUBLISH = "NetworkDriver.ProgramExternalConnectivity"


def port(number: int, **fields: object) -> dict[str, object]:
    return runtime(portMappings=[{"hostPort": number, "containerPort": 80, "protocol": "tcp", **fields}])


CASES = [
    Bad(
        "unknown network", "'nope'",
        cli=("network connect nope free", 1), api=("POST /v1/networks/nope/connect", join(), 404),
        docker=(NEW, docker_network(**{"dovetail.network": "nope"}), 500), cni=({}, {"network": "nope"}, 7),
    ),
    Bad(
        "unknown network as pool", "'nope'", docker=(POOL, docker_pool(**{"dovetail.network": "nope"}), 500),
    ),
    Bad(
        "unknown sandbox", "'nope'", cli=("network connect web nope", 1), api=(CONNECT, {"sandbox": "nope"}, 404),
    ),
    Bad(
        "unknown driver", "'ring'", cli=("network create x -d ring", 1), api=(CREATE, make(driver="ring"), 404),
        docker=(NEW, docker_network(**{"dovetail.driver": "ring"}), 500),
    ),
    Bad(
        "unknown option of a driver", "'colour'", cli=("network create x -o colour=red", 1),
        api=(CREATE, make(options={"colour": "red"}), 400), docker=(NEW, docker_network(colour="red"), 400),
    ),
    Bad(
        "unknown option of ours", "'dovetail.nme'",
        cli=("network create x -o dovetail.nme=x", 1), api=(CREATE, make(options={"dovetail.nme": "x"}), 400),
        docker=(NEW, docker_network(**{"dovetail.nme": "x"}), 400),
    ),
    Bad("unknown option of our pools", "'dovetail.nme'", docker=(POOL, docker_pool(**{"dovetail.nme": "x"}), 400)),
    Bad("unknown CNI argument", "COLOUR", cni=({"CNI_ARGS": "COLOUR=red"}, {}, 4)),
    Bad(
        "a value that the option cannot have", "'tall'", cli=("network create x -o mtu=tall", 1),
        api=(CREATE, make(options={"mtu": "tall"}), 400), docker=(NEW, docker_network(mtu="tall"), 400),
    ),
    Bad(
        "malformed CIDR", "'10.7.0.0/33'", cli=("network create x --subnet 10.7.0.0/33", 2),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.0/33"}]), 400), docker=(POOL, docker_pool("10.7.0.0/33"), 400),
        cni=({}, runtime(ips=["10.7.0.0/33"]), 7),
    ),
    Bad(
        "CIDR with host bits", "'10.7.0.1/24'", cli=("network create x --subnet 10.7.0.1/24", 2),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.1/24"}]), 400), docker=(POOL, docker_pool("10.7.0.1/24"), 400),
    ),
    Bad(
        "malformed address", "'10.88.0'", cli=("network connect web free --ip 10.88.0", 2),
        api=(CONNECT, join(ips=["10.88.0"]), 400),
        docker=(ADDRESS, {"PoolID": "POOL", "Address": "10.88.0"}, 400), cni=({"CNI_ARGS": "IP=10.88.0"}, {}, 7),
    ),
    Bad(
        "malformed MAC", "'02:zz'", cli=("network connect web free --mac 02:zz", 2),
        api=(CONNECT, join(mac="02:zz"), 400),
        docker=(ENDPOINT, docker_endpoint(Address="10.88.0.98/24", MacAddress="02:zz"), 400),
        cni=({}, runtime(mac="02:zz"), 7),
    ),
    Bad(
        "multicast MAC", "'01:00:5e:00:00:01'", cli=("network connect web free --mac 01:00:5e:00:00:01", 2),
        api=(CONNECT, join(mac="01:00:5e:00:00:01"), 400),
        docker=(ENDPOINT, docker_endpoint(Address="10.88.0.98/24", MacAddress="01:00:5e:00:00:01"), 400),
        cni=({"CNI_ARGS": "MAC=01:00:5e:00:00:01"}, {}, 7),
    ),
    Bad(
        "malformed port", "'web:80'", cli=("network connect web free -p web:80", 2),
        api=(CONNECT, join(publish=["web:80"]), 400),
    ),
    Bad(
        "port out of range", "70000", cli=("network connect web free -p 70000:80", 2),
        api=(CONNECT, join(publish=["70000:80"]), 400), docker=(PUBLISH, docker_ports(HostPort=70000), 400),
        cni=({}, port(70000), 7),
    ),
    Bad(
        "protocol that has no ports", "icmp", cli=("network connect web free -p 8080:80/icmp", 2),
        api=(CONNECT, join(publish=["8080:80/icmp"]), 400), cni=({}, port(8080, protocol="icmp"), 7),
    ),
    Bad("protocol number that has no ports", "protocol 1 ", docker=(PUBLISH, docker_ports(Proto=1), 400)),
    Bad(
        "gateway outside the subnet", "10.8.0.1",
        cli=("network create x --subnet 10.7.0.0/24 --gateway 10.8.0.1", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.0/24", "gateway": "10.8.0.1"}]), 400),
        docker=(
            NEW,
            {**docker_network(), "IPv4Data": [{"AddressSpace": "x", "Pool": "10.7.0.0/24", "Gateway": "10.8.0.1/24"}]},
            400,
        ),
    ),
    Bad(
        "IP range outside the subnet", "10.9.0.0/24",
        cli=("network create x --subnet 10.7.0.0/24 --ip-range 10.9.0.0/24", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.0/24", "ip_range": "10.9.0.0/24"}]), 400),
        docker=(POOL, {**docker_pool("10.7.0.0/24"), "SubPool": "10.9.0.0/24"}, 400),
    ),
    Bad(
        "gateway that is reserved", "10.7.0.9",
        cli=("network create x --subnet 10.7.0.0/24 --gateway 10.7.0.9 --aux-address nas=10.7.0.9", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.0/24", "gateway": "10.7.0.9", "aux": {"nas": "10.7.0.9"}}]), 400),
    ),
    Bad(
        "taken address", "10.88.0.50", cli=("network connect web free --ip 10.88.0.50", 1),
        api=(CONNECT, join(ips=["10.88.0.50"]), 409),
        docker=(ADDRESS, {"PoolID": "POOL", "Address": "10.88.0.50"}, 409), cni=({}, runtime(ips=["10.88.0.50/24"]), 101),
    ),
    Bad(
        "the gateway's address", "10.88.0.1", cli=("network connect web free --ip 10.88.0.1", 1),
        api=(CONNECT, join(ips=["10.88.0.1"]), 409),
        docker=(ADDRESS, {"PoolID": "POOL", "Address": "10.88.0.1"}, 409), cni=({}, runtime(ips=["10.88.0.1"]), 101),
    ),
    Bad(
        "address outside the network", "10.99.0.1", cli=("network connect web free --ip 10.99.0.1", 1),
        api=(CONNECT, join(ips=["10.99.0.1"]), 400),
        docker=(ADDRESS, {"PoolID": "POOL", "Address": "10.99.0.1"}, 400), cni=({}, runtime(ips=["10.99.0.1"]), 7),
    ),
    Bad(
        "two addresses of a family", "IPv4", cli=("network connect web free --ip 10.88.0.7 --ip 10.88.0.8", 1),
        api=(CONNECT, join(ips=["10.88.0.7", "10.88.0.8"]), 400), cni=({}, runtime(ips=["10.88.0.7", "10.88.0.8"]), 7),
    ),
    Bad(
        "exhausted pool", "10.77.0.0/30", cli=("network connect full free", 1),
        api=("POST /v1/networks/full/connect", join(), 409),
        docker=(ADDRESS, {"PoolID": "FULL", "Address": ""}, 500), cni=({}, {"network": "full"}, 102),
    ),
    Bad(
        "duplicate network", "'web'", cli=("network create web", 1), api=(CREATE, {"name": "web"}, 409),
        docker=(NEW, docker_network(**{"dovetail.name": "web"}), 409),
    ),
    Bad(
        "duplicate sandbox", "'box'", cli=("sandbox create box", 1), api=("POST /v1/sandboxes", {"name": "box"}, 409),
    ),
    Bad(
        "name that is none", "'a/b'", cli=("network create a/b", 1), api=(CREATE, {"name": "a/b"}, 400),
        docker=(NEW, docker_network(**{"dovetail.name": "a/b"}), 400), cni=({}, {"name": "a/b"}, 7),
    ),
    Bad(
        "second attachment", "box", cli=("network connect web box", 1), api=(CONNECT, {"sandbox": "box"}, 409),
    ),
    Bad(
        "second ADD", "eth0", cni=({"CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/netns/pod"}, {}, 104),
    ),
    Bad(
        "pool that overlaps another", "10.88.0.0/24", cli=("network create x --subnet 10.88.0.0/25", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.88.0.0/25"}]), 409), docker=(POOL, docker_pool("10.88.0.0/25"), 409),
    ),
    Bad(
        "pool that overlaps a route", "10.55.0.0/16", cli=("network create x --subnet 10.55.7.0/24", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.55.7.0/24"}]), 409),
        docker=(NEW, {**docker_network(), "IPv4Data": [data("10.55.7.0/24")]}, 409),
    ),
    Bad(
        "published port", "18080", cli=("network connect web free -p 18080:80", 1),
        api=(CONNECT, join(publish=["18080:80"]), 409),
        docker=(PUBLISH, docker_ports(HostPort=18080, HostPortEnd=18080), 409), cni=({}, port(18080), 103),
    ),
    Bad(
        "port of a local process", "18081", cli=("network connect web free -p 18081:80", 1),
        api=(CONNECT, join(publish=["18081:80"]), 409),
        docker=(PUBLISH, docker_ports(HostPort=18081, HostPortEnd=18081), 409), cni=({}, port(18081), 103),
    ),
    Bad(
        "range without a free port", "18080 to 18081", cli=("network connect web free -p 18080-18081:80", 1),
        api=(CONNECT, join(publish=["18080-18081:80"]), 409),
        docker=(PUBLISH, docker_ports(HostPort=18080, HostPortEnd=18081), 409),
    ),
    Bad(
        "port of a family that the endpoint lacks", "[fd00::1]:8080->80/tcp",
        cli=("network connect four free -p [fd00::1]:8080:80", 1),
        api=("POST /v1/networks/four/connect", join(publish=["[fd00::1]:8080:80"]), 400),
        docker=(PUBLISH, docker_ports(HostIP="fd00::1"), 400), cni=({}, {"network": "four"} | port(8080, hostIP="fd00::1"), 7),
    ),
    Bad(
        "port of an internal network", "'inner'", cli=("network connect inner free -p 8080:80", 1),
        api=("POST /v1/networks/inner/connect", join(publish=["8080:80"]), 400),
        cni=({}, {"network": "inner"} | port(8080), 7),
    ),
    Bad(
        "interface name that is taken", "'lo'", cli=("network connect web free --ifname lo", 1),
        api=(CONNECT, join(ifname="lo"), 409), cni=({"CNI_IFNAME": "lo"}, {}, 104),
    ),
    Bad(
        "interface name that is none", "'a:b'", cli=("network connect web free --ifname a:b", 1),
        api=(CONNECT, join(ifname="a:b"), 400), cni=({"CNI_IFNAME": "a:b"}, {}, 4),
    ),
    Bad(
        "namespace that is missing", "/run/netns/gone", cli=("sandbox create x --netns /run/netns/gone", 1),
        api=("POST /v1/sandboxes", {"name": "x", "netns": "/run/netns/gone"}, 400),
        cni=({"CNI_NETNS": "/run/netns/gone"}, {}, 4),
    ),
    Bad(
        "namespace that is a file", "{dir}/file", cli=("sandbox create x --netns {dir}/file", 1),
        api=("POST /v1/sandboxes", {"name": "x", "netns": "{dir}/file"}, 400), cni=({"CNI_NETNS": "{dir}/file"}, {}, 4),
    ),
    Bad(
        "namespace of another kind", "/proc/{pid}/ns/mnt", cli=("sandbox create x --netns /proc/{pid}/ns/mnt", 1),
        api=("POST /v1/sandboxes", {"name": "x", "netns": "/proc/{pid}/ns/mnt"}, 400),
        cni=({"CNI_NETNS": "/proc/{pid}/ns/mnt"}, {}, 4),
    ),
    Bad(
        "namespace that is another one to each", "/proc/self/ns/net",
        cli=("sandbox create x --netns /proc/self/ns/net", 1),
        api=("POST /v1/sandboxes", {"name": "x", "netns": "/proc/self/ns/net"}, 400),
    ),
    Bad(
        "the host's own namespace", "own", cli=("network connect web own", 1), api=(CONNECT, {"sandbox": "own"}, 400),
        cni=({"CNI_NETNS": "{own}"}, {}, 4),
    ),
    Bad(
        "namespace of a container on the host's network", "hosts", cli=("network connect hosts free", 1),
        api=("POST /v1/networks/hosts/connect", join(), 400), cni=({}, {"network": "hosts"}, 2),
    ),
    Bad(
        "what is not JSON", "JSON", api=(CREATE, b"{", 400), docker=(NEW, b"{", 400), cni=({}, b"{", 6),
    ),
    Bad(
        "JSON of another form", "str", api=(CREATE, {"name": 5}, 400), docker=(NEW, {"NetworkID": 5}, 400),
    ),
    Bad("a list for an object", "object", api=(CREATE, [], 400), docker=(NEW, [], 400), cni=({}, b"[]", 6)),
    Bad("field that there is not", "colour", api=(CREATE, make(colour="red"), 400)),
    Bad("path with a null byte", "'/a\\x00b'", api=("POST /v1/sandboxes", {"name": "x", "netns": "/a\0b"}, 400)),
    Bad("path that there is not", "/v1/colours", api=("GET /v1/colours", b"", 404)),
    Bad("method that there is not", "DELETE", api=("DELETE /v1/networks", b"", 405)),
    Bad("call that there is not", "NetworkDriver.Paint", docker=("NetworkDriver.Paint", {}, 404)),
    Bad("verb that there is not", "PAINT", cni=({"CNI_COMMAND": "PAINT"}, {}, 4)),
    Bad("version that there is not", "9.9.9", cni=({}, {"cniVersion": "9.9.9"}, 1)),
    Bad("container without a name", "CNI_CONTAINERID", cni=({"CNI_CONTAINERID": ""}, {}, 4)),
    Bad("list for a port", "portMappings", cni=({}, runtime(portMappings="80"), 7)),
    Bad("removal of what is in use", "box", cli=("network rm full", 1), api=("DELETE /v1/networks/full", b"", 409)),
    Bad("removal of what Docker uses", "docker network", cli=("network rm web", 1), api=("DELETE /v1/networks/web", b"", 409)),
    Bad("disconnection of what is not connected", "free", cli=("network disconnect web free", 1),
        api=("POST /v1/networks/web/disconnect", join(), 404)),
]  # fmt: skip


def filled(value: Any, scene: Any) -> Any:
    """Put the scene's own values into a request."""
    if isinstance(value, dict):
        return {key: filled(one, scene) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, scene) for one in value]
    if not isinstance(value, str):
        return value
    for key, text in (
        ("{own}", scene.own_netns),
        ("{dir}", str(scene.directory)),
        ("{pid}", str(os.getpid())),
    ):
        value = value.replace(key, text)
    return {"POOL": scene.pool_id, "FULL": "dovetail/10.77.0.0/30"}.get(value, value)


def ask(scene: Any, door: str, case: Bad) -> tuple[Any, int]:
    """Make the bad input through a door; gives the answer and the code that it should have."""
    if door.startswith("cli") and case.cli:
        words, code = case.cli
        return scene.cli("run" if door == "cli" else "alone", *filled(words, scene).split()), code
    if door == "api" and case.api:
        target, body, code = case.api
        return scene.api(*target.split(), filled(body, scene)), code
    if door == "docker" and case.docker:
        method, body, code = case.docker
        return scene.docker(method, filled(body, scene)), code
    assert case.cni is not None
    environment, config, code = case.cni
    executables = "bin" if door == "cni" else "bin-alone"
    return scene.cni(executables, filled(environment, scene), filled(config, scene)), code


DOORS = [
    pytest.param(door, case, id=f"{door}-{case.name.replace(' ', '-')}")
    for case in CASES
    for door in ("cli", "cli-alone", "api", "docker", "cni", "cni-alone")
    if getattr(case, door.partition("-")[0]) is not None
]


@pytest.mark.parametrize(("door", "case"), DOORS)
def test_bad_input_is_one_sentence_with_its_code_and_changes_nothing(
    door: str, case: Bad, scene: Any
) -> None:
    before = scene.state()

    answer, code = ask(scene, door, case)

    assert answer.code == code, answer
    assert filled(case.names, scene) in f"{answer.sentence} {answer.more}"
    assert "\n" not in answer.sentence
    assert "Traceback" not in answer.sentence
    assert "internal error" not in answer.sentence
    assert scene.state() == before
