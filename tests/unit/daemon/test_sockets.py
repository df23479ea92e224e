from __future__ import annotations

import os
import socket
import stat

import pytest

from dovetail.daemon import sockets
from dovetail.daemon.sockets import from_systemd, hold_run_dir, listen, plugin_name
from dovetail.errors import Conflict, InvalidArgument


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("mode", [0o660, 0o600])
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o022])
def test_a_socket_has_its_mode_from_its_birth(tmp_path, monkeypatch, mode, umask):
    path, seen = str(tmp_path / "s.sock"), []

    class Watched(socket.socket):
        def bind(self, address):
            super().bind(address)
            seen.append(mode_of(address))

    monkeypatch.setattr(sockets.socket, "socket", Watched)
    before = os.umask(umask)
    try:
        listening = listen(path, mode)
        after = os.umask(umask)
    finally:
        os.umask(before)

    assert seen == [mode]
    assert mode_of(path) == mode
    assert after == umask
    listening.close()
    assert not os.path.exists(path)


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path):
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    listening = listen(path, 0o600)

    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
    listening.close()


def test_a_socket_that_somebody_listens_on_is_left_and_its_process_named(tmp_path):
    path = str(tmp_path / "s.sock")
    living = listen(path, 0o600)

    with pytest.raises(Conflict, match=f"process {os.getpid()} listens on {path} already"):
        listen(path, 0o600)

    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
    living.close()


def test_what_is_no_socket_is_left(tmp_path):
    path = tmp_path / "s.sock"
    path.write_text("mine", encoding="ascii")

    with pytest.raises(Conflict, match="is not a socket"):
        listen(str(path), 0o600)

    assert path.read_text(encoding="ascii") == "mine"


def test_a_path_too_long_for_a_socket_is_refused_by_its_length(tmp_path):
    with pytest.raises(InvalidArgument, match="too long for a socket"):
        listen(str(tmp_path / ("x" * 107)), 0o600)


def test_a_socket_that_took_the_place_of_ours_is_not_removed(tmp_path):
    path = str(tmp_path / "s.sock")
    ours = listen(path, 0o600)
    os.unlink(path)
    theirs = listen(path, 0o600)

    ours.close()

    assert stat.S_ISSOCK(os.stat(path).st_mode)
    theirs.close()


def test_only_one_daemon_holds_a_run_directory(tmp_path):
    with hold_run_dir(str(tmp_path)):
        assert (tmp_path / "daemon.pid").read_text(encoding="ascii") == f"{os.getpid()}\n"

        with (
            pytest.raises(Conflict, match=f"process {os.getpid()} is the daemon of {tmp_path} already"),
            hold_run_dir(str(tmp_path)),
        ):
            pass

    assert not (tmp_path / "daemon.pid").exists()


# -- from systemd -----------------------------------------------------------------------------------------


@pytest.fixture
def passed(tmp_path, monkeypatch):
    """Pass sockets as systemd does, from a number on that nobody has; gives the environment."""
    first = 500
    monkeypatch.setattr(sockets, "_FIRST_FD", first)
    kept = []

    def give(*names, family=socket.AF_UNIX):
        for number, name in enumerate(names):
            with socket.socket(family) as made:
                made.bind(str(tmp_path / f"{name}.sock") if family == socket.AF_UNIX else ("127.0.0.1", 0))
                made.listen()
                os.dup2(made.fileno(), first + number)
                kept.append(first + number)
        return {"LISTEN_PID": "7", "LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}

    yield give
    for descriptor in kept:
        try:
            os.close(descriptor)
        except OSError:
            pass


def test_sockets_of_systemd_are_taken_by_their_names_and_left_in_place(passed, tmp_path):
    found = from_systemd(passed("cni", "api"), 7)

    assert {name: listening.path for name, listening in found.items()} == {
        "api": str(tmp_path / "api.sock"),
        "cni": str(tmp_path / "cni.sock"),
    }
    for listening in found.values():
        assert not listening.socket.get_inheritable()
        listening.close()
        assert os.path.exists(listening.path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/run/docker/plugins/dovetail.sock", "docker"),
        ("/run/docker/plugins/dovetail-macvlan.sock", "docker-macvlan"),
        ("/elsewhere/other.sock", "docker"),
    ],
)
def test_a_socket_of_dockers_is_named_after_its_file(path, name):
    assert plugin_name(path) == name


def test_sockets_for_another_process_are_not_taken(passed):
    assert from_systemd(passed("api"), 8) == {}
    assert from_systemd({}, 8) == {}


@pytest.mark.parametrize("name", ["web", ""])
def test_a_socket_of_another_name_is_refused(passed, name):
    with pytest.raises(InvalidArgument, match="FileDescriptorName must be api, docker or cni"):
        from_systemd(passed(name), 7)


def test_a_socket_that_is_not_a_unix_socket_is_refused(passed):
    with pytest.raises(InvalidArgument, match="which dovetail does not know"):
        from_systemd(passed("api", family=socket.AF_INET), 7)


@pytest.mark.parametrize("count", ["", "x", "-1"])
def test_a_count_that_is_no_number_is_refused(count):
    with pytest.raises(InvalidArgument, match="LISTEN_FDS"):
        from_systemd({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7)
