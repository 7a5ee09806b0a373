"""Claim, fence, cancel: of several who try, one wins, and who lost writes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from importops.actions.operations import (
    cancel_operation,
    create_operation_in_place,
    resume_operation,
    start_operation,
)
from importops.engine.running import STEPS, Step, advance, run_operation, run_slice
from importops.engine.slices import Work, claim_slice, release_slice, settle_stopped
from importops.errors import (
    FileMissing,
    ImportopsError,
    InvalidOperationStatus,
    OperationInProgress,
    OperationInvalid,
    OperationStopped,
    SliceLost,
    WorkerStopping,
)
from importops.models import ImportOperation, ImportSlice, Message, Phase, Status, User
from tests.exports import slack_messages, slack_room, slack_user, slack_zip
from tests.factories import ImportOperationFactory, ImportSliceFactory, RoomFactory
from tests.journeys import EVERYTHING, adds_up, import_all, prepare

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(alice: User) -> ImportOperation:
    return ImportOperationFactory.create(
        user=alice,
        status=Status.IMPORTING_MESSAGES,
        phase=Phase.MESSAGES,
        started_at=timezone.now(),
    )


@pytest.fixture
def piece(running: ImportOperation) -> ImportSlice:
    return ImportSliceFactory.create(operation=running, phase=Phase.MESSAGES)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": slack_messages(30)}},
    )


def claimed(piece: ImportSlice) -> ImportSlice:
    found = claim_slice(piece.pk)
    assert found is not None
    return found


def work_on(piece: ImportSlice) -> Work:
    return Work(piece, stop=lambda: False, on_batch=lambda: None)


def test_a_slice_can_be_claimed_once(piece: ImportSlice) -> None:
    assert claim_slice(piece.pk) is not None
    assert claim_slice(piece.pk) is None


def test_a_slice_whose_lease_ran_out_can_be_claimed_again(piece: ImportSlice) -> None:
    first = claimed(piece)
    ImportSlice.objects.update(lease_until=timezone.now() - timedelta(seconds=1))

    assert claimed(piece).attempt == first.attempt + 1


def test_who_was_taken_over_commits_nothing(piece: ImportSlice) -> None:
    zombie = work_on(claimed(piece))
    ImportSlice.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    claimed(piece)

    with pytest.raises(SliceLost), zombie.batch() as batch:
        RoomFactory.create(name="written by a zombie")
        batch.cursor = [9]
    assert not RoomFactory._meta.model.objects.exists()
    piece.refresh_from_db()
    assert piece.cursor is None


def test_a_cancelled_operation_takes_no_more_batches(piece: ImportSlice) -> None:
    work = work_on(claimed(piece))
    cancel_operation(piece.operation)

    with pytest.raises(OperationStopped), work.batch():
        RoomFactory.create()
    assert not RoomFactory._meta.model.objects.exists()


def test_cancelling_waits_for_who_holds_a_slice(piece: ImportSlice) -> None:
    held = claimed(piece)
    cancel_operation(piece.operation)
    operation = piece.operation
    assert operation.is_cancelling and operation.status == Status.IMPORTING_MESSAGES
    release_slice(held)
    cancel_operation(operation)

    assert operation.status == Status.CANCELLED
    assert operation.state == "canceled"
    assert operation.valid


def test_whoever_held_a_slice_past_its_lease_writes_nothing_after_cancelled(
    piece: ImportSlice,
) -> None:
    zombie = work_on(claimed(piece))
    ImportSlice.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    ImportOperation.objects.update(cancel_requested_at=timezone.now())

    assert settle_stopped(piece.operation_id)
    # As if it had looked at the operation before it was cancelled, and commits only now.
    ImportOperation.objects.update(
        status=Status.IMPORTING_MESSAGES, cancel_requested_at=None, finished_at=None
    )
    with pytest.raises(SliceLost), zombie.batch():
        pass


def test_the_tally_and_the_cursor_are_committed_with_the_rows(piece: ImportSlice) -> None:
    work = work_on(claimed(piece))
    with work.batch() as batch:
        batch.cursor = [3, 4]
        batch.add("messages.created", 5)
    piece.refresh_from_db()

    assert (piece.cursor, piece.tally["messages.created"], piece.stalled) == ([3, 4], 5, 0)


def test_a_worker_that_is_to_stop_ends_after_its_batch(piece: ImportSlice) -> None:
    work = Work(claimed(piece), stop=lambda: True, on_batch=lambda: None)
    with pytest.raises(WorkerStopping), work.batch() as batch:
        batch.cursor = [7]
    piece.refresh_from_db()

    assert piece.cursor == [7]


def test_a_phase_is_left_only_when_nothing_of_it_is_unfinished(piece: ImportSlice) -> None:
    assert advance(piece.operation_id) == []
    ImportSlice.objects.update(status=ImportSlice.Status.DONE)
    made = advance(piece.operation_id)

    assert ImportSlice.objects.get(pk=made[0]).phase == Phase.FINISHING
    assert advance(piece.operation_id) == []


def test_a_slice_that_never_gets_on_fails_the_operation_with_a_sentence(
    export: Path, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, *args: object) -> Iterator[object]:
        raise ZeroDivisionError

    operation = create_operation_in_place(user=alice, importer_key="slack", path=export)
    monkeypatch.setattr("importops.importers.slack.SlackImporter.workspace", broken)
    monkeypatch.setattr("importops.engine.running.RETRY_AFTER", 0.001)
    run_operation(operation)

    assert operation.status == Status.FAILED
    assert "stopped 5 times at the same place" in operation.error


def test_only_one_operation_can_be_importing(running: ImportOperation, alice: User) -> None:
    other = ImportOperationFactory.create(user=alice)

    with pytest.raises(OperationInProgress):
        start_operation(other, EVERYTHING, alice, queue=False)
    other.refresh_from_db()
    assert other.status == Status.USER_SELECTION


def test_a_second_start_is_refused(export: Path, alice: User) -> None:
    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)

    with pytest.raises(OperationInProgress):
        start_operation(operation, EVERYTHING, alice, queue=False)


def test_a_new_operation_is_refused_while_one_imports(
    running: ImportOperation, export: Path, alice: User
) -> None:
    with pytest.raises(OperationInProgress, match=running.public_id):
        create_operation_in_place(user=alice, importer_key="slack", path=export)
    running.refresh_from_db()
    assert running.valid


def test_a_new_operation_takes_the_place_of_one_that_waits(export: Path, alice: User) -> None:
    first = prepare(export, alice)
    second = prepare(export, alice)
    first.refresh_from_db()

    assert (first.valid, second.valid) == (False, True)
    with pytest.raises(OperationInvalid):
        start_operation(first, EVERYTHING, alice, queue=False)


def cancel_while_it_runs(operation: ImportOperation) -> None:
    if operation.state == "importing":
        cancel_operation(operation)


def test_a_cancelled_import_goes_on_where_it_stopped(export: Path, alice: User) -> None:
    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)
    run_operation(operation, on_progress=cancel_while_it_runs)
    assert operation.status == Status.CANCELLED
    resume_operation(operation, queue=False)
    run_operation(operation)

    assert operation.status == Status.DONE
    assert Message.objects.count() == 30
    assert adds_up(operation)


def test_a_done_operation_can_be_neither_cancelled_nor_resumed(export: Path, alice: User) -> None:
    operation = import_all(export, alice)

    for ask in (cancel_operation, resume_operation):
        with pytest.raises(InvalidOperationStatus):
            ask(operation)


def test_an_older_operation_is_not_resumed_over_a_newer_one(export: Path, alice: User) -> None:
    older = prepare(export, alice)
    start_operation(older, EVERYTHING, alice, queue=False)
    cancel_operation(older)
    prepare(export, alice)

    with pytest.raises(OperationInvalid):
        resume_operation(older, queue=False)


@pytest.mark.django_db(transaction=True)
def test_of_eight_who_start_at_once_one_wins(export: Path, alice: User) -> None:
    operation = prepare(export, alice)
    barrier = threading.Barrier(8)
    outcomes: list[str] = []

    def start() -> None:
        mine = ImportOperation.objects.get(pk=operation.pk)
        barrier.wait()
        try:
            start_operation(mine, EVERYTHING, alice, queue=False)
            outcomes.append("won")
        except ImportopsError as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["error-import-operation-in-progress"] * 7 + ["won"]
    assert operation.slices.filter(phase=Phase.USERS).count() == 1


def test_running_a_slice_that_somebody_has_does_nothing(piece: ImportSlice) -> None:
    claimed(piece)

    assert run_slice(piece.pk) == []


def test_what_is_being_read_is_given_up_when_another_one_is_resumed(
    export: Path, alice: User, tmp_path: Path
) -> None:
    done = import_all(export, alice)
    ImportOperation.objects.update(status=Status.CANCELLED, phase=Phase.FINISHING)
    older = create_operation_in_place(user=alice, importer_key="slack", path=export)
    ImportOperation.objects.filter(pk=older.pk).update(ts=done.ts - timedelta(minutes=1))
    done.refresh_from_db()

    resume_operation(done, queue=False)

    older.refresh_from_db()
    assert (older.status, older.valid) == (Status.CANCELLED, False)


def test_resuming_never_pushes_a_running_import_aside(export: Path, alice: User) -> None:
    waiting = prepare(export, alice)
    cancel_operation(waiting)
    running = prepare(export, alice)
    start_operation(running, EVERYTHING, alice, queue=False)

    with pytest.raises(OperationInProgress):
        resume_operation(waiting, queue=False)
    running.refresh_from_db()
    assert running.valid


def test_resuming_does_not_displace_a_newer_one_that_waits(export: Path, alice: User) -> None:
    older = prepare(export, alice)
    cancel_operation(older)
    newer = prepare(export, alice)

    with pytest.raises(OperationInvalid, match=newer.public_id):
        resume_operation(older, queue=False)
    newer.refresh_from_db()
    assert newer.valid


def test_an_operation_that_ended_meanwhile_is_not_reopened(
    piece: ImportSlice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends_first(*args: object) -> None:
        ImportOperation.objects.update(status=Status.DONE, phase=Phase.NONE)

    monkeypatch.setattr("importops.actions.operations.refuse_while_importing", ends_first)
    with pytest.raises(InvalidOperationStatus, match="moved on"):
        resume_operation(piece.operation, queue=False)


def test_an_operation_that_is_being_cancelled_cannot_be_started(export: Path, alice: User) -> None:
    operation = prepare(export, alice)
    ImportOperation.objects.update(cancel_requested_at=timezone.now())

    with pytest.raises(InvalidOperationStatus, match="being cancelled"):
        start_operation(operation, EVERYTHING, alice, queue=False)


def test_who_was_taken_over_does_not_fail_the_operation(
    export: Path, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)
    piece = operation.slices.get(phase=Phase.USERS)

    def taken_over(work: Work) -> None:
        ImportSlice.objects.filter(pk=piece.pk).take_over()
        raise FileMissing

    monkeypatch.setitem(STEPS, Phase.USERS, Step(taken_over, Phase.ROOMS))
    run_slice(piece.pk)
    operation.refresh_from_db()
    assert operation.state == "importing"


def test_a_plan_that_cannot_be_made_fails_the_operation_with_a_sentence(
    export: Path, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(self: object) -> Iterator[object]:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr("importops.importers.slack.SlackImporter.spans", unreadable)
    operation = create_operation_in_place(user=alice, importer_key="slack", path=export)
    run_operation(operation)

    assert operation.status == Status.FAILED
    assert "nothing to divide by" in operation.error


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_only_a_batchs_own_commit_does_not_wait_for_the_disk(piece: ImportSlice) -> None:
    def waits() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            return str(cursor.fetchone()[0])

    with work_on(claimed(piece)).batch():
        assert waits() == "off"
    assert waits() == "on"


@pytest.mark.postgresql
def test_what_files_are_deleted_after_is_on_disk(running: ImportOperation) -> None:
    ImportOperation.objects.update(phase=Phase.UNDO_MESSAGES)
    piece = ImportSliceFactory.create(operation=running, phase=Phase.UNDO_MESSAGES)
    with work_on(claimed(piece)).batch(), connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
