"""What is put is found again, by id, name and prefix; what is unique is refused; what is gone may go again."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import msgspec
import pytest

from dovetail.errors import AlreadyExists, InvalidArgument, NotFound, PortInUse
from dovetail.model.attachment import DNS, Attachment, HostInterface, Route
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.mac import Mac
from dovetail.model.network import FirewallIntent, Network, Subnet
from dovetail.model.pool import Address, Pool
from dovetail.model.port import PortMapping, parse_publish
from dovetail.model.sandbox import Sandbox
from dovetail.store.protocol import Binding, Store
from dovetail.store.sqlite import SqliteStore

NETWORK = Network(
    id="aa11" * 16,
    name="web",
    driver="bridge",
    subnets=(
        Subnet(
            subnet=ip_network("10.88.0.0/24"),
            gateway=ip_address("10.88.0.1"),
            ip_range=ip_network("10.88.0.128/25"),
            aux={"router": ip_address("10.88.0.2")},
            pool_id="dovetail/10.88.0.0/24",
        ),
        Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1")),
    ),
    options={"mtu": "1450"},
    labels={"team": "a"},
    link="dv-aa11aa11aa11",
    kept=(ip_interface("192.0.2.1/24"),),
    firewall=FirewallIntent(link="dv-aa11aa11aa11", icc=False),
    face="docker",
    created=1.5,
    status="active",
)
ENDPOINT = Endpoint(
    id="ee11" * 16,
    network_id=NETWORK.id,
    owner=Owner(face="cni", network="web", container="c1", ifname="eth0"),
    name="first",
    addresses=(ip_interface("10.88.0.5/24"), ip_interface("fd88::5/64")),
    mac=Mac("02:00:00:00:00:01"),
    aliases=("db",),
    dns=DNS(nameservers=("10.88.0.1",)),
    ports=parse_publish("8080:80"),
    sandbox_id="c1",
    link="dvhee11ee11ee11",
    attachment=Attachment(
        ifname="eth0",
        mac=Mac("02:00:00:00:00:01"),
        addresses=(ip_interface("10.88.0.5/24"),),
        gateways=(ip_address("10.88.0.1"),),
        routes=(Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.88.0.1")),),
        host_interfaces=(HostInterface(name="dv-aa11aa11aa11"),),
    ),
    host_ns=4026531840,
    created=2.5,
    status="joined",
)
SANDBOX = Sandbox(id="c1" * 8, name="box", netns="/run/dovetail/netns/box", made=True, inode=7, boot_id="b")
POOL = Pool(id="dovetail/10.88.0.0/24", subnet=ip_network("10.88.0.0/24"), owner=NETWORK.id, created=3.5)


def with_id(value, new_id, **changes):
    return msgspec.structs.replace(value, id=new_id, **changes)


def test_the_store_fulfils_its_protocol(store: SqliteStore) -> None:
    as_protocol: Store = store

    assert len(as_protocol.id) == 8
    assert int(as_protocol.id, 16) >= 0


def test_two_stores_have_two_ids(store: SqliteStore, tmp_path) -> None:
    assert SqliteStore(str(tmp_path / "other.db")).id != store.id


def test_every_field_of_a_value_comes_back(store: SqliteStore) -> None:
    store.put_network(NETWORK)
    store.put_endpoint(ENDPOINT)
    store.put_sandbox(SANDBOX)
    store.put_pool(POOL)

    assert store.network(NETWORK.id) == NETWORK
    assert store.endpoint(ENDPOINT.id) == ENDPOINT
    assert store.sandbox(SANDBOX.id) == SANDBOX
    assert store.pool(POOL.id) == POOL
    assert store.networks() == [NETWORK]
    assert store.endpoints() == [ENDPOINT]
    assert store.sandboxes() == [SANDBOX]
    assert store.pools() == [POOL]


def test_another_process_reads_the_same(store: SqliteStore, path: str) -> None:
    store.put_network(NETWORK)

    other = SqliteStore(path)

    assert other.networks() == [NETWORK]
    assert other.id == store.id


def test_putting_again_replaces_and_keeps_the_order(store: SqliteStore) -> None:
    second = with_id(NETWORK, "bb" * 32, name="db")
    store.put_network(NETWORK)
    store.put_network(second)

    store.put_network(with_id(NETWORK, NETWORK.id, status="deleting", name="web2"))

    assert [(n.name, n.status) for n in store.networks()] == [("web2", "deleting"), ("db", "active")]


def test_a_second_network_of_a_name_is_refused(store: SqliteStore) -> None:
    store.put_network(NETWORK)

    with pytest.raises(AlreadyExists, match="network 'web' already exists"):
        store.put_network(with_id(NETWORK, "bb" * 32))

    assert [n.id for n in store.networks()] == [NETWORK.id]


def test_only_sandboxes_made_by_hand_have_unique_names(store: SqliteStore) -> None:
    store.put_sandbox(SANDBOX)
    store.put_sandbox(with_id(SANDBOX, "c2", face="cni"))
    store.put_sandbox(with_id(SANDBOX, "c3", face="docker"))

    with pytest.raises(AlreadyExists, match="sandbox 'box' already exists"):
        store.put_sandbox(with_id(SANDBOX, "c4"))


@pytest.mark.parametrize("ref", ["aa11" * 16, "web", "aa11", "aa"])
def test_a_network_is_found_by_id_name_and_prefix(store: SqliteStore, ref: str) -> None:
    store.put_network(NETWORK)
    store.put_network(with_id(NETWORK, "ab" * 32, name="db"))

    assert store.find_network(ref) == NETWORK


@pytest.mark.parametrize("ref", ["", "zz", "webb", "we", "aa11" * 16 + "0", "%", "_"])
def test_what_is_not_there_is_not_found(store: SqliteStore, ref: str) -> None:
    store.put_network(NETWORK)
    store.put_endpoint(msgspec.structs.replace(ENDPOINT, name=""))
    store.put_sandbox(SANDBOX)

    for find, kind in (
        (store.find_network, "network"),
        (store.find_endpoint, "endpoint"),
        (store.find_sandbox, "sandbox"),
    ):
        with pytest.raises(NotFound, match=f"no such {kind}: '{ref}'"):
            find(ref)


def test_a_prefix_of_several_names_them(store: SqliteStore) -> None:
    store.put_network(NETWORK)
    store.put_network(with_id(NETWORK, "aa22" * 16, name="db"))

    with pytest.raises(
        InvalidArgument, match=r"'aa' may be any of .*aa11aa11aa11 \(web\), aa22aa22aa22 \(db\)"
    ):
        store.find_network("aa")


def test_a_name_comes_before_a_prefix_and_an_id_before_a_name(store: SqliteStore) -> None:
    store.put_network(NETWORK)
    named_like_a_prefix = with_id(NETWORK, "bb" * 32, name="aa11")
    store.put_network(named_like_a_prefix)
    named_like_an_id = with_id(NETWORK, "cc" * 32, name=NETWORK.id)
    store.put_network(named_like_an_id)

    assert store.find_network("aa11") == named_like_a_prefix
    assert store.find_network(NETWORK.id) == NETWORK


def test_a_name_of_several_endpoints_is_ambiguous(store: SqliteStore) -> None:
    store.put_endpoint(ENDPOINT)
    store.put_endpoint(with_id(ENDPOINT, "ee22" * 16))

    with pytest.raises(InvalidArgument, match="'first' may be any of the endpoints"):
        store.find_endpoint("first")


def test_endpoints_are_listed_by_network_and_sandbox(store: SqliteStore) -> None:
    store.put_endpoint(with_id(ENDPOINT, "e1", network_id="n1", sandbox_id="s1"))
    store.put_endpoint(with_id(ENDPOINT, "e2", network_id="n1", sandbox_id="s2"))
    store.put_endpoint(with_id(ENDPOINT, "e3", network_id="n2", sandbox_id="s1"))

    assert [e.id for e in store.endpoints()] == ["e1", "e2", "e3"]
    assert [e.id for e in store.endpoints(network_id="n1")] == ["e1", "e2"]
    assert [e.id for e in store.endpoints(sandbox_id="s1")] == ["e1", "e3"]
    assert [e.id for e in store.endpoints(network_id="n1", sandbox_id="s1")] == ["e1"]
    assert store.endpoints(network_id="n3") == []


def test_an_endpoint_that_moves_is_listed_where_it_is(store: SqliteStore) -> None:
    store.put_endpoint(with_id(ENDPOINT, "e1", sandbox_id=""))

    store.put_endpoint(with_id(ENDPOINT, "e1", sandbox_id="s1"))

    assert [e.id for e in store.endpoints(sandbox_id="s1")] == ["e1"]


def test_deleting_what_is_gone_succeeds(store: SqliteStore) -> None:
    for _ in range(2):
        store.delete_network("x")
        store.delete_endpoint("x")
        store.delete_sandbox("x")
        store.delete_binding("docker", "x")
        store.delete_pool("x")
        store.delete_address("x", ip_address("10.0.0.1"))
        store.release_ports("x")


def test_a_sandbox_of_our_own_comes_before_containers_of_its_name(store: SqliteStore) -> None:
    for identifier, face in (("d1", "docker"), ("s1", "cli"), ("c1", "cni")):
        store.put_sandbox(Sandbox(id=identifier, name="box", netns=f"/run/{identifier}", face=face))

    assert store.find_sandbox("box").id == "s1"
    assert store.find_sandbox("d1").face == "docker"

    store.delete_sandbox("s1")
    with pytest.raises(InvalidArgument, match="may be any of the sandboxs? d1"):
        store.find_sandbox("box")


def test_a_network_is_found_by_a_faces_name_after_its_own_and_before_a_prefix(store: SqliteStore) -> None:
    for identifier, name in (("abc1", "web"), ("abc2", "db"), ("abc3", "docker-1")):
        store.put_network(Network(id=identifier, name=name, driver="bridge"))
    store.put_binding(Binding("docker", "d1", "abc3", made=True, name="shop"))
    store.put_binding(Binding("docker", "d2", "abc2", made=False, name="web"))
    store.put_binding(Binding("docker", "d3", "abc3", made=False, name="abc"))

    assert store.find_network("shop").id == "abc3"
    assert store.find_network("web").id == "abc1"
    assert store.find_network("abc").id == "abc3"
    assert store.find_network("abc2").id == "abc2"

    store.put_binding(Binding("docker", "d2", "abc2", made=False, name="shop"))
    with pytest.raises(InvalidArgument, match=r"may be any of the networks abc. \(.*\), abc. \(.*\)"):
        store.find_network("shop")


def test_a_binding_keeps_what_its_face_says(store: SqliteStore) -> None:
    told = Binding("docker", "d1", "n1", made=True, name="shop", labels=(("a", "1"), ("b", "")), created=1.5)

    store.put_binding(told)

    assert store.binding("docker", "d1") == told
    assert store.bindings() == [told]


def test_bindings_are_kept_by_face_and_external_id(store: SqliteStore) -> None:
    docker = Binding("docker", "d1", "n1", made=True)
    cni = Binding("cni", "d1", "n1", made=False)
    store.put_binding(docker)
    store.put_binding(cni)
    store.put_binding(Binding("docker", "d2", "n2", made=False))

    assert store.binding("docker", "d1") == docker
    assert store.binding("docker", "d1").made is True
    assert set(store.bindings(network_id="n1")) == {docker, cni}
    assert len(store.bindings()) == 3

    store.put_binding(docker._replace(network_id="n3"))
    store.delete_binding("cni", "d1")

    assert store.bindings(network_id="n1") == []
    assert store.binding("docker", "d1").network_id == "n3"
    assert store.binding("cli", "d1") is None


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("8080:80", "8080:81"),
        ("8080:80", "192.0.2.1:8080:80"),
        ("192.0.2.1:8080:80", "8080:80"),
        ("192.0.2.1:8080:80", "192.0.2.1:8080:80"),
        ("0.0.0.0:8080:80", "192.0.2.1:8080:80"),
        ("[2001:db8::1]:8080:80", "[::]:8080:80"),
        ("[2001:db8::1]:8080:80", "8080:80"),
        ("8000-8090:80-170", "8080:80"),
    ],
)
def test_a_published_port_is_refused_naming_its_holder(store: SqliteStore, held: str, asked: str) -> None:
    store.put_endpoint(ENDPOINT)
    store.claim_ports(ENDPOINT.id, parse_publish(held))
    before = store.published_ports()

    with pytest.raises(PortInUse, match=r"port 8080/tcp .* endpoint ee11ee11ee11 \(first\)"):
        store.claim_ports("e2", (*parse_publish("9000:90"), *parse_publish(asked)))

    assert store.published_ports() == before


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("8080:80", "8081:80"),
        ("8080:80", "8080:80/udp"),
        ("192.0.2.1:8080:80", "192.0.2.2:8080:80"),
        ("192.0.2.1:8080:80", "[2001:db8::1]:8080:80"),
        ("0.0.0.0:8080:80", "[::]:8080:80"),
    ],
)
def test_ports_that_do_not_meet_are_both_published(store: SqliteStore, held: str, asked: str) -> None:
    store.claim_ports("e1", parse_publish(held))
    store.claim_ports("e2", parse_publish(asked))

    assert sorted(store.published_ports(), key=str) == [
        ("e1", parse_publish(held)[0]),
        ("e2", parse_publish(asked)[0]),
    ]


def test_claiming_adds_and_the_same_claim_again_succeeds(store: SqliteStore) -> None:
    store.claim_ports("e1", parse_publish("8080:80"))
    store.claim_ports("e1", parse_publish("8080:80"))
    store.claim_ports("e1", parse_publish("8443:443"))

    assert store.published_ports() == [
        ("e1", PortMapping(container_port=80, host_port=8080)),
        ("e1", PortMapping(container_port=443, host_port=8443)),
    ]


def test_one_host_port_cannot_lead_to_two_ports_of_an_endpoint(store: SqliteStore) -> None:
    store.claim_ports("e1", parse_publish("8080:80"))

    with pytest.raises(PortInUse):
        store.claim_ports("e1", parse_publish("8080:81"))


def test_ports_go_with_their_endpoint(store: SqliteStore) -> None:
    store.put_endpoint(ENDPOINT)
    store.claim_ports(ENDPOINT.id, parse_publish("8080:80"))
    store.claim_ports("e2", parse_publish("8081:80"))

    store.delete_endpoint(ENDPOINT.id)
    assert [holder for holder, _ in store.published_ports()] == ["e2"]

    store.release_ports("e2")
    assert store.published_ports() == []


def address(text: str, **changes) -> Address:
    row = Address(
        pool_id=POOL.id, address=ip_address(text), kind="endpoint", owner="e1", boot_id="b1", created=1.5
    )
    return msgspec.structs.replace(row, **changes)


def test_addresses_are_listed_by_pool_and_owner_in_order(store: SqliteStore) -> None:
    six = Pool(id="six", subnet=ip_network("fd88::/64"))
    store.put_pool(POOL)
    store.put_pool(six)
    rows = [address("10.88.0.10"), address("10.88.0.9", owner="e2"), address("fd88::a", pool_id="six")]
    for row in rows:
        store.put_address(row)

    assert store.address(POOL.id, rows[0].address) == rows[0]
    assert store.addresses(POOL.id) == [rows[1], rows[0]]
    assert store.addresses(owner="e1") == [rows[0], rows[2]]
    assert store.addresses("six", owner="e1") == [rows[2]]
    assert store.count_addresses(POOL.id) == 2
    assert store.address("six", ip_address("10.88.0.10")) is None


def test_putting_an_address_again_replaces_its_owner(store: SqliteStore) -> None:
    store.put_pool(POOL)
    store.put_address(address("10.88.0.9"))

    handed = address("10.88.0.9", owner="docker", kind="docker", created=2.5)
    store.put_address(handed)

    assert store.addresses() == [handed]
    start = int(handed.address)
    assert store.free_from(POOL.id, start, start + 9) == start + 1


def test_an_address_needs_its_pool(store: SqliteStore) -> None:
    with pytest.raises(NotFound, match="no such pool: 'dovetail/10.88.0.0/24'"):
        store.put_address(address("10.88.0.9"))


def test_a_pool_goes_with_its_addresses_ranges_and_cursor(store: SqliteStore) -> None:
    store.put_pool(POOL)
    store.put_address(address("10.88.0.9"))
    store.set_cursor(POOL.id, int(ip_address("10.88.0.9")))

    store.delete_pool(POOL.id)
    store.put_pool(POOL)

    assert store.addresses() == []
    assert store.cursor(POOL.id) is None
    start = int(ip_address("10.88.0.9"))
    assert store.free_from(POOL.id, start, start) == start


def test_a_pool_that_changes_hands_keeps_its_addresses_and_cursor(store: SqliteStore) -> None:
    store.put_pool(POOL)
    store.put_address(address("10.88.0.9"))
    store.set_cursor(POOL.id, 9)

    store.put_pool(msgspec.structs.replace(POOL, owner="docker"))

    assert store.pools()[0].owner == "docker"
    assert store.count_addresses(POOL.id) == 1
    assert store.cursor(POOL.id) == 9


def test_every_look_up_goes_by_an_index(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put_pool(POOL)
    database = store._db
    ran: list[tuple[str, tuple[object, ...]]] = []
    execute = database._execute

    def recording(session, sql, values=()):
        ran.append((sql, values))
        return execute(session, sql, values)

    monkeypatch.setattr(database, "_execute", recording)
    store.network("n")
    store.endpoints(network_id="n")
    store.endpoints(sandbox_id="s")
    store.endpoints(network_id="n", sandbox_id="s")
    store.bindings(network_id="n")
    store.addresses(owner="e")
    store.addresses(POOL.id, owner="e")
    store.count_addresses(POOL.id)
    store.put_address(address("10.88.0.9"))
    store.delete_address(POOL.id, ip_address("10.88.0.9"))
    store.free_from(POOL.id, 1, 2)
    store.set_cursor(POOL.id, 1)
    store.claim_ports("e", parse_publish("8080:80"))
    store.delete_endpoint("e")
    store.delete_pool(POOL.id)
    for find in (store.find_network, store.find_endpoint, store.find_sandbox):
        with pytest.raises(NotFound):
            find("ref")

    plans = {
        sql: [row[3] for row in execute(database._take(), f"EXPLAIN QUERY PLAN {sql}", values)[0]]
        for sql, values in ran
        if sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
    }
    assert len(plans) > 20
    assert {sql: plan for sql, plan in plans.items() if any(line.startswith("SCAN") for line in plan)} == {}
