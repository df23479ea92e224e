"""An address driver on a ledger in memory."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from dovetail.ipam.local import LocalIpam
from dovetail.model.pool import AddressRequest, Pool, PoolRequest
from dovetail.store.sqlite import SqliteStore


class Books(LocalIpam):
    """The driver, with requests in short."""

    def __init__(self, store: SqliteStore, **kwargs) -> None:
        super().__init__(store, boot_id="boot", **kwargs)
        self.store = store

    def pool(self, subnet: str = "", *, ip_range: str = "", owner: str = "n1", routes=(), version=4) -> Pool:
        request = PoolRequest(
            subnet=ip_network(subnet) if subnet else None,
            ip_range=ip_network(ip_range) if ip_range else None,
            owner=owner,
            version=version,
        )
        return self.request_pool(request, routes=[ip_network(route) for route in routes])

    def ask(self, pool: Pool, address: str = "", *, owner: str = "e1", kind: str = "endpoint") -> str:
        request = AddressRequest(kind=kind, owner=owner, address=ip_address(address) if address else None)
        return str(self.request_address(pool.id, request))

    def release(self, pool: Pool, address: str, *, owner: str = "e1") -> None:
        self.release_address(pool.id, ip_address(address), owner)


@pytest.fixture
def ipam() -> Iterator[Books]:
    store = SqliteStore(":memory:")
    yield Books(store)
    store.close()


@pytest.fixture
def make_ipam() -> Iterator[type[Books]]:
    """Make drivers with other default ranges; one call, one store."""
    stores = []

    def make(**kwargs) -> Books:
        stores.append(SqliteStore(":memory:"))
        return Books(stores[-1], **kwargs)

    yield make
    for store in stores:
        store.close()
