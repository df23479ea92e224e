"""What every plugin answers before it looks at a container: the protocol's own rules, the same in all of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dovetail.cni.install import install

pytestmark = pytest.mark.root
VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


class Directory:
    """A directory of our plugins, run by one namespace's runtime with no daemon."""

    def __init__(self, base: Path) -> None:
        self._bin = base / "bin"
        install(str(self._bin), run_dir=str(base / "run"), state_dir=str(base / "state"))

    def call(self, plugin: str, stdin: str | dict[str, Any], **environment: str | None) -> Any:
        """Execute a plugin with a complete environment but for what `environment` says; None leaves one out."""
        variables: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/run/netns/c1",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self._bin),
            **environment,
        }
        return subprocess.run(
            [str(self._bin / plugin)],
            input=stdin if isinstance(stdin, str) else json.dumps(stdin),
            env={name: value for name, value in variables.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def refused(self, plugin: str, stdin: str | dict[str, Any], **environment: str | None) -> Any:
        """Execute one that must fail; gives its error, which is all that is on standard output."""
        done = self.call(plugin, stdin, **environment)
        assert done.returncode != 0, done.stdout
        error = json.loads(done.stdout)
        assert {"cniVersion", "code", "msg"} <= set(error) <= {"cniVersion", "code", "msg", "details"}
        return error


@pytest.fixture(scope="module")
def directory(module_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Directory:
    return Directory(tmp_path_factory.mktemp("cni"))


@pytest.fixture(params=["bridge", "dovetail", "host-local", "portmap"])
def plugin(request: Any) -> str:
    """One of each sort, as each call starts a Python: every type has these tests with a daemon, in cni/test_protocol.py."""
    return str(request.param)


def configuration(plugin: str, **changes: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "pods", "type": plugin, **changes}


@pytest.mark.cni(1)
def test_version_needs_nothing_but_the_verb(directory: Directory, plugin: str) -> None:
    rest = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"))

    done = directory.call(plugin, "", CNI_COMMAND="VERSION", **rest)

    assert done.returncode == 0
    assert json.loads(done.stdout)["supportedVersions"] == VERSIONS


@pytest.mark.cni(2)
def test_without_a_verb_it_says_what_it_is(directory: Directory, plugin: str) -> None:
    done = directory.call(plugin, "", CNI_COMMAND=None)

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"CNI {plugin} plugin v")
    assert f"CNI protocol versions supported: {', '.join(VERSIONS)}" in done.stderr


@pytest.mark.cni(3, 11)
def test_all_variables_that_are_missing_are_in_one_error(directory: Directory, plugin: str) -> None:
    missing = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME")

    error = directory.refused(plugin, configuration(plugin), **dict.fromkeys(missing))

    assert error["code"] == 4
    assert [name for name in missing if name not in error["msg"] + error.get("details", "")] == []


@pytest.mark.cni(4, 11)
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CNI_CONTAINERID", "../c1"),
        ("CNI_CONTAINERID", "-c1"),
        ("CNI_IFNAME", "eth0:1"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "sixteen-letters-"),
        ("CNI_IFNAME", ".."),
    ],
)
def test_a_wrong_form_is_code_4(directory: Directory, plugin: str, variable: str, value: str) -> None:
    error = directory.refused(plugin, configuration(plugin), **{variable: value})

    assert error["code"] == 4
    assert value in error["msg"] + error.get("details", "")


@pytest.mark.cni(5, 11)
@pytest.mark.parametrize("verb", ["add", "REMOVE"])
def test_a_verb_that_nobody_knows_is_code_4(directory: Directory, plugin: str, verb: str) -> None:
    error = directory.refused(plugin, configuration(plugin), CNI_COMMAND=verb)

    assert error["code"] == 4
    assert verb in error["msg"]


@pytest.mark.cni(6, 11)
@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"cniVersion": "1.0.0", '])
def test_junk_is_code_6(directory: Directory, plugin: str, text: str) -> None:
    assert directory.refused(plugin, text)["code"] == 6


@pytest.mark.cni(7, 11)
@pytest.mark.parametrize("name", [None, "", "a/b", "-pods"])
def test_a_name_that_is_none_is_code_7(directory: Directory, plugin: str, name: str | None) -> None:
    document = configuration(plugin, name=name)
    if name is None:
        del document["name"]

    assert directory.refused(plugin, document)["code"] == 7


@pytest.mark.cni(8, 11)
def test_a_version_that_nobody_supports_is_code_1(directory: Directory, plugin: str) -> None:
    error = directory.refused(plugin, configuration(plugin, cniVersion="9.9.9"))

    assert error["code"] == 1
    assert [
        version for version in ("9.9.9", *VERSIONS) if version not in error["msg"] + error["details"]
    ] == []


@pytest.mark.cni(9, 11)
@pytest.mark.parametrize(("verb", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
def test_a_verb_newer_than_the_version_is_code_1(
    directory: Directory, plugin: str, verb: str, version: str
) -> None:
    error = directory.refused(plugin, configuration(plugin, cniVersion=version), CNI_COMMAND=verb)

    assert error["code"] == 1
    assert verb in error["msg"]
