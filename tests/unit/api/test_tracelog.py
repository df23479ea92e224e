from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from dovetail.api import tracelog
from dovetail.engine.trace import Step


def step(name, started=0.0, size=0):
    return Step(layer="cli", name=name, started=started, detail={"x": "y" * size} if size else {})


def test_steps_come_back_in_the_order_they_were_written(tmp_path):
    append = tracelog.sink(str(tmp_path))

    append(step("one"))
    append(step("two"))

    assert [found.name for found in tracelog.read(str(tmp_path))] == ["one", "two"]


def test_the_file_is_private(tmp_path):
    tracelog.sink(str(tmp_path))(step("one"))

    assert os.stat(tmp_path / tracelog.FILE).st_mode & 0o777 == 0o600


def test_the_file_stays_below_its_limit_and_keeps_the_newer_half(tmp_path):
    append = tracelog.sink(str(tmp_path))

    for number in range(300):
        append(step(str(number), size=8000))

    size = os.stat(tmp_path / tracelog.FILE).st_size
    names = [int(found.name) for found in tracelog.read(str(tmp_path))]
    assert size <= 1 << 20
    assert names == list(range(names[0], 300))
    assert len(names) > 40


def test_writers_at_once_lose_nothing(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: tracelog.sink(str(tmp_path))(step(str(n))), range(64)))

    assert {int(found.name) for found in tracelog.read(str(tmp_path))} == set(range(64))


def test_a_damaged_line_is_passed_over(tmp_path):
    append = tracelog.sink(str(tmp_path))
    append(step("one"))
    with open(tmp_path / tracelog.FILE, "ab") as file:
        file.write(b'{"layer": \n')
    append(step("two"))

    assert [found.name for found in tracelog.read(str(tmp_path))] == ["one", "two"]


def test_a_directory_that_cannot_be_written_fails_no_operation(tmp_path):
    tracelog.sink(str(tmp_path / "missing"))(step("one"))

    assert tracelog.read(str(tmp_path / "missing")) == []


def test_traces_are_merged_by_time():
    merged = tracelog.merge([step("a", 1.0), step("c", 3.0)], [step("b", 2.0), step("d", 4.0)], last=3)

    assert [found.name for found in merged] == ["b", "c", "d"]
