from __future__ import annotations

import importlib
import os
import random

import pytest

from importops.conf import Conf
from importops.engine import ranged_source
from importops.engine.ranged_source import (
    BLOCK,
    KEPT_BLOCKS,
    MOST_AT_ONCE,
    RangedSource,
    RangeFailed,
)
from importops.errors import MustWait

DATA = random.Random(1).randbytes(12 * BLOCK + 345)


class Far:
    """Bytes that are far away, and who asked for which of them."""

    def __init__(self, data: bytes = DATA, failing: int = 0) -> None:
        self.data = data
        self.failing = failing
        self.asked: list[tuple[int, int]] = []
        self.source = RangedSource(self.fetch, len(data), "export.zip")

    def fetch(self, start: int, stop: int) -> bytes:
        self.asked.append((start, stop))
        if self.failing:
            self.failing -= 1
            raise RangeFailed("the line is dead")
        return self.data[start:stop]

    @property
    def bytes(self) -> int:
        return sum(stop - start for start, stop in self.asked)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged_source, "FIRST_WAIT", 0)


def test_any_reads_give_what_a_file_gives() -> None:
    far, dice = Far(), random.Random(2)
    for _ in range(300):
        at = dice.randrange(len(DATA) + 10)
        length = dice.choice([0, 1, 30, 4096, BLOCK, 3 * BLOCK + 7])
        far.source.seek(at)
        assert far.source.read(length) == DATA[at : at + length]
        assert far.source.tell() == max(at, min(at + length, len(DATA)))
    far.source.seek(-100, os.SEEK_END)
    assert far.source.read() == DATA[-100:]
    assert far.source.read(10) == b""


def test_reading_on_in_small_steps_asks_for_each_byte_once() -> None:
    far = Far()
    while far.source.read(700):
        pass
    assert far.bytes == len(DATA)
    assert len(far.asked) == 13


def test_one_large_read_takes_few_requests_of_a_bounded_size() -> None:
    far = Far()
    assert far.source.read() == DATA
    assert far.bytes == len(DATA)
    assert max(stop - start for start, stop in far.asked) == MOST_AT_ONCE
    assert len(far.asked) == 2


def test_going_back_a_little_asks_for_nothing_again() -> None:
    far = Far()
    far.source.read(2 * BLOCK)
    far.source.seek(10)
    far.source.read(BLOCK)
    assert far.bytes == 2 * BLOCK


def test_it_keeps_a_few_blocks_and_no_more() -> None:
    far = Far()
    for _ in range(2):
        far.source.seek(0)
        while far.source.read(BLOCK):
            pass
    assert far.bytes == 2 * len(DATA)
    assert len(far.source._blocks) == KEPT_BLOCKS


def test_an_empty_file_has_nothing_to_ask_for() -> None:
    far = Far(b"")
    assert far.source.read(10) == b""
    assert far.asked == []


def test_a_range_that_fails_once_is_asked_for_again() -> None:
    far = Far(failing=1)
    assert far.source.read(10) == DATA[:10]
    assert far.asked == [(0, BLOCK)] * 2


def test_a_range_that_keeps_failing_makes_the_import_wait_with_a_sentence() -> None:
    far = Far(failing=99)
    with pytest.raises(MustWait, match="cannot be read from the storage .*the line is dead"):
        far.source.read(10)
    assert len(far.asked) == ranged_source.TRIES
    far.failing = 0
    assert far.source.read(10) == DATA[:10]


def test_all_tries_together_are_shorter_than_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that hangs must not hold a slice until others take it over, and hang as well."""
    pytest.importorskip("storages", reason="requirements-s3.txt is not installed")
    patience = importlib.import_module("importops.engine.object_storage").PATIENCE
    slowest = patience.connect_timeout + patience.read_timeout
    assert ranged_source.TRY_FOR + slowest < Conf.__dataclass_fields__["lease_seconds"].default
    monkeypatch.setattr(ranged_source, "TRY_FOR", 0)
    far = Far(failing=99)
    with pytest.raises(MustWait):
        far.source.read(10)
    assert len(far.asked) == 1
