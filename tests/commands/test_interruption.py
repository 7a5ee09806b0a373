"""Ctrl-C and SIGTERM while a command works in the foreground."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from importops.engine import running
from importops.management.interruption import Interruption
from importops.models import ImportOperation, Message, Phase, Status, User
from tests.canonical import canonical_dump
from tests.commands.conftest import Run


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, phase: Phase, number: signal.Signals, times: int = 1
) -> None:
    """Send the signal from within the first slice of `phase`."""
    step = running.STEPS[phase]
    left = [times]

    def work(piece: Any) -> None:
        while left[0]:
            left[0] -= 1
            os.kill(os.getpid(), number)
        step.work(piece)

    monkeypatch.setitem(running.STEPS, phase, running.Step(work, step.following))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_leaves_it_cancelled_and_resumable(
    run: Run,
    root: User,
    export: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    interrupt_at(monkeypatch, Phase.MESSAGES, number)
    ran = run("import_file", export)
    operation = ImportOperation.objects.get()
    assert ran.code == 1
    assert "Stopping after this batch" in ran.err
    assert f"import_resume {operation.public_id}" in ran.err
    assert operation.status == Status.CANCELLED
    assert run("import_resume").code == 0
    assert Message.objects.count() == 3


def test_while_reading_it_says_that_the_choice_is_to_be_made_again(
    run: Run, root: User, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, Phase.COUNTING, signal.SIGINT)
    ran = run("import_file", export)
    assert ran.code == 1
    command = re.search(r"manage.py (import_resume \S+ --users all --channels all)", ran.err)
    assert command
    assert run(*command[1].split()).code == 0
    assert Message.objects.count() == 3


def test_the_second_signal_stops_at_once(
    run: Run, root: User, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, Phase.MESSAGES, signal.SIGINT, times=2)
    ran = run("import_file", export)
    operation = ImportOperation.objects.get()
    assert ran.code == 1
    assert "in the middle of a batch" in ran.err
    assert operation.state == "importing"
    assert Message.objects.count() == 0
    assert run("import_resume", operation.public_id).code == 0
    assert Message.objects.count() == 3


def test_an_interrupted_import_ends_like_an_undisturbed_one(
    run: Run, root: User, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(patched, Phase.ROOMS, signal.SIGINT)
        assert run("import_file", export).code == 1
    assert run("import_resume").code == 0
    resumed = canonical_dump()
    assert run("import_file", export).code == 0
    assert canonical_dump() == resumed


def test_the_handlers_from_before_come_back() -> None:
    def handlers() -> list[Any]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before = handlers()
    calls: list[str] = []
    tell: Callable[[], None] = lambda: calls.append("told")  # noqa: E731
    with Interruption(tell) as interruption:
        assert not interruption()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption()
        assert calls == ["told"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert handlers() == before
