"""What outside breaks, an import waits for: it says why, is not counted as stalled, and goes on by itself."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from importops.actions.operations import (
    cancel_operation,
    create_operation_in_place,
    start_operation,
)
from importops.engine.outside import reason_to_wait
from importops.engine.pausing import LONGEST_WAIT, SHORTEST_WAIT
from importops.engine.progress import paused, report
from importops.engine.running import STEPS, Step, run_operation, run_slice
from importops.engine.slices import MOST_STALLED_CLAIMS, Work, claim_slice
from importops.errors import MustWait
from importops.importers.slack import SlackImporter
from importops.models import ImportOperation, ImportSlice, Message, Phase, Status, User
from tests.clients import ApiClient
from tests.exports import slack_messages, slack_room, slack_user, slack_zip
from tests.factories import ImportOperationFactory, ImportSliceFactory
from tests.journeys import EVERYTHING, adds_up, prepare

pytestmark = pytest.mark.django_db


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / "exports").mkdir()
    return slack_zip(
        tmp_path / "exports" / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": slack_messages(30)}},
    )


@pytest.fixture
def started(export: Path, alice: User) -> ImportOperation:
    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)
    return operation


@pytest.fixture
def full_disk(settings: Settings, started: ImportOperation) -> Iterator[Callable[[], None]]:
    """Our disk is nearly full since the import started; called, there is room again."""
    before = settings.IMPORTOPS
    settings.IMPORTOPS = replace(before, reserve_bytes=1 << 60)

    def make_room() -> None:
        settings.IMPORTOPS = before

    yield make_room


def first_slice(operation: ImportOperation) -> ImportSlice:
    return operation.slices.unfinished().get()


def fails_with(error: Exception) -> Step:
    def work(work: Work) -> None:
        raise error

    return Step(work, Phase.ROOMS)


def sqlite_error(statement: str) -> sqlite3.Error:
    try:
        with sqlite3.connect(":memory:") as database:
            database.execute("PRAGMA max_page_count = 1")
            database.execute(statement)
    except sqlite3.Error as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error", "/mnt/export.zip"),
        OSError(errno.ESTALE, "Stale file handle"),
        PermissionError(errno.EACCES, "Permission denied"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        sqlite_error("CREATE TABLE much (x)"),
        OperationalError("server closed the connection unexpectedly\n\tThis probably means"),
        MustWait("The moon is in the way. The import goes on by itself."),
    ],
    ids=str,
)
def test_what_passes_is_waited_for_with_a_sentence(error: Exception) -> None:
    reason = reason_to_wait(error)

    assert reason is not None
    assert reason[0].isupper() and reason.endswith("The import goes on by itself.")
    assert "\n" not in reason


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), OSError("no number"), KeyError("y"), sqlite_error("SELECT * FROM nothing")],
    ids=str,
)
def test_a_defect_is_not_waited_for(error: Exception) -> None:
    assert reason_to_wait(error) is None


def test_a_statement_that_is_wrong_is_a_defect_on_every_database(db: None) -> None:
    with pytest.raises(Exception) as caught, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM there_is_no_such_table")

    assert reason_to_wait(caught.value) is None


def test_a_slice_that_must_wait_is_given_back_and_says_why(
    started: ImportOperation, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setitem(STEPS, Phase.USERS, fails_with(error))
    run_slice(first_slice(started).pk)
    started.refresh_from_db()
    piece = first_slice(started)

    assert started.paused_because.startswith("The disk is full: No space left on device.")
    assert (piece.status, piece.stalled, piece.lease_until) == ("ready", 0, None)
    wait = (piece.look_again_at - timezone.now()).total_seconds()
    assert 0 < wait <= SHORTEST_WAIT
    assert report(started)["paused"] == started.paused_because


def test_however_often_it_waits_it_is_not_called_stalled(
    started: ImportOperation, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = STEPS[Phase.USERS]
    error = OSError(errno.EIO, "Input/output error")
    monkeypatch.setitem(STEPS, Phase.USERS, fails_with(error))
    for _ in range(MOST_STALLED_CLAIMS * 2):
        run_slice(first_slice(started).pk)
    monkeypatch.setitem(STEPS, Phase.USERS, step)
    ImportSlice.objects.update(look_again_at=timezone.now())
    run_operation(started)

    assert started.status == Status.DONE
    assert Message.objects.count() == 30
    assert adds_up(started)


def test_waits_grow_and_are_bounded(
    started: ImportOperation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STEPS, Phase.USERS, fails_with(OSError(errno.EIO, "I/O")))
    waits = []
    for paused_for in (0, 2, 10, 3600):
        ImportOperation.objects.update(updated_at=timezone.now() - timedelta(seconds=paused_for))
        run_slice(first_slice(started).pk)
        waits.append((first_slice(started).look_again_at - timezone.now()).total_seconds())

    assert waits == sorted(waits)
    assert waits[0] <= SHORTEST_WAIT and 9 < waits[2] < 11
    assert LONGEST_WAIT - 1 < waits[3] <= LONGEST_WAIT


def test_a_pause_of_a_slice_that_was_taken_over_says_nothing(
    started: ImportOperation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_over(work: Work) -> None:
        ImportSlice.objects.filter(pk=work.slice.pk).take_over()
        raise OSError(errno.EIO, "I/O")

    monkeypatch.setitem(STEPS, Phase.USERS, Step(taken_over, Phase.ROOMS))
    run_slice(first_slice(started).pk)
    started.refresh_from_db()

    assert started.paused_because == ""
    assert first_slice(started).attempt == 2


def test_a_nearly_full_disk_pauses_before_anything_is_written(
    started: ImportOperation, full_disk: Callable[[], None]
) -> None:
    run_slice(first_slice(started).pk)
    started.refresh_from_db()

    assert "is nearly full" in started.paused_because
    assert User.objects.filter(username="ann").count() == 0
    assert started.state == "importing"
    full_disk()
    run_operation(started)
    assert started.status == Status.DONE
    assert (started.paused_because, paused(started)) == ("", None)


def test_a_disk_that_fills_in_the_midst_of_a_slice_stops_it_between_two_batches(
    started: ImportOperation, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importops.engine.slices.DISK_EVERY", 0)
    piece = claim_slice(first_slice(started).pk)
    assert piece is not None
    work = Work(piece, stop=lambda: False, on_batch=lambda: None)
    with work.batch() as batch:
        batch.cursor = [1]
    settings.IMPORTOPS = replace(settings.IMPORTOPS, reserve_bytes=1 << 60)

    with pytest.raises(MustWait), work.batch() as batch:
        batch.cursor = [2]
    piece.refresh_from_db()
    assert piece.cursor == [1]


@pytest.mark.usefixtures("full_disk")
def test_undoing_goes_on_for_it_is_how_room_is_made(alice: User) -> None:
    operation = ImportOperationFactory.create(user=alice, phase=Phase.UNDO_MESSAGES)
    piece = ImportSliceFactory.create(operation=operation, phase=Phase.UNDO_MESSAGES)

    Work(piece, stop=lambda: False, on_batch=lambda: None).mind_the_disk()


@pytest.mark.usefixtures("full_disk")
def test_cancelling_works_while_it_waits(started: ImportOperation) -> None:
    run_slice(first_slice(started).pk)
    cancel_operation(started)

    assert started.status == Status.CANCELLED
    assert paused(started) is None


@pytest.mark.usefixtures("full_disk")
def test_a_foreground_run_that_waits_can_be_told_to_stop(started: ImportOperation) -> None:
    def cancel(operation: ImportOperation) -> None:
        if operation.paused_because and not operation.is_cancelling:
            cancel_operation(operation)

    run_operation(started, on_progress=cancel)
    assert started.status == Status.CANCELLED


def test_a_trouble_between_two_phases_is_waited_for_too(
    export: Path, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, seen = SlackImporter.spans, []

    def unreadable_once(self: SlackImporter) -> Iterator[object]:
        if not seen:
            seen.append(1)
            raise OSError(errno.EIO, "Input/output error")
        return spans(self)

    monkeypatch.setattr(SlackImporter, "spans", unreadable_once)
    reasons = []
    operation = create_operation_in_place(user=alice, importer_key="slack", path=export)
    run_operation(operation, on_progress=lambda operation: reasons.append(operation.paused_because))

    assert operation.status == Status.USER_SELECTION
    assert any("A disk cannot be read" in reason for reason in reasons)
    assert operation.paused_because == ""


def test_an_export_whose_folder_is_gone_is_waited_for(
    started: ImportOperation, export: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    shutil.move(export.parent, away)
    reasons: list[str] = []

    def mount_again(operation: ImportOperation) -> None:
        reasons.append(operation.paused_because)
        if operation.paused_because and away.exists():
            shutil.move(away, export.parent)

    run_operation(started, on_progress=mount_again)
    assert any(f"The folder {export.parent}" in reason for reason in reasons)
    assert started.status == Status.DONE
    assert Message.objects.count() == 30


@pytest.mark.usefixtures("full_disk")
def test_the_reason_is_told_by_every_door(
    started: ImportOperation, alice_client: ApiClient, alice: User
) -> None:
    run_slice(first_slice(started).pk)
    out = StringIO()
    call_command("import_status", stdout=out)

    assert "is nearly full" in out.getvalue()
    assert "is nearly full" in alice_client.get("import.report").json()["paused"]


@pytest.mark.sqlite
@pytest.mark.usefixtures("full_disk")
def test_a_reason_that_could_not_be_written_is_told_all_the_same(
    started: ImportOperation,
) -> None:
    assert started.paused_because == ""
    assert "is nearly full" in str(report(started)["paused"])
