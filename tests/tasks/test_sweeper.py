"""What crashed processes left behind is taken up, once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from importops.conf import conf
from importops.engine.progress import worker_alive
from importops.engine.slices import QUEUE_GRACE, claim_slice
from importops.models import ImportOperation, ImportSlice, Phase, Status, User
from importops.tasks.sweeper import Sweeper
from tests.factories import ImportOperationFactory, ImportSliceFactory

pytestmark = pytest.mark.django_db

READY, DONE = ImportSlice.Status.READY, ImportSlice.Status.DONE


@pytest.fixture
def running(alice: User) -> ImportOperation:
    return ImportOperationFactory.create(
        user=alice,
        status=Status.IMPORTING_MESSAGES,
        phase=Phase.MESSAGES,
        started_at=timezone.now(),
    )


@pytest.fixture
def sweep(django_capture_on_commit_callbacks: Callable[..., Any]) -> Callable[[], list[int]]:
    """One turn of a sweeper; the slices that it queued."""

    def turn() -> list[int]:
        DBTaskResult.objects.all().delete()
        with django_capture_on_commit_callbacks(execute=True):
            Sweeper().turn()
        return [
            row["args"][0] for row in DBTaskResult.objects.values_list("args_kwargs", flat=True)
        ]

    return turn


Sweep = Callable[[], list[int]]


def piece_of(operation: ImportOperation, **fields: Any) -> ImportSlice:
    return ImportSliceFactory.create(operation=operation, phase=operation.phase, **fields)


def let_lease_run_out() -> None:
    """As if the claims of a moment ago lay a lease and a second back."""
    passed = timedelta(seconds=conf().lease_seconds + 1)
    for piece in ImportSlice.objects.exclude(lease_until=None):
        piece.lease_until -= passed
        piece.look_again_at -= passed
        piece.save(update_fields=["lease_until", "look_again_at"])


def test_a_ready_slice_that_nobody_claimed_is_queued_once(
    running: ImportOperation, sweep: Sweep
) -> None:
    piece = piece_of(running)

    assert sweep() == [piece.pk]
    assert sweep() == []
    ImportSlice.objects.update(look_again_at=timezone.now())
    assert sweep() == [piece.pk]


def test_a_slice_that_was_just_queued_is_left_alone(running: ImportOperation, sweep: Sweep) -> None:
    piece_of(running, look_again_at=timezone.now() + QUEUE_GRACE)

    assert sweep() == []


def test_an_expired_lease_is_queued_at_once_and_once(
    running: ImportOperation, sweep: Sweep
) -> None:
    """Also when the slice was queued a moment before its worker was killed."""
    piece = piece_of(running, look_again_at=timezone.now() + QUEUE_GRACE)
    claim_slice(piece.pk)
    assert sweep() == []
    let_lease_run_out()

    assert sweep() == [piece.pk]
    assert sweep() == []
    ImportSlice.objects.update(look_again_at=timezone.now())
    assert sweep() == [piece.pk]  # it was lost on the queue


def test_every_loss_of_a_worker_counts_anew(running: ImportOperation, sweep: Sweep) -> None:
    piece = piece_of(running)
    for attempt in (1, 2, 3):
        claimed = claim_slice(piece.pk)
        assert claimed is not None and claimed.attempt == attempt
        let_lease_run_out()
        assert sweep() == [piece.pk]
        assert sweep() == []


def test_a_slice_that_somebody_works_on_is_left_alone(
    running: ImportOperation, sweep: Sweep
) -> None:
    piece = piece_of(running)
    claim_slice(piece.pk)

    assert sweep() == []


@pytest.mark.parametrize(
    "change",
    [
        {"valid": False},
        {"cancel_requested_at": timezone.now()},
        {"finished_at": timezone.now()},
        {"phase": Phase.ROOMS},
    ],
)
def test_what_may_not_be_worked_on_is_not_queued(
    running: ImportOperation, sweep: Sweep, change: dict[str, Any]
) -> None:
    ImportSliceFactory.create(operation=running, phase=Phase.ROOMS, status=READY)
    piece = piece_of(running)
    ImportOperation.objects.update(**change)

    assert piece.pk not in sweep()


def test_a_slice_that_is_done_is_not_queued(running: ImportOperation, sweep: Sweep) -> None:
    piece_of(running, status=DONE)
    other = piece_of(running)

    assert sweep() == [other.pk]


def test_an_operation_whose_worker_died_before_saying_so_goes_on(
    running: ImportOperation, sweep: Sweep
) -> None:
    piece_of(running, status=DONE)
    made = sweep()

    running.refresh_from_db()
    assert running.phase == Phase.FINISHING
    assert made == [running.slices.get(phase=Phase.FINISHING).pk]
    assert sweep() == []


def test_a_cancelled_operation_is_settled_when_its_worker_is_gone(
    running: ImportOperation, sweep: Sweep
) -> None:
    piece = piece_of(running)
    claim_slice(piece.pk)
    ImportOperation.objects.update(cancel_requested_at=timezone.now())
    assert sweep() == []
    running.refresh_from_db()
    assert running.status == Status.IMPORTING_MESSAGES
    let_lease_run_out()

    assert sweep() == []
    running.refresh_from_db()
    assert running.status == Status.CANCELLED
    assert running.finished_at is not None and running.state == "canceled"


def test_results_of_the_queue_are_forgotten_after_a_day(running: ImportOperation) -> None:
    now = timezone.now()
    for days in (0, 2):
        for status in ("SUCCESSFUL", "FAILED", "READY"):
            DBTaskResult.objects.create(
                status=status,
                args_kwargs={"args": [days], "kwargs": {}},
                task_path="importops.tasks.jobs.work_on_slice",
                backend_name="default",
                run_after=now,
                finished_at=None if status == "READY" else now - timedelta(days=days),
            )
    Sweeper().turn()

    left = DBTaskResult.objects.values_list("args_kwargs__args__0", "status")
    assert set(left) == {(0, "SUCCESSFUL"), (0, "FAILED"), (0, "READY"), (2, "READY")}


def test_a_turn_says_that_workers_are_alive(db: None) -> None:
    assert not worker_alive()
    Sweeper().turn()
    assert worker_alive()


def test_what_killed_processes_left_behind_goes_after_a_day(uploads: Path, db: None) -> None:
    old, new = uploads / "old.upload", uploads / "new.upload"
    for path in (old, new):
        path.touch()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    Sweeper().turn()

    assert list(uploads.iterdir()) == [new]


def test_tasks_of_killed_workers_are_forgotten_after_a_day(running: ImportOperation) -> None:
    """The queue itself never looks at a task again that was running when its worker was killed."""
    for hours in (1, 25):
        DBTaskResult.objects.create(
            status="RUNNING",
            args_kwargs={"args": [hours], "kwargs": {}},
            task_path="importops.tasks.jobs.work_on_slice",
            backend_name="default",
            run_after=timezone.now(),
            started_at=timezone.now() - timedelta(hours=hours),
        )
    Sweeper().turn()

    assert [row.args_kwargs["args"] for row in DBTaskResult.objects.all()] == [[1]]


def test_a_full_disk_under_the_cache_stops_no_round(
    running: ImportOperation, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("importops.engine.progress.cache.set", full)
    piece = piece_of(running)

    assert sweep() == [piece.pk]
