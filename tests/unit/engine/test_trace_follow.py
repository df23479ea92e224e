"""Following the trace: each root step once, in order, and a wait that ends with the first."""

from __future__ import annotations

import threading

from dovetail.engine.trace import Step, Tracer


def run(tracer: Tracer, *names: str) -> None:
    for name in names:
        with tracer.step("cli", name):
            pass


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_following_begins_with_what_comes_next() -> None:
    tracer = Tracer()
    run(tracer, "old")

    after, steps = tracer.follow(None, 0)
    run(tracer, "new", "newer")

    assert steps == []
    assert names(tracer.follow(after, 0)[1]) == ["new", "newer"]


def test_each_step_is_given_once() -> None:
    tracer = Tracer()
    after, _ = tracer.follow(None, 0)
    seen = []
    for name in ("one", "two", "three"):
        run(tracer, name)
        after, steps = tracer.follow(after, 0)
        seen += names(steps)

    assert seen == ["one", "two", "three"]
    assert tracer.follow(after, 0) == (after, [])


def test_who_waits_is_woken_by_a_step_that_finishes() -> None:
    tracer = Tracer()
    told: list[str] = []
    waiting = threading.Thread(target=lambda: told.extend(names(tracer.follow(0, 60)[1])))
    waiting.start()

    run(tracer, "woke")
    waiting.join(timeout=30)

    assert told == ["woke"]


def test_who_follows_too_slowly_gets_what_is_still_there() -> None:
    tracer = Tracer()
    run(tracer, *map(str, range(1000)))

    after, steps = tracer.follow(0, 0)

    assert after == 1000
    assert names(steps)[-1] == "999"
    assert len(steps) == 256
