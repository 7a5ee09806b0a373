"""What lies on the queue: one id, once its slice is committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django_tasks_db.models import DBTaskResult

from importops.actions.operations import start_operation
from importops.models import ImportOperation, ImportSlice, Message, Phase, Status, User
from importops.tasks.jobs import enqueue_slices, stopping, work_on_slice
from tests.exports import slack_messages, slack_room, slack_user, slack_zip
from tests.journeys import EVERYTHING, adds_up, prepare

Captured = Callable[..., Any]
pytestmark = pytest.mark.django_db


@pytest.fixture
def operation(tmp_path: Path, alice: User) -> ImportOperation:
    """Started, with nothing done yet."""
    export = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": slack_messages(3)}},
    )
    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)
    return operation


def queued() -> list[Any]:
    return list(DBTaskResult.objects.order_by("enqueued_at").values_list("args_kwargs", flat=True))


def run_queue(captured: Captured) -> int:
    """Do what is on the queue, and what that puts there, in this process; how many tasks."""
    done = 0
    while (task := DBTaskResult.objects.ready().first()) is not None:
        with captured(execute=True):
            task.task.func(*task.args_kwargs["args"])
        task.delete()
        done += 1
    return done


@pytest.mark.django_db(transaction=True)
def test_a_task_carries_one_id_and_nothing_else() -> None:
    enqueue_slices([7, 8])

    assert queued() == [{"args": [7], "kwargs": {}}, {"args": [8], "kwargs": {}}]


@pytest.mark.django_db(transaction=True)
def test_nothing_is_queued_before_its_slice_is_committed() -> None:
    with transaction.atomic():
        enqueue_slices([7])
        assert queued() == []
    assert len(queued()) == 1
    with transaction.atomic():
        enqueue_slices([8])
        transaction.set_rollback(True)
    assert len(queued()) == 1


def test_each_slice_queues_what_it_made_possible(
    operation: ImportOperation, django_capture_on_commit_callbacks: Captured
) -> None:
    first = operation.slices.get(phase=Phase.USERS)
    with django_capture_on_commit_callbacks(execute=True):
        enqueue_slices([first.pk])

    assert run_queue(django_capture_on_commit_callbacks) == 4  # users, rooms, messages, finishing
    operation.refresh_from_db()
    assert operation.status == Status.DONE
    assert Message.objects.count() == 3
    assert adds_up(operation)


def test_a_task_that_is_delivered_twice_works_once(
    operation: ImportOperation, django_capture_on_commit_callbacks: Captured
) -> None:
    first = operation.slices.get(phase=Phase.USERS)
    with django_capture_on_commit_callbacks(execute=True):
        enqueue_slices([first.pk, first.pk])

    assert run_queue(django_capture_on_commit_callbacks) == 5
    assert all(piece.attempt == 1 for piece in operation.slices.all())
    operation.refresh_from_db()
    assert adds_up(operation)


def test_a_process_that_is_to_end_gives_its_slice_back(operation: ImportOperation) -> None:
    first = operation.slices.get(phase=Phase.USERS)
    stopping.set()
    try:
        work_on_slice.func(first.pk)
    finally:
        stopping.clear()
    first.refresh_from_db()

    assert (first.status, first.lease_until) == (ImportSlice.Status.READY, None)
    assert first.cursor is not None  # its batch was finished
    assert queued() == []


def test_an_unknown_slice_is_nobodys_trouble() -> None:
    work_on_slice.func(4711)
