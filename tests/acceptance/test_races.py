"""Of several processes that want different things at the same moment, one has its way: many rounds."""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from pytest_django import Settings

from importops.actions.operations import cancel_operation, resume_operation, start_operation
from importops.engine.progress import counts
from importops.engine.running import run_operation
from importops.errors import ImportopsError
from importops.models import ImportOperation, ImportSlice, Message, Status, User
from tests.exports import slack_messages, slack_room, slack_user, slack_zip
from tests.journeys import EVERYTHING, adds_up, prepare

ROUNDS = 8
MESSAGES = 60
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork()"),
]
fork = multiprocessing.get_context("fork")


def at_once(*works: Callable[[], None]) -> list[str]:
    """Do each in a process of its own, all let go together; `done`, or the code of what it raised."""
    connections.close_all()
    barrier = fork.Barrier(len(works))
    answers = fork.SimpleQueue()

    def body(number: int, work: Callable[[], None]) -> None:
        barrier.wait(30)
        try:
            work()
            answer = "done"
        except ImportopsError as error:
            answer = error.code
        except Exception as error:  # noqa: BLE001 - it is compared
            answer = repr(error)
        connections.close_all()
        answers.put((number, answer))

    processes = [fork.Process(target=body, args=pair) for pair in enumerate(works)]
    for process in processes:
        process.start()
    found: Any = dict(answers.get() for _ in processes)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return [found[number] for number in range(len(works))]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": slack_messages(MESSAGES)}},
    )


@pytest.fixture
def small_batches(settings: Settings) -> None:
    settings.IMPORTOPS = replace(settings.IMPORTOPS, batch_rows=5)


def start(operation: ImportOperation, user: User) -> None:
    mine = ImportOperation.objects.get(pk=operation.pk)
    start_operation(mine, EVERYTHING, user, queue=False)


def settled(answers: Sequence[str], refusal: str) -> bool:
    return Counter(answers) == Counter({"done": 1, refusal: len(answers) - 1})


def test_of_processes_that_start_one_operation_one_wins_and_the_others_are_told(
    export: Path, alice: User
) -> None:
    for _ in range(ROUNDS):
        operation = prepare(export, alice)
        answers = at_once(*[partial(start, operation, alice)] * 3)

        assert settled(answers, "error-import-operation-in-progress"), answers
        operation.refresh_from_db()
        assert operation.status == Status.IMPORTING_STARTED
        assert operation.slices.filter(phase="users").count() == 1
        cancel_operation(operation)


def test_of_two_operations_that_start_at_once_one_wins(export: Path, alice: User) -> None:
    for _ in range(ROUNDS):
        first, second = prepare(export, alice), prepare(export, alice)
        # As if both had come from servers that know nothing of each other.
        ImportOperation.objects.filter(pk=first.pk).update(valid=True)
        answers = at_once(partial(start, first, alice), partial(start, second, alice))

        assert settled(answers, "error-import-operation-in-progress"), answers
        running = ImportOperation.objects.importing().get()
        assert running.pk == (first if answers[0] == "done" else second).pk
        cancel_operation(running)


@pytest.mark.usefixtures("small_batches")
def test_cancel_that_races_completion_has_one_outcome(export: Path, alice: User) -> None:
    seen = Counter[str]()
    for number in range(ROUNDS):
        operation = prepare(export, alice)
        start_operation(operation, EVERYTHING, alice, queue=False)
        share = number / ROUNDS  # from the first batch to the last
        work, cancel = at_once(
            partial(run_operation, ImportOperation.objects.get(pk=operation.pk)),
            partial(cancel_when, operation, share),
        )
        operation.refresh_from_db()
        seen[operation.status] += 1

        assert work == "done"
        if operation.status == Status.DONE:
            assert cancel == "error-invalid-operation-status"
            assert operation.cancel_requested_at is None
        else:
            assert (operation.status, cancel) == (Status.CANCELLED, "done")
            resume_operation(operation, queue=False)
            run_operation(operation)
        check_complete(operation)
    assert seen[Status.CANCELLED], seen


@pytest.mark.usefixtures("small_batches")
def test_two_who_work_on_one_operation_do_everything_once(export: Path, alice: User) -> None:
    for _ in range(ROUNDS // 3):
        operation = prepare(export, alice)
        start_operation(operation, EVERYTHING, alice, queue=False)
        work = partial(run_operation, ImportOperation.objects.get(pk=operation.pk))

        assert at_once(work, work, work) == ["done"] * 3
        operation.refresh_from_db()
        check_complete(operation)


def cancel_when(operation: ImportOperation, share: float) -> None:
    """Cancel once about so much of the slices is done; cheap looks, so that it comes close."""
    wanted = round(share * 4)
    done = ImportSlice.objects.filter(operation=operation, status=ImportSlice.Status.DONE)
    imported = done.exclude(phase__in=("listing", "counting"))
    for _ in range(5000):
        if imported.count() >= wanted:
            break
    cancel_operation(ImportOperation.objects.get(pk=operation.pk))


def check_complete(operation: ImportOperation) -> None:
    assert operation.status == Status.DONE
    assert Message.objects.count() == MESSAGES
    told = counts(operation)["messages"]
    assert told["created"] + told["skipped"] == told["total"] == MESSAGES
    assert adds_up(operation)
    assert operation.slices.unfinished().count() == 0
