"""IPAM plugins of somebody else's that hang, lie, die or are not there: a typed error, and nothing left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

GOOD = '{"cniVersion": "1.0.0", "ips": [{"address": "10.50.0.9/24", "gateway": "10.50.0.1"}]}'


@pytest.fixture(scope="module", autouse=True)
def _short_deadline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOVETAIL_DELEGATE_TIMEOUT", "1.5")
        yield


@pytest.fixture(params=["daemon", "alone"], scope="module")
def site(
    request: Any,
    _short_deadline: None,
    module_host: Any,
    tmp_path_factory: Any,
    make_installation: Any,
    make_node: Any,
) -> Any:
    installation = make_installation(module_host, tmp_path_factory.mktemp("n"))
    yield make_node(installation, request.param)
    installation.end()


@pytest.fixture
def delegate(node: Any) -> Iterator[Any]:
    """Write a plugin called ``odd``: shell for ADD and for DEL; gives the list, and what it was called with."""
    program, calls = Path(node.bin, "odd"), Path(node.bin, "calls")
    calls.unlink(missing_ok=True)

    def write(add: str, delete: str = "exit 0") -> dict[str, Any]:
        program.write_text(
            f'#!/bin/bash\necho "$CNI_COMMAND" >>{calls}\ncase "$CNI_COMMAND" in\nADD) {add} ;;\nDEL) {delete} ;;\nesac\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
        return dict(
            node.chain({"type": "bridge", "bridge": "br0", "isGateway": True, "ipam": {"type": "odd"}})
        )

    write.calls = lambda: calls.read_text().split()  # type: ignore[attr-defined]
    yield write
    write("exit 1")  # for the DEL that the test owes


def test_one_that_behaves_is_asked_with_what_came(node: Any, delegate: Any) -> None:
    chain = delegate(
        f"cat >{node.bin}/stdin; env >{node.bin}/environment; echo heard >&2; echo '{GOOD}'", "cat >/dev/null"
    )

    result = node.add(chain, args="IgnoreUnknown=1;X=1")

    assert node.addresses() == ["10.50.0.9/24"]
    assert result["ips"][0]["interface"] == 2
    environment = dict(
        line.partition("=")[::2] for line in Path(node.bin, "environment").read_text().splitlines()
    )
    assert environment["CNI_CONTAINERID"] == "c1"
    assert environment["CNI_NETNS"] == node.inside("c1")
    assert environment["CNI_ARGS"] == "IgnoreUnknown=1;X=1"
    assert '"odd"' in Path(node.bin, "stdin").read_text()
    node.delete(chain)
    assert delegate.calls() == ["ADD", "DEL"]
    for name in ("stdin", "environment"):
        os.unlink(f"{node.bin}/{name}")


BEHAVIOUR: dict[str, tuple[str, int, str]] = {
    "hangs": ("sleep 1000", 11, "within 1.5 s"),
    "hangs with children": ("sleep 1000 & sleep 1000 & wait", 11, "within 1.5 s"),
    "hangs deaf to SIGTERM": ("trap '' TERM; while :; do sleep 1000; done", 11, "within 1.5 s"),
    "says nothing": ("exit 0", 6, "said nothing"),
    "says what is no JSON": ("echo yes", 6, "no JSON"),
    "says bytes": ("head -c 1000 /dev/urandom", 6, "no JSON"),
    "says null": ("echo null", 6, "no JSON object"),
    "says a list": ("echo '[]'", 6, "no JSON object"),
    "says nests": ("printf '[%.0s' {1..100000}", 6, "no JSON"),
    "says too much": ("yes", 5, "printed more than"),
    "complains too much": ("yes >&2", 5, "printed more than"),
    "has no addresses": ('echo \'{"cniVersion": "1.0.0"}\'', 7, "missing IP config"),
    "has odd addresses": ('echo \'{"cniVersion": "1.0.0", "ips": [{"address": "x"}]}\'', 6, "x"),
    "has addresses of another shape": ('echo \'{"cniVersion": "1.0.0", "ips": 5}\'', 7, "ips"),
    "speaks a later version": (f"echo '{GOOD.replace('1.0.0', '9.9.9')}'", 1, "9.9.9"),
    "fails with an error": ('echo \'{"code": 120, "msg": "no", "details": "why"}\'; exit 1', 120, "no"),
    "fails with Go's code": ('echo \'{"code": 999, "msg": "no"}\'; exit 1', 5, "no"),
    "fails with a huge code": ('echo \'{"code": 99999999999999999999, "msg": "no"}\'; exit 1', 5, "no"),
    "fails with a word": ("echo broken >&2; exit 3", 5, "status 3"),
    "fails with an odd error": ('echo \'{"code": "x", "msg": {}}\'; exit 1', 5, "status 1"),
    "dies": ("kill -9 $$", 5, "signal 9"),
    "dies of a fault": ("kill -SEGV $$", 5, "signal 11"),
}


@pytest.mark.parametrize("behaviour", BEHAVIOUR)
def test_one_that_does_not(node: Any, delegate: Any, behaviour: str) -> None:
    script, code, words = BEHAVIOUR[behaviour]
    chain = delegate(script)
    before = node.state("c1")

    error = node.refused(lambda: node.add(chain))

    assert error.code == code
    assert words in f"{error.message} {error.details}"
    assert node.state("c1") == before
    assert delegate.calls() == ["ADD", "DEL"]  # SPEC: its DEL is asked for when its ADD fails
    running = subprocess.run(["pgrep", "-f", f"{node.bin}/odd"], capture_output=True, check=False).stdout
    assert running == b""


def test_what_it_says_on_its_standard_error_is_passed_on(node: Any, delegate: Any) -> None:
    chain = delegate("echo a line >&2; exit 1", "echo another >&2; exit 1")

    error = node.refused(lambda: node.add(chain))

    assert "a line" in error.stderr
    assert "another" in error.stderr


def test_one_that_leaves_a_process_behind_keeps_nobody_waiting(node: Any, delegate: Any) -> None:
    chain = delegate(f"setsid sleep 3 & echo '{GOOD}'")

    node.add(chain)

    assert node.addresses() == ["10.50.0.9/24"]


def test_one_that_does_not_read_what_it_is_given(node: Any, delegate: Any) -> None:
    chain = delegate(f"exec <&-; echo '{GOOD}'")
    chain["plugins"][0]["padding"] = "x" * 1_000_000

    node.add(chain)

    assert node.addresses() == ["10.50.0.9/24"]


@pytest.mark.parametrize("script", ["exit 1", "sleep 1000", "kill -9 $$", "yes"])
def test_a_del_that_fails_has_removed_the_interface_and_can_be_repeated(
    node: Any, delegate: Any, script: str
) -> None:
    chain = delegate(f"echo '{GOOD}'", script)
    node.add(chain)

    error = node.refused(lambda: node.delete(chain))

    assert error.code in {5, 11}
    assert node.host.links(node.inside("c1")).keys() == {"lo"}
    delegate("exit 1")
    node.delete(chain)


@pytest.mark.parametrize(
    "name",
    [
        "no-such",
        "",
        ".",
        "..",
        "../bin/odd",
        "/bin/true",
        "a\nb",
        "a b",
        "x" * 5000,
        "\u2603",
        "$(reboot)",
        "-rf",
        "calls.d",
    ],
)
def test_a_name_that_is_none(node: Any, name: str) -> None:
    os.makedirs(f"{node.bin}/calls.d", exist_ok=True)
    before = node.state("c1")
    chain = node.chain({"type": "bridge", "bridge": "br0", "ipam": {"type": name}})

    if name == "":
        node.add(chain)  # as the reference plugin has it: no IPAM
        return
    error = node.refused(lambda: node.add(chain))

    assert error.code == 7
    assert node.state("c1") == before
    node._known.clear()
    os.rmdir(f"{node.bin}/calls.d")


def test_one_that_cannot_be_executed(node: Any, delegate: Any) -> None:
    chain = delegate("exit 0")
    before = node.state("c1")
    os.chmod(f"{node.bin}/odd", 0o644)
    assert node.refused(lambda: node.add(chain)).code == 5

    Path(node.bin, "odd").write_bytes(b"\x7fELF nothing")
    os.chmod(f"{node.bin}/odd", 0o755)
    assert node.refused(lambda: node.add(chain)).code == 5

    with open(f"{node.bin}/odd", "wb") as writing:
        writing.write(b"#!/bin/sh\nexit 0\n")
        writing.flush()
        assert node.refused(lambda: node.add(chain)).code == 11  # somebody is installing it
    assert node.state("c1") == before


def test_nobody_else_waits_for_one_that_hangs(node: Any, delegate: Any) -> None:
    if node.way == "alone":
        pytest.skip("each plugin is a process of its own")
    chain = delegate("sleep 1000")
    attachment = node.attachment("c1")
    import threading

    hanging = threading.Thread(target=lambda: node.refused(lambda: node.runtime.add(chain, attachment)))
    hanging.start()
    node.installation.host.run("true")

    node.add(node.chain(node.bridge()), "c2")

    assert hanging.is_alive()
    hanging.join(timeout=20)
