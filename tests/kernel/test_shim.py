"""The CNI executable in each of its forms: linked with musl, with the system's library, and in Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dovetail.cni import install as installer

pytestmark = pytest.mark.root

FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "musl": (("musl-gcc", "-static"),),
    "libc": (("cc",),),
    "Python": (),
}


@pytest.fixture(params=FORMS)
def form(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    compilers = FORMS[request.param]
    if compilers and shutil.which(compilers[0][0]) is None:
        pytest.skip(f"{compilers[0][0]} is not installed")
    monkeypatch.setattr(installer, "_COMPILERS", compilers)
    return str(request.param)


def call(
    program: Path, verb: str, netns: str = "", *, padding: int = 0, **environment: str
) -> tuple[int, Any, str]:
    config = {"cniVersion": "1.0.0", "name": "pods", "type": "dovetail", "network": "web"}
    config["somebodys"] = "x" * padding
    variables = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(program.parent),
        **environment,
    }
    done = subprocess.run(
        [str(program)],
        input=json.dumps(config).encode(),
        env={name: value for name, value in variables.items() if value},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr.decode()


def put(form: str, directory: Path, installation: Any, **settings: str) -> Path:
    paths = {"run_dir": installation.run_dir, "state_dir": installation.state_dir, **settings}
    installer.install(str(directory), **paths)
    program = directory / "dovetail"
    magic = program.read_bytes()[:4]
    assert magic == (b"#!/u" if form == "Python" else b"\x7fELF"), "it is the form that was asked for"
    return program


def test_it_attaches_and_detaches_with_a_daemon_and_without(
    form: str, installation: Any, tmp_path: Path
) -> None:
    program = put(form, tmp_path / form, installation)
    netns = installation.netns("c1")
    assert installation.start()
    installation.cli("network", "create", "web", "--subnet", "10.88.0.0/24")

    for alone in (False, True):
        if alone:
            installation.stop()
        status, result, errors = call(program, "ADD", netns)
        assert (status, errors) == (0, ""), (result, installation.log())
        assert installation.addresses("c1") == [ip["address"] for ip in result["ips"]]
        assert call(program, "DEL", netns) == (0, None, "")
        assert "eth0" not in installation.host.links(netns)


@pytest.mark.parametrize("padding", [65_000, 65_536, 1_000_000])
def test_a_configuration_may_be_large(form: str, padding: int, installation: Any, tmp_path: Path) -> None:
    program = put(form, tmp_path / form, installation)
    netns = installation.netns("c1")
    assert installation.start()
    installation.cli("network", "create", "web", "--subnet", "10.88.0.0/24")

    assert call(program, "ADD", netns, padding=padding)[0] == 0
    installation.stop()
    assert call(program, "DEL", netns, padding=padding) == (0, None, "")


def test_without_a_command_it_says_what_it_is(form: str, installation: Any, tmp_path: Path) -> None:
    program = put(form, tmp_path / form, installation)

    for started in (False, True):
        if started:
            assert installation.start()
        status, result, said = call(program, "")
        assert (status, result) == (0, None)
        assert said.startswith("CNI dovetail plugin v")
        assert "CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0" in said


@pytest.mark.parametrize("form", ["musl", "libc"], indirect=True)  # Python is there to run the third
def test_without_daemon_and_engine_it_says_why_in_json(form: str, installation: Any, tmp_path: Path) -> None:
    program = put(form, tmp_path / form, installation, python="/no/such/python")

    status, result, _ = call(program, "ADD", installation.netns("c1"), DOVETAIL_RUN_DIR='/no "such" place')

    assert (status, result["code"]) == (1, 5)
    for words in (
        '/no "such" place/cni.sock (No such file',
        "/no/such/python cannot",
        "dovetail cni install",
    ):
        assert words in result["msg"]
