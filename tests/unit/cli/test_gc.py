"""``dovetail gc`` shows, asks, and does what it has shown."""

from __future__ import annotations

import json

import click
import msgspec
import pytest

from dovetail.model.endpoint import EndpointSpec, Owner


@pytest.fixture
def stale(shell):
    """A network with an endpoint that is of another boot, and one that is well."""
    shell("network", "create", "web", "--subnet", "10.88.0.0/24")
    shell("sandbox", "create", "box")
    shell("network", "connect", "web", "box")
    spec = EndpointSpec(owner=Owner(face="docker", network="n"), id="e" * 64, name="one")
    endpoint = shell.engine.endpoints.create("web", spec)
    old = msgspec.structs.replace(endpoint, boot_id="another", created=endpoint.created - 7200)
    shell.engine.core.store.put_endpoint(old)
    return shell


def endpoints(shell):
    return {endpoint.name for endpoint in shell.engine.endpoints.all()}


def test_nothing_to_collect_is_said_and_nothing_asked(shell):
    ran = shell("gc")

    assert (ran.status, ran.out, ran.err) == (0, "Everything belongs to somebody.\n", "")


def test_it_shows_what_why_and_how_old_and_a_dry_run_stops_there(stale):
    ran = stale("gc", "--dry-run")

    header, row = ran.out.splitlines()
    assert header.split() == ["ACTION", "KIND", "WHAT", "WHY", "AGE"]
    assert row.startswith(
        "release  endpoint  one (eeeeeeeeeeee) on web 10.88.0.3  the host has been restarted since"
    )
    assert row.endswith("  2 h")
    assert (ran.status, endpoints(stale)) == (0, {"one", "box"})


@pytest.mark.parametrize("flag", ["--yes", "-y", "--force", "-f"])
def test_with_yes_it_is_done_and_told(stale, flag):
    ran = stale("gc", flag)

    assert ran.status == 0
    assert "release  endpoint  one" in ran.out
    assert endpoints(stale) == {"box"}
    assert stale("gc").out == "Everything belongs to somebody.\n"


@pytest.mark.parametrize(("answer", "status", "left"), [(True, 0, {"box"}), (False, 1, {"one", "box"})])
def test_without_yes_it_asks_once_all_is_shown(stale, monkeypatch, answer, status, left):
    asked = []
    monkeypatch.setattr(click, "confirm", lambda text, **_: asked.append(text) or answer)

    ran = stale("gc")

    assert asked == ["Do this?"]
    assert ran.status == status
    assert "release  endpoint  one" in ran.out
    assert ("released 1" in ran.out) is answer
    assert ("not confirmed, so nothing was done" in ran.err) is not answer
    assert endpoints(stale) == left


def test_nobody_to_answer_is_no(stale, monkeypatch):
    monkeypatch.setattr(click, "confirm", lambda *_, **__: (_ for _ in ()).throw(click.Abort()))

    ran = stale("gc")

    assert ran.status == 1
    assert "hint: dovetail gc --yes does not ask" in ran.err
    assert endpoints(stale) == {"one", "box"}


def test_json_only_shows_unless_yes_is_given(stale):
    shown = stale("gc", "--format", "json").json()

    assert [(f["action"], f["kind"], f["why"]) for f in shown["findings"]] == [
        ("release", "endpoint", "the host has been restarted since")
    ]
    assert shown["failed"] == shown["notes"] == []
    assert endpoints(stale) == {"one", "box"}
    assert stale("gc", "--format", "json", "--yes").json() == shown
    assert endpoints(stale) == {"box"}


def test_the_commands_are_explained_and_not_run(stale, monkeypatch):
    stale.engine.kernel.delete_links([stale.engine.networks.get("web").link])
    from dovetail.cli import explain as explain_module

    kernel = stale.kernel
    monkeypatch.setattr(explain_module, "explaining_engine", lambda *_: (stale.engine, kernel.commands))
    kernel.commands.clear()

    ran = stale("--explain", "gc")

    assert any(line.startswith("ip link add") for line in ran.out.splitlines())


def test_through_the_daemon_it_is_the_same(stale, daemon):
    shown = stale("gc", "--dry-run")
    done = stale("gc", "--yes")

    assert shown.out == done.out
    assert daemon == ["GET /v1/gc", "GET /v1/gc", "POST /v1/gc"]
    assert endpoints(stale) == {"box"}


def test_what_could_not_be_collected_fails_by_name(stale, monkeypatch):
    monkeypatch.setattr(stale.engine.endpoints, "remove", lambda _: (_ for _ in ()).throw(OSError("no room")))

    ran = stale("gc", "--yes")

    assert ran.status == 1
    assert "endpoint eeeeeeeeeeee: no room" in ran.err


def test_a_first_command_after_a_reboot_that_is_gc_tells_what_it_did(stale):
    report = json.loads(stale("gc", "--yes", "--format", "json").out)

    assert len(report["findings"]) == 1
