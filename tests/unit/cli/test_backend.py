from __future__ import annotations

import json
import socket
import sys
import threading

import pytest

from dovetail.api.dispatch import TraceNews
from dovetail.api.settle import settle
from dovetail.cli import backend
from dovetail.engine.trace import Step
from dovetail.errors import Busy
from dovetail.model.endpoint import Endpoint, Owner


def test_with_a_daemon_every_command_goes_over_its_socket(shell, daemon):
    assert shell("network", "create", "web").status == 0
    assert shell("sandbox", "create", "box").out == "box\n"
    assert shell("network", "connect", "web", "box").out.startswith("eth0 ")

    assert daemon == ["POST /v1/networks", "POST /v1/sandboxes", "POST /v1/networks/web/connect"]


@pytest.mark.parametrize(
    "words",
    [
        ("network", "ls"),
        ("network", "inspect", "web"),
        ("endpoint", "ls"),
        ("sandbox", "ls"),
        ("topology",),
        ("pool", "ls"),
        ("driver", "ls"),
        ("network", "create", "web"),
        ("network", "rm", "nope"),
    ],
)
def test_the_result_is_the_same_with_and_without_a_daemon(shell, request, words):
    shell("network", "create", "web")
    shell("sandbox", "create", "box")
    shell("network", "connect", "web", "box")
    alone = [shell(*words), shell(*words, "--format", "json")]

    request.getfixturevalue("daemon")

    assert [shell(*words), shell(*words, "--format", "json")] == alone


def test_trace_merges_the_daemons_ring_with_what_ran_before_it(shell, request):
    shell("network", "create", "before")
    shell.engine.tracer._ring.clear()
    shell.engine.tracer._sinks.clear()
    request.getfixturevalue("daemon")
    shell("network", "create", "after")

    steps = shell("trace", "--format", "json").json()
    names = [step["detail"]["network"] for step in steps if step["layer"] == "cli"]

    assert names == ["before", "after"]


def test_following_shows_what_comes_until_the_daemon_ends(shell, daemon, monkeypatch):
    news = [TraceNews(next=0), TraceNews(next=1, steps=[Step(layer="cli", name="one")])]

    def following(*_):
        if not news:
            raise Busy("the daemon did not answer")
        return news.pop(0)

    monkeypatch.setattr(sys.modules["dovetail.cli.trace"], "_next", following)

    ran = shell("trace", "--follow", "--format", "json")

    assert [json.loads(line)["name"] for line in ran.out.splitlines()] == ["one"]
    assert (ran.status, ran.err) == (1, "dovetail: the daemon did not answer\n")


def test_the_trace_of_one_face_only(shell):
    shell("network", "create", "web")

    assert shell("trace", "--face", "docker").out == ""
    assert "network create" in shell("trace", "--face", "cli", "--sequence").out


def test_following_without_a_daemon_is_refused(shell):
    assert "no such daemon" in shell("trace", "--follow").err


def test_a_socket_that_nobody_listens_on_is_no_daemon(shell):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(shell.run_dir / "api.sock"))
    dead.close()

    assert shell("network", "create", "web").status == 0


@pytest.mark.parametrize("answer", [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_a_daemon_that_breaks_off_is_one_sentence(shell, answer):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(shell.run_dir / "api.sock"))
    listening.listen()

    def serve():
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(answer)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    ran = shell("network", "ls")
    thread.join()
    listening.close()

    assert ran.status == 1
    assert ran.err.startswith("dovetail: the daemon at ")
    assert len(ran.err.splitlines()) == 2


def test_a_daemon_that_does_not_answer_is_given_up(shell, monkeypatch):
    monkeypatch.setattr(backend, "_ANSWER_S", 0.05)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(shell.run_dir / "api.sock"))
    listening.listen()

    ran = shell("network", "ls")
    listening.close()

    assert ran.status == 1
    assert "did not answer" in ran.err


def test_an_answer_that_is_no_problem_of_ours_is_shown(shell):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(shell.run_dir / "api.sock"))
    listening.listen()

    def serve():
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\nproxy!")
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    ran = shell("network", "ls")
    thread.join()
    listening.close()

    assert ran.err == "dovetail: the daemon answered 502: proxy!\n"


def test_the_first_change_after_a_reboot_repairs_first_and_later_ones_do_not(shell):
    store = shell.engine.core.store
    lost = Endpoint(
        id="e" * 64, network_id="n" * 64, owner=Owner(face="cni"), boot_id="another", status="joined"
    )
    store.put_endpoint(lost)

    shell("network", "create", "web")
    assert store.endpoint(lost.id) is None

    store.put_endpoint(lost)
    shell("network", "create", "db")
    assert store.endpoint(lost.id) is not None


def test_reading_repairs_nothing(shell):
    shell("network", "ls")

    assert not (shell.run_dir / "settled").exists()


def test_a_run_directory_that_cannot_be_written_only_means_to_settle_again(shell):
    settle(shell.engine, str(shell.run_dir / "missing"))
    settle(shell.engine, str(shell.run_dir / "missing"))
