"""Plugins put where runtimes look for them, and what was there before put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dovetail.cni.executables import is_ours
from dovetail.cni.install import install, uninstall
from dovetail.cni.plugins import PLUGINS
from dovetail.errors import InvalidArgument

GO = b"\x7fELF of somebody else"


@pytest.fixture
def where(tmp_path: Path) -> dict[str, Any]:
    return {"run_dir": str(tmp_path / "run"), "state_dir": str(tmp_path / "state")}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_every_type_is_installed_where_none_is_named(tmp_path: Path, where: dict[str, Any]) -> None:
    paths = install(str(tmp_path / "bin"), **where)

    assert [Path(path).name for path in paths] == sorted(PLUGINS)
    assert names(tmp_path / "bin") == {*PLUGINS, ".dovetail"}
    assert all(is_ours(path) and Path(path).stat().st_mode & 0o777 == 0o755 for path in paths)


def test_what_others_had_there_is_kept_and_put_back(tmp_path: Path, where: dict[str, Any]) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("bridge", "dhcp-of-others", "portmap"):
        (directory / name).write_bytes(GO)

    install(str(directory), **where)
    install(str(directory), **where)  # again: what is ours by now is not put aside
    kept = names(directory / ".before-dovetail")
    uninstall(str(directory))

    assert kept == {"bridge", "portmap"}
    assert names(directory) == {"bridge", "dhcp-of-others", "portmap"}
    assert {path.read_bytes() for path in directory.iterdir()} == {GO}
    assert uninstall(str(directory)) == []


def test_one_type_alone_leaves_the_others_be(tmp_path: Path, where: dict[str, Any]) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "bridge").write_bytes(GO)

    install(str(directory), **where, types=("dovetail",))

    assert names(directory) == {"bridge", "dovetail", ".dovetail"}
    assert not is_ours(str(directory / "bridge"))


def test_what_was_put_in_the_place_of_ours_stays(tmp_path: Path, where: dict[str, Any]) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "bridge").write_bytes(GO)
    install(str(directory), **where)
    (directory / "bridge").write_bytes(b"an upgrade of the other package")

    uninstall(str(directory))

    assert (directory / "bridge").read_bytes() == b"an upgrade of the other package"


def test_a_type_that_there_is_not_is_refused_before_anything_is_done(
    tmp_path: Path, where: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument, match="no plugin 'calico'"):
        install(str(tmp_path / "bin"), **where, types=("calico",))

    assert not (tmp_path / "bin").exists()
