"""What a crash leaves is repaired or released."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dovetail.errors import AlreadyExists
from dovetail.model.addresses import parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec


@pytest.fixture
def web(rig: Any) -> Any:
    rig.engine.networks.create(
        NetworkSpec(name="web", subnets=(SubnetSpec(subnet=parse_subnet("10.88.0.0/24")),))
    )
    return rig


def test_a_half_made_endpoint_is_released(web: Any) -> None:
    web.attach("c1", publish="8080:80")
    endpoint = web.store.endpoints()[0]
    web.store.put_endpoint(msgspec.structs.replace(endpoint, status="creating"))

    report = web.engine.reconcile()

    assert report.failed == []
    assert web.store.endpoints() == []
    assert [a.kind for a in web.store.addresses()] == ["gateway"]
    assert endpoint.link not in {link.name for link in web.kernel.links()}


def test_an_endpoint_whose_interface_is_gone_is_released(web: Any) -> None:
    web.attach("c1")
    web.kernel.delete_links([web.store.endpoints()[0].link])

    web.engine.reconcile()

    assert web.store.endpoints() == []


def test_a_living_endpoint_stays(web: Any) -> None:
    web.attach("c1", publish="8080:80")
    rows, state = web.rows(), web.kernel_state()

    report = web.engine.reconcile()

    assert (report.released, report.removed, report.failed) == ([], [], [])
    assert web.rows() == rows
    assert web.kernel_state() == state


def test_a_bridge_that_was_deleted_comes_back(web: Any) -> None:
    link = web.store.networks()[0].link
    web.kernel.delete_links([link])

    report = web.engine.reconcile()

    assert link in {found.name for found in web.kernel.links()}
    assert any(link in line for line in report.restored)


def test_flushed_elements_come_back_and_foreign_ones_go(web: Any) -> None:
    web.attach("c1", publish="8080:80")
    before = web.kernel.nft_elements()
    web.kernel.nft_delete_elements(list(before))

    web.engine.restore_firewall()

    assert web.kernel.nft_elements() == before


def test_a_half_made_network_is_undone(web: Any) -> None:
    network = web.store.networks()[0]
    web.store.put_network(msgspec.structs.replace(network, status="creating"))

    web.engine.reconcile()

    assert web.store.networks() == []
    assert web.store.pools() == []
    assert network.link not in {link.name for link in web.kernel.links()}


def test_a_link_of_nobody_goes_unless_its_owner_is_being_worked_on(web: Any) -> None:
    web.attach("c1")
    endpoint = web.store.endpoints()[0]
    for row in web.store.addresses(owner=endpoint.id):
        web.store.delete_address(row.pool_id, row.address)
    web.store.delete_endpoint(endpoint.id)

    with web.engine.core.locks.hold(endpoint.id):  # an attachment of the same container, say
        web.engine.reconcile()
        assert endpoint.link in {link.name for link in web.kernel.links()}

    report = web.engine.reconcile()

    assert endpoint.link not in {link.name for link in web.kernel.links()}
    assert any(endpoint.link in line for line in report.removed)


def test_a_half_made_network_does_not_keep_its_name_and_subnet(web: Any) -> None:
    network = web.store.networks()[0]
    web.store.put_network(msgspec.structs.replace(network, status="creating"))

    made = web.engine.networks.create(
        NetworkSpec(name="web", subnets=(SubnetSpec(subnet=parse_subnet("10.88.0.0/24")),))
    )

    assert web.store.networks() == [made]
    assert [link.name for link in web.kernel.links() if link.name != "lo"] == [made.link]


def test_a_network_that_is_being_made_keeps_its_name(web: Any) -> None:
    network = web.store.networks()[0]
    web.store.put_network(msgspec.structs.replace(network, status="creating"))

    with web.engine.core.locks.hold(network.id), pytest.raises(AlreadyExists, match="'web' already exists"):
        web.engine.networks.create(NetworkSpec(name="web"))

    assert web.store.networks() == [msgspec.structs.replace(network, status="creating")]
