"""On SQLite an import leaves the one lock to others for a share of the time."""

from __future__ import annotations

import time

import pytest

from importops.engine.fairness import FREE, LONGEST, Turns


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it wanted to sleep, each time; the clock stands still but for `pass_`."""
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    clock[0] = 100.0
    return naps


clock = [100.0]


def hold(turns: Turns, seconds: float) -> None:
    turns.wait()
    turns.taken()
    clock[0] += seconds
    turns.given_back()


@pytest.mark.sqlite
def test_who_only_writes_leaves_the_lock_alone_in_between(slept: list[float]) -> None:
    turns = Turns()
    hold(turns, 0.04)
    assert slept == []
    turns.wait()
    assert slept == [pytest.approx(0.04 * FREE)]


@pytest.mark.sqlite
def test_work_between_two_batches_counts(slept: list[float]) -> None:
    turns = Turns()
    hold(turns, 0.04)
    clock[0] += 0.03
    turns.wait()
    assert slept == []


@pytest.mark.sqlite
def test_a_moment_of_a_slow_disk_is_not_held_against_the_import(slept: list[float]) -> None:
    turns = Turns()
    hold(turns, 30)
    turns.wait()
    assert slept == [LONGEST]


@pytest.mark.postgresql
def test_where_many_may_write_nobody_waits(slept: list[float]) -> None:
    turns = Turns()
    hold(turns, 30)
    turns.wait()
    assert slept == []
