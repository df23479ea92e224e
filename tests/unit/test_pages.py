"""What the pages say without a command: links, variables and compose files name what there is."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dovetail.assembly import build_engine
from dovetail.daemon.daemon import TECHNIQUES
from dovetail.drivers.options import DOCKER
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes").glob("*.md")])
OPTIONS = ROOT / "docs" / "reference" / "options.md"
INTERNAL = {"DOVETAIL_CNI_TYPE", "DOVETAIL_COMPLETE"}
"""Set by one part of dovetail for another, and by the shell's completion."""


def text_of(page: Path) -> str:
    """Read a page without its blocks and its code."""
    blocks = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", blocks)


def anchors_of(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    # a note of changes/ becomes a part of CHANGELOG.md
    start = ROOT if page.parent.name == "changes" and page.name != "README.md" else page.parent
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = Path(os.path.normpath(start / path)) if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)

    assert broken == []


def test_the_table_of_contents_has_every_page() -> None:
    contents = ROOT / "docs" / "README.md"
    linked = {
        (contents.parent / link.partition("#")[0]).resolve()
        for link in re.findall(r"\]\(([^)\s]+)\)", contents.read_text(encoding="utf-8"))
        if "://" not in link
    }
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "adr"}

    assert pages - linked == {contents}


def test_every_variable_that_is_read_is_in_the_reference() -> None:
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "shim").iterdir()]
    read = {
        name
        for source in sources
        if source.is_file()
        for name in re.findall(r"DOVETAIL_[A-Z_]*[A-Z]", source.read_text(encoding="utf-8"))
    }
    told = set(re.findall(r"`(DOVETAIL_\w+)`", OPTIONS.read_text(encoding="utf-8")))

    assert read - INTERNAL == told


# -- compose files ------------------------------------------------------------------------------------------

DRIVERS = {"dovetail": "bridge", **{f"dovetail-{name}": name for name in TECHNIQUES}}
OF_DOCKER = {"bridge", "macvlan", "ipvlan"}


def compose_networks() -> list[tuple[str, str, set[str]]]:
    """Give page, driver and keys of ``driver_opts`` of every network in the compose files of the pages."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            for network in re.split(r"^  \w+:$", block, flags=re.MULTILINE)[1:]:
                driver = re.search(r"^    driver: (\S+)", network, flags=re.MULTILINE)
                options = re.search(r"^    driver_opts:\n((?:      .*\n)*)", network, flags=re.MULTILINE)
                keys = re.findall(r"^      ([\w.]+):", options[1], flags=re.MULTILINE) if options else []
                assert driver is not None, page
                found.append((page.name, driver[1], set(keys)))
    return found


def test_a_compose_file_names_drivers_and_options_that_there_are(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "db"))
    engine = build_engine(
        state_dir=str(tmp_path), run_dir=str(tmp_path), kernel=RecordingKernel(), store=store
    )
    networks = compose_networks()

    assert networks
    for page, driver, keys in networks:
        assert driver in DRIVERS or driver in OF_DOCKER, page
        options = engine.core.driver(DRIVERS.get(driver, driver)).options()
        known = {*options, *(synonym for option in options.values() for synonym in option.synonyms)}
        assert {key for key in keys if not key.startswith(DOCKER)} <= known, page
    store.close()
