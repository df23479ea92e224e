"""Namespaces through `LinuxKernel`."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.errors import AlreadyExists, InvalidArgument, PermissionDenied
from dovetail.kernel import netns as netns_module
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import LinkSpec

pytestmark = pytest.mark.root


@pytest.fixture
def kernel(host: Any, tmp_path: Path) -> Iterator[LinuxKernel]:
    handle = LinuxKernel()
    yield handle
    handle.close()
    left = [line.split()[4] for line in mounts().splitlines() if f" {tmp_path}/" in line]
    for path in left:  # a test that failed
        subprocess.run(["umount", path], check=True)


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def inode_here() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_a_namespace_is_made_with_lo_up_and_mounted(host: Any, kernel: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "box")
    before = inode_here()

    with kernel.create_netns(path) as box:
        assert box.path == path
        assert box.inode == os.stat(path).st_ino != before
        assert "UP" in host.links(path)["lo"]["flags"]
        assert path in mounts()
    kernel.delete_netns(path)

    assert inode_here() == before
    assert not os.path.exists(path)
    assert path not in mounts()


def test_making_one_where_one_is_already_exists(kernel: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "box")
    kernel.create_netns(path).close()

    with pytest.raises(AlreadyExists, match=f"network namespace '{path}'"):
        kernel.create_netns(path)

    assert os.path.exists(path)
    kernel.delete_netns(path)


def test_an_empty_file_that_a_crash_left_is_used_and_a_full_one_is_kept(
    kernel: LinuxKernel, tmp_path: Path
) -> None:
    left, full = tmp_path / "left", tmp_path / "full"
    left.touch()
    full.write_text("precious")

    kernel.create_netns(str(left)).close()
    kernel.delete_netns(str(left))
    with pytest.raises(AlreadyExists):
        kernel.create_netns(str(full))
    with pytest.raises(InvalidArgument, match="is not a network namespace"):
        kernel.delete_netns(str(full))

    assert not left.exists()
    assert full.read_text() == "precious"


def test_deleting_what_is_gone_or_was_never_mounted_is_no_error(kernel: LinuxKernel, tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.touch()

    kernel.delete_netns(str(tmp_path / "missing"))
    kernel.delete_netns(str(left))

    assert not left.exists()


def test_a_namespace_lives_as_long_as_its_handle(host: Any, kernel: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "box")
    with kernel.create_netns(path) as box:
        kernel.delete_netns(path)

        kernel.add_veth(LinkSpec("v0"), LinkSpec("eth0", netns=box))
        with kernel.inside(box) as inner:
            assert {link.name for link in inner.links()} == {"lo", "eth0"}
            assert inner.netns_inode == box.inode

    with pytest.raises(InvalidArgument, match="does not exist"):
        kernel.open_netns(path)


def test_the_namespace_of_a_process_is_opened_and_missed_when_it_died(kernel: LinuxKernel) -> None:
    process = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    path = f"/proc/{process.pid}/ns/net"
    with process, kernel.open_netns(path) as box:
        assert box.inode != kernel.netns_inode

        process.send_signal(signal.SIGKILL)
        process.wait(10)

        with kernel.inside(box) as inner:
            assert [link.name for link in inner.links()] == ["lo"]
        with pytest.raises(InvalidArgument, match=f"network namespace {path} does not exist"):
            kernel.open_netns(path)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/missing/netns", "network namespace /missing/netns does not exist"),
        ("/etc/passwd/netns", "/etc/passwd/netns does not exist"),
        ("/etc/passwd", "/etc/passwd is not a network namespace: it is an ordinary file"),
        ("/etc", "/etc is not a network namespace: it is a directory"),
        ("/dev/null", "/dev/null is not a network namespace"),
        (
            "/proc/self/ns/mnt",
            "/proc/self/ns/mnt is not a network namespace: it is a namespace of another kind",
        ),
        ("", "network namespace  does not exist"),
        ("a\0b", "is not a path"),
    ],
)
def test_a_path_that_is_no_network_namespace_is_refused_with_its_reason(
    kernel: LinuxKernel, path: str, text: str
) -> None:
    with pytest.raises(InvalidArgument, match=text):
        kernel.open_netns(path)


def test_a_fifo_is_refused_without_waiting_for_its_writer(kernel: LinuxKernel, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(InvalidArgument, match="is not a network namespace"):
        kernel.open_netns(str(tmp_path / "fifo"))


def test_what_is_no_namespace_is_not_even_opened(kernel: LinuxKernel, tmp_path: Path) -> None:
    """A device may act on being opened, a watchdog or a tape drive."""
    path = tmp_path / "device"
    path.touch()
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert (
        libc.inotify_add_watch(inotify, os.fsencode(path), 0x20) > 0
    )  # IN_OPEN, include/uapi/linux/inotify.h

    with pytest.raises(InvalidArgument, match="is not a network namespace"):
        kernel.open_netns(str(path))

    with pytest.raises(BlockingIOError):
        os.read(inotify, 4096)
    path.read_bytes()
    assert os.read(inotify, 4096), "the watch tells of an opening"
    os.close(inotify)


def test_a_descriptor_is_adopted_and_another_refused_but_not_closed(kernel: LinuxKernel) -> None:
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    with kernel.netns_from_fd(fd, "given") as adopted:
        assert (adopted.fileno(), adopted.path, adopted.inode) == (
            fd,
            "given",
            os.stat("/proc/self/ns/net").st_ino,
        )
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)

    reading, writing = os.pipe()
    with pytest.raises(InvalidArgument, match="is not a network namespace"):
        kernel.netns_from_fd(reading)
    os.close(reading)
    os.close(writing)


def test_a_handle_stays_in_its_namespace_whichever_thread_uses_it(
    host: Any, kernel: LinuxKernel, tmp_path: Path
) -> None:
    path = str(tmp_path / "box")
    with kernel.create_netns(path) as box, kernel.inside(box) as inner:
        inner.add_bridge("only-here")
        seen: list[set[str]] = []

        def look() -> None:
            with netns_module.entered(box):
                here = inode_here()
                seen.append({link.name for link in kernel.links()})
                seen.append({link.name for link in LinuxKernel().links()})
                assert here == inode_here()
            seen.append({link.name for link in inner.links()})

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    kernel.delete_netns(path)
    assert seen == [{"lo"}, {"lo", "only-here"}, {"lo", "only-here"}]


def test_entering_comes_back_also_after_an_error(kernel: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "box")
    before = inode_here()
    with kernel.create_netns(path) as box:
        with pytest.raises(LookupError), netns_module.entered(box):
            assert inode_here() == box.inode
            raise LookupError
        assert inode_here() == before
    kernel.delete_netns(path)


def test_a_thread_that_stays_comes_back_to_where_it_was(
    host: Any, kernel: LinuxKernel, tmp_path: Path
) -> None:
    path = str(tmp_path / "box")
    before = inode_here()
    seen: list[int] = []

    def look(box: Any) -> None:
        netns_module.stay()
        for _ in range(2):
            with netns_module.entered(box):
                seen.append(inode_here())
            seen.append(inode_here())
        with pytest.raises(LookupError), netns_module.entered(box):
            raise LookupError
        seen.append(inode_here())

    with kernel.create_netns(path) as box:
        thread = threading.Thread(target=look, args=(box,))
        thread.start()
        thread.join()
        assert seen == [box.inode, before, box.inode, before, before]
    kernel.delete_netns(path)


def test_without_privilege_making_and_entering_is_denied(kernel: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "box")
    box = kernel.create_netns(path)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            for act in (lambda: kernel.create_netns("/tmp/dovetail-denied"), lambda: enter(box)):
                try:
                    act()
                except PermissionDenied:
                    status = 0
                else:
                    status = 2
                    break
            if os.path.exists("/tmp/dovetail-denied"):
                status = 3
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    box.close()
    kernel.delete_netns(path)


def enter(box: Any) -> None:
    with netns_module.entered(box):
        pass


def test_handles_leave_no_descriptors_open(kernel: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "box")
    kernel.links()
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(20):
        with kernel.create_netns(path) as box, kernel.inside(box) as inner:
            inner.links()
            inner.nft_has_table()
            inner.set_sysctl("net/ipv4/ip_forward", "1")
        kernel.delete_netns(path)

    assert len(os.listdir("/proc/self/fd")) == before
