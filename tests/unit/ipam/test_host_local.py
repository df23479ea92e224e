"""host-local's files: what is given, kept, given back, and what is not to be trusted."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from dovetail.errors import AddressInUse, Busy, InvalidArgument, PoolExhausted, StoreError
from dovetail.ipam import host_local_books, host_local_files
from dovetail.ipam.host_local import HostLocal
from dovetail.ipam.host_local_files import LeaseFiles
from dovetail.ipam.host_local_ranges import RangeSet, address_range, range_set

SMALL = range_set([address_range(ip_network("10.0.0.0/29"))])  # .2 to .6
V6 = range_set([address_range(ip_network("fd00::/64"))])


@pytest.fixture
def ipam(tmp_path: Path) -> HostLocal:
    return HostLocal(str(tmp_path / "a" / "networks"), "n1")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "a" / "networks" / "n1"


def add(ipam: HostLocal, container: str, *sets: RangeSet, ask: str = "", ifname: str = "eth0") -> list[str]:
    requested = [ip_address(text) for text in ask.split()]
    return [str(one.address) for one in ipam.add(container, ifname, sets or (SMALL,), requested)]


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in directory.iterdir()}


def test_the_files_are_the_reference_plugins(ipam: HostLocal, directory: Path) -> None:
    given = ipam.add("c1", "eth0", (SMALL, V6))

    assert [(str(one.address), str(one.gateway)) for one in given] == [
        ("10.0.0.2/29", "10.0.0.1"),
        ("fd00::2/64", "fd00::1"),
    ]
    assert contents(directory) == {
        "10.0.0.2": (b"c1\r\neth0", 0o600),
        "fd00::2": (b"c1\r\neth0", 0o600),
        "last_reserved_ip.0": (b"10.0.0.2", 0o600),
        "last_reserved_ip.1": (b"fd00::2", 0o600),
        "lock": (b"", 0o750),
    }
    for path in (directory, directory.parent, directory.parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_addresses_are_given_in_turn_and_come_again_after_the_last(ipam: HostLocal) -> None:
    assert [add(ipam, f"c{n}")[0] for n in range(4)] == [f"10.0.0.{n}/29" for n in range(2, 6)]

    ipam.delete("c0", "eth0")
    assert add(ipam, "c4") == ["10.0.0.6/29"]
    assert add(ipam, "c5") == ["10.0.0.2/29"]
    with pytest.raises(PoolExhausted) as caught:
        add(ipam, "c6")

    assert (
        caught.value.message
        == "failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6"
    )


def test_a_shorter_last_address_leaves_nothing_of_the_longer_one(ipam: HostLocal, directory: Path) -> None:
    wide = range_set([address_range(ip_network("10.0.0.0/24"))])
    add(ipam, "c1", wide, ask="10.0.0.200")
    add(ipam, "c2", wide, ask="10.0.0.9")

    assert (directory / "last_reserved_ip.0").read_bytes() == b"10.0.0.9"


def test_an_interface_gets_one_address_of_a_set(ipam: HostLocal) -> None:
    add(ipam, "c1")

    for ask in ("", "10.0.0.5", "10.0.0.2"):
        with pytest.raises(
            AddressInUse, match="10.0.0.2 has been allocated to c1, duplicate allocation is not allowed"
        ):
            add(ipam, "c1", ask=ask)
    assert add(ipam, "c1", ifname="eth1") == ["10.0.0.3/29"]


def test_a_requested_address_is_given_or_refused_and_never_replaced(ipam: HostLocal) -> None:
    assert add(ipam, "c1", ask="10.0.0.5") == ["10.0.0.5/29"]

    with pytest.raises(
        AddressInUse,
        match="requested IP address 10.0.0.5 is not available in range set 10.0.0.1-10.0.0.6",
    ):
        add(ipam, "c2", ask="10.0.0.5")
    with pytest.raises(InvalidArgument, match="requested ip 10.0.0.1 is subnet's gateway"):
        add(ipam, "c2", ask="10.0.0.1")
    with pytest.raises(
        InvalidArgument, match="failed to allocate all requested IPs: 10.0.0.3 10.9.0.1 fd00::1"
    ):
        add(ipam, "c2", ask="10.0.0.4 10.0.0.3 10.9.0.1 fd00::1")
    assert [str(lease.address) for lease in ipam.leases()] == ["10.0.0.5"]
    assert add(ipam, "c2") == ["10.0.0.6/29"]


def test_network_and_broadcast_addresses_are_refused_though_the_range_names_them(ipam: HostLocal) -> None:
    subnet = ip_network("10.0.0.0/29")
    whole = range_set([address_range(subnet, first=subnet[0], last=subnet[-1])])

    for ask in ("10.0.0.0", "10.0.0.7"):
        with pytest.raises(InvalidArgument, match=f"requested ip {ask} is the"):
            add(ipam, "c1", whole, ask=ask)
    given = [add(ipam, f"c{n}", whole)[0] for n in range(5)]
    assert given == [f"10.0.0.{n}/29" for n in range(2, 7)]


def test_the_gateway_of_another_range_is_not_given(ipam: HostLocal) -> None:
    subnet = ip_network("10.0.0.0/24")
    first = address_range(subnet, first=subnet[10], last=subnet[11], gateway=subnet[20])
    second = address_range(subnet, first=subnet[20], last=subnet[21], gateway=subnet[10])

    assert add(ipam, "c1", range_set([first]), range_set([second])) == ["10.0.0.11/24", "10.0.0.21/24"]
    with pytest.raises(PoolExhausted, match=r"10\.0\.0\.10-10\.0\.0\.11"):
        ipam.status((range_set([first]), range_set([second])))


def test_when_a_later_set_fails_the_earlier_ones_are_given_back(ipam: HostLocal, directory: Path) -> None:
    for number in range(5):
        add(ipam, f"c{number}")
    before = {name for name in contents(directory) if not name.startswith("last")}

    with pytest.raises(PoolExhausted, match="failed to allocate for range 1"):
        add(ipam, "new", V6, SMALL)

    assert {name for name in contents(directory) if not name.startswith("last")} == before


def test_a_failed_second_add_keeps_the_address_of_the_first(ipam: HostLocal) -> None:
    add(ipam, "c1")

    with pytest.raises(AddressInUse):
        add(ipam, "c1", V6, SMALL)

    assert [str(lease.address) for lease in ipam.leases()] == ["10.0.0.2"]


def test_delete_gives_back_what_the_interface_has_and_says_what(ipam: HostLocal) -> None:
    add(ipam, "c1", SMALL, V6)
    add(ipam, "c1", ifname="eth1")
    add(ipam, "c2")

    assert [str(one) for one in ipam.delete("c1", "eth0")] == ["10.0.0.2", "fd00::2"]
    assert ipam.delete("c1", "eth0") == []
    assert [(str(lease.address), lease.container, lease.ifname) for lease in ipam.leases()] == [
        ("10.0.0.3", "c1", "eth1"),
        ("10.0.0.4", "c2", "eth0"),
    ]


def test_nothing_is_made_for_what_only_looks_or_gives_back(ipam: HostLocal, tmp_path: Path) -> None:
    assert ipam.delete("c1", "eth0") == []
    assert ipam.gc(set()) == []
    assert ipam.leases() == []
    ipam.status((SMALL,))
    assert ipam.check("c1", "eth0") == ["host-local: Failed to find address added by container c1"]

    assert list(tmp_path.iterdir()) == []


def test_files_of_old_versions_have_the_container_only(ipam: HostLocal, directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "10.0.0.3").write_bytes(b" c1\n")

    with pytest.raises(AddressInUse, match="10.0.0.3 has been allocated to c1"):
        add(ipam, "c1")
    assert ipam.check("c1", "eth0") == []
    assert ipam.gc({("c1", "eth7")}) == []
    assert [str(one) for one in ipam.delete("c1", "eth0")] == ["10.0.0.3"]


def test_an_old_file_stays_where_delete_finds_a_new_one(ipam: HostLocal, directory: Path) -> None:
    add(ipam, "c1")
    (directory / "10.0.0.5").write_bytes(b"c1")

    assert [str(one) for one in ipam.delete("c1", "eth0")] == ["10.0.0.2"]
    assert [str(one) for one in ipam.delete("c1", "eth0")] == ["10.0.0.5"]


def test_check_says_what_differs_and_changes_nothing(ipam: HostLocal, directory: Path) -> None:
    add(ipam, "c1")
    add(ipam, "c2")
    before = contents(directory), directory.stat().st_mtime_ns
    asked = [ip_address("10.0.0.2"), ip_address("10.0.0.3"), ip_address("10.0.0.4")]

    assert ipam.check("c1", "eth0") == []
    assert ipam.check("c1", "eth0", asked[:1]) == []
    assert ipam.check("c1", "eth0", asked) == [
        "host-local: Failed to find address added by container c1: 10.0.0.3 belongs to c2",
        "host-local: Failed to find address added by container c1: 10.0.0.4 belongs to nobody",
    ]
    assert (contents(directory), directory.stat().st_mtime_ns) == before


def test_gc_gives_back_what_no_valid_attachment_has(ipam: HostLocal, directory: Path) -> None:
    add(ipam, "c1")
    add(ipam, "c2")
    add(ipam, "c2", ifname="eth1")
    (directory / "10.0.0.5").write_bytes(b"")
    (directory / "10.0.0.6").write_bytes(b"\xff\xfe")
    (directory / "readme").write_bytes(b"c9\r\neth0")

    stale = ipam.gc({("c1", "eth0"), ("c2", "eth1")})

    assert sorted((str(lease.address), lease.container, lease.ifname) for lease in stale) == [
        ("10.0.0.3", "c2", "eth0"),
        ("10.0.0.5", "", ""),
        ("10.0.0.6", "", ""),
    ]
    assert all(lease.created > 0 for lease in stale)
    assert set(contents(directory)) == {"10.0.0.2", "10.0.0.4", "lock", "last_reserved_ip.0", "readme"}


def test_status_names_the_set_that_is_full(ipam: HostLocal) -> None:
    for number in range(5):
        ipam.status((V6, SMALL))
        add(ipam, f"c{number}")

    with pytest.raises(PoolExhausted, match="no IP addresses available in range set: 10.0.0.1-10.0.0.6"):
        ipam.status((V6, SMALL))


def test_status_says_that_nothing_can_be_written(ipam: HostLocal, monkeypatch: pytest.MonkeyPatch) -> None:
    add(ipam, "c1")
    monkeypatch.setattr(host_local_files.os, "access", lambda *args, **kwargs: False)

    with pytest.raises(StoreError, match="n1 cannot be written"):
        ipam.status((SMALL,))


def test_what_a_killed_writer_left_goes_with_the_next_delete(ipam: HostLocal, directory: Path) -> None:
    add(ipam, "c1")
    (directory / "10.0.0.3").touch()
    (directory / "last_reserved_ip.0").write_bytes(b"")

    assert add(ipam, "c2") == ["10.0.0.4/29"]
    assert ipam.delete("c2", "eth0") == [ip_address("10.0.0.4")]
    assert "10.0.0.3" not in contents(directory)


@pytest.mark.parametrize(
    "last", [b"", b"10.0.0", b"\xff", b"fd00::3", b"10.9.0.3", b"10.0.0.3\n\n", b"x" * 9000]
)
def test_a_last_address_without_sense_costs_the_turn_only(
    ipam: HostLocal, directory: Path, last: bytes
) -> None:
    directory.mkdir(parents=True)
    (directory / "last_reserved_ip.0").write_bytes(last)

    assert add(ipam, "c1") == ["10.0.0.2/29"]
    assert (directory / "last_reserved_ip.0").read_bytes() == b"10.0.0.2"


def test_names_that_are_no_address_do_not_count(ipam: HostLocal, directory: Path) -> None:
    directory.mkdir(parents=True)
    for name in ("010.0.0.3", "10.0.0.3 ", "10.0.3", "FD00::2", "fd00::2%eth0", "fd00:0::2", "\udcff", "x"):
        (directory / name).write_bytes(b"c1\r\neth0")

    assert ipam.leases() == []
    assert add(ipam, "c1", SMALL, V6) == ["10.0.0.2/29", "fd00::2/64"]


def test_links_fifos_and_directories_in_place_of_files_are_taken_and_left_alone(
    ipam: HostLocal, directory: Path, tmp_path: Path
) -> None:
    directory.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(b"c1\r\neth0")
    (directory / "10.0.0.2").symlink_to(secret)
    (directory / "10.0.0.3").mkdir()
    os.mkfifo(directory / "10.0.0.4")

    assert ipam.leases() == []
    assert add(ipam, "c1") == ["10.0.0.5/29"]
    with pytest.raises(AddressInUse):
        add(ipam, "c2", ask="10.0.0.2")
    assert len(ipam.gc(set())) == 1
    assert secret.read_bytes() == b"c1\r\neth0"
    assert {"10.0.0.2", "10.0.0.3", "10.0.0.4"} < {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["lock", "last_reserved_ip.0"])
@pytest.mark.parametrize("kind", ["link", "directory"])
def test_a_link_in_place_of_a_file_of_ours_is_refused_and_nothing_is_given(
    ipam: HostLocal, directory: Path, tmp_path: Path, name: str, kind: str
) -> None:
    directory.mkdir(parents=True)
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    if kind == "link":
        (directory / name).symlink_to(target)
    else:
        (directory / name).mkdir()

    with pytest.raises(StoreError, match=name):
        add(ipam, "c1")

    assert target.read_bytes() == b"precious"
    assert ipam.leases() == []


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_a_network_that_is_no_directory_is_refused(
    ipam: HostLocal, directory: Path, tmp_path: Path, kind: str
) -> None:
    directory.parent.mkdir(parents=True)
    if kind == "file":
        directory.touch()
    else:
        directory.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))

    for call in (lambda: add(ipam, "c1"), lambda: ipam.delete("c1", "eth0"), ipam.leases):
        with pytest.raises(StoreError, match="link or of another kind"):
            call()

    assert sorted(tmp_path.rglob("*")) == before


def test_a_data_directory_that_is_a_link_is_the_administrators_choice(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    add(HostLocal(str(tmp_path / "link"), "n1"), "c1")

    assert (tmp_path / "real" / "n1" / "10.0.0.2").exists()


@pytest.mark.parametrize("network", ["..", ".", "", "a/b", "../x", "a\0b", "-x", "a\n", "x" * 129])
def test_a_network_name_that_leads_elsewhere_is_refused(tmp_path: Path, network: str) -> None:
    with pytest.raises(InvalidArgument, match="not a valid network name"):
        HostLocal(str(tmp_path), network)


@pytest.mark.parametrize("data_dir", ["relative", "", "./x"])
def test_a_relative_data_directory_is_refused(data_dir: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        HostLocal(data_dir, "n1")
    assert caught.value.where == "$.ipam.dataDir"


@pytest.mark.parametrize("data_dir", ["/tmp/a\0b", "/tmp/\ud800"])
def test_a_data_directory_that_is_no_path_is_refused(data_dir: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be a path"):
        add(HostLocal(data_dir, "n1"), "c1")


def test_the_lock_is_waited_for_and_given_up_at_its_deadline(ipam: HostLocal, directory: Path) -> None:
    add(ipam, "c1")
    hasty = HostLocal(str(directory.parent), "n1", timeout_s=0.05)
    fd = os.open(directory / "lock", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        for call in (lambda: add(hasty, "c2"), lambda: hasty.delete("c1", "eth0"), lambda: hasty.gc(set())):
            with pytest.raises(Busy, match="held by another process for more than 0.05 s"):
                call()
        assert hasty.check("c1", "eth0") == []
        hasty.status((SMALL,))
        threading.Timer(0.05, lambda: fcntl.flock(fd, fcntl.LOCK_UN)).start()
        assert add(ipam, "c2") == ["10.0.0.3/29"]
    finally:
        os.close(fd)


def test_threads_are_given_different_addresses(ipam: HostLocal) -> None:
    wide = range_set([address_range(ip_network("10.0.0.0/22"))])
    given: list[str] = []

    def work(number: int) -> None:
        for step in range(30):
            given.extend(add(ipam, f"{number}-{step}", wide))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(given) == len(set(given)) == 240


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which files are read."""
    read: list[str] = []
    real = LeaseFiles._read

    def spy(self: LeaseFiles, name: str) -> bytes | None:
        read.append(name)
        return real(self, name)

    monkeypatch.setattr(LeaseFiles, "_read", spy)
    return read


def test_what_was_read_once_is_not_read_again(ipam: HostLocal, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        add(ipam, f"c{number}")
    read = counted(monkeypatch)

    add(ipam, "c4")
    ipam.delete("c2", "eth0")
    with pytest.raises(AddressInUse):
        add(ipam, "c4")
    add(ipam, "c5")
    with pytest.raises(PoolExhausted):
        add(ipam, "c6")
    add(HostLocal(str(Path(ipam._path).parent), "n1"), "c6", V6)

    assert read.count("10.0.0.3") == 0
    assert read.count("10.0.0.4") == 1  # before it is deleted


@pytest.mark.parametrize("what", ["made", "removed", "moved"])
def test_what_somebody_else_did_is_seen(
    ipam: HostLocal, directory: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    add(ipam, "c1")
    add(ipam, "c2")
    if what == "made":
        (directory / "10.0.0.5").write_bytes(b"c3\r\neth0")
    elif what == "removed":
        (directory / "10.0.0.3").unlink()
    else:
        (directory / "10.0.0.3").rename(directory / "10.0.0.5")

    if what == "made":
        with pytest.raises(AddressInUse, match=r"10\.0\.0\.5"):
            add(ipam, "c3")
    elif what == "removed":
        assert add(ipam, "c2") == ["10.0.0.4/29"]
    else:
        assert [str(one) for one in ipam.delete("c2", "eth0")] == ["10.0.0.5"]


def test_a_file_that_was_written_over_is_not_taken_for_what_it_was(ipam: HostLocal, directory: Path) -> None:
    add(ipam, "c1")
    (directory / "10.0.0.2").write_bytes(b"c2\r\neth0")

    assert ipam.delete("c1", "eth0") == []
    assert [str(one) for one in ipam.delete("c2", "eth0")] == ["10.0.0.2"]


def test_gc_leaves_a_file_that_was_written_over(ipam: HostLocal, directory: Path) -> None:
    add(ipam, "c1")
    add(ipam, "c2")
    (directory / "10.0.0.2").write_bytes(b"c3\r\neth0")

    assert [lease.container for lease in ipam.gc({("c3", "eth0")})] == ["c2"]
    assert [lease.container for lease in ipam.leases()] == ["c3"]


def test_ten_thousand_files_of_one_owner_go_at_once(ipam: HostLocal, directory: Path) -> None:
    directory.mkdir(parents=True)
    for number in range(10_000):
        (directory / f"10.0.{number // 250}.{number % 250}").touch()

    assert ipam.delete("c1", "eth0") == []
    assert ipam.leases() == []


def test_a_directory_that_is_made_anew_is_read_anew(ipam: HostLocal, directory: Path) -> None:
    add(ipam, "c1")
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()

    assert add(ipam, "c1") == ["10.0.0.2/29"]


def test_without_a_mark_everything_is_read_each_time(
    ipam: HostLocal, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError

    add(ipam, "c1")
    monkeypatch.setattr(host_local_files.os, "utime", refuse)
    add(ipam, "c2")
    read = counted(monkeypatch)

    add(ipam, "c3")

    assert {"10.0.0.2", "10.0.0.3"} <= set(read)


def test_a_full_disk_is_said_and_leaves_nothing(
    ipam: HostLocal, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ipam, "c1")
    real = os.write

    monkeypatch.setattr(host_local_files.os, "write", lambda fd, data: real(fd, data[:3]))
    with pytest.raises(StoreError, match="no space left to write"):
        add(ipam, "c2")
    monkeypatch.undo()

    assert [lease.container for lease in ipam.leases()] == ["c1"]
    assert add(ipam, "c2") == ["10.0.0.3/29"]


def test_a_last_address_that_cannot_be_written_gives_the_address_back(
    ipam: HostLocal, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise StoreError("no")

    monkeypatch.setattr(LeaseFiles, "set_last_reserved", refuse)
    with pytest.raises(StoreError):
        add(ipam, "c1")

    assert ipam.leases() == []


def test_indexes_of_many_directories_are_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_local_books, "_MOST_DIRECTORIES", 3)
    for _ in range(2):
        for number in range(5):
            add(HostLocal(str(tmp_path), f"n{number}"), f"c{_}")

    assert len(host_local_books._indexes) == 3
    assert [len(HostLocal(str(tmp_path), f"n{number}").leases()) for number in range(5)] == [2] * 5


def test_a_container_id_that_could_not_be_read_back_is_refused(ipam: HostLocal) -> None:
    with pytest.raises(InvalidArgument, match="too long"):
        add(ipam, "x" * 5000)
    assert ipam.delete("x" * 5000, "eth0") == []
    assert add(ipam, "x" * 4000) == ["10.0.0.2/29"]
    assert len(ipam.delete("x" * 4000, "eth0")) == 1
