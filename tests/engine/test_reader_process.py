"""Messages read by a second process: the same as without it, and it never outlives its slice."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from importops.actions.operations import cancel_operation, resume_operation, start_operation
from importops.engine.importing_messages import is_read_apart
from importops.engine.progress import counts
from importops.engine.reader_process import ReaderProcess
from importops.engine.reading import DateRange, ReadBatch, Reading, read_rows
from importops.engine.running import run_operation, run_slice
from importops.engine.slices import Work, claim_slice
from importops.errors import (
    NotAnArchive,
    OperationStopped,
    ReaderDied,
    SliceLost,
    SourceChanged,
    WorkerStopping,
)
from importops.importers.registry import importer_class
from importops.limits import Limits
from importops.models import (
    ImportFailure,
    ImportOperation,
    ImportSlice,
    Phase,
    Status,
    User,
)
from tests.benchmarks.generate import build
from tests.canonical import canonical_dump
from tests.exports import (
    slack_file,
    slack_message,
    slack_messages,
    slack_room,
    slack_user,
    slack_zip,
)
from tests.journeys import EVERYTHING, adds_up, prepare, without_times

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
IN_PROCESS, APART = 2**40, 1
MORE_ROOMS = ["red", "green", "blue"]


def odd_export(path: Path) -> Path:
    """Bots, strangers, files, edits, broken records and a broken file."""
    messages = slack_messages(120)
    messages[7] = slack_message("no time", ts="never")
    messages[9] = slack_message("hi <@U2> and <@U9>", ts="1704189700.000001", user="U9")
    messages[11] = slack_message(
        "beep \ud800", ts="1704189701.000001", user=None, bot_id="B1", username="Robot"
    )
    messages[13] = slack_message(
        "a\tb\\c\u2028",
        ts="1704189702.000001",
        files=[slack_file("F1"), slack_file("F2", url_private="", url_private_download="")],
    )
    messages[15] = slack_message(
        "old",
        ts="1704189703.000001",
        edited={"user": "U2", "ts": "1704189999.000001"},
        reactions=[{"name": "tada", "users": ["U1", "U2", "U77"]}],
        thread_ts="1704189600.000100",
    )
    messages[17] = slack_message("left out", ts="1704189704.000001", subtype="bot_add")
    return slack_zip(
        path,
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[
            slack_room("C1", "general", ["U1", "U2"]),
            slack_room("C2", "random", ["U1"]),
            *(slack_room(f"C-{name}", name, ["U2"]) for name in MORE_ROOMS),
        ],
        messages={
            "general": {"2024-01-02": messages, "2024-01-03": b'[{"type": "message", "ts'},
            "random": {"2024-01-02": slack_messages(40, user="U9")},
            **{name: {"2024-01-02": slack_messages(25)} for name in MORE_ROOMS},
        },
    )


def children() -> list[int]:
    """Processes that this one started and has not waited for."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


@contextmanager
def watched(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def ends(handle: int) -> bool:
    """Whether the process ends within a long time."""
    return bool(select.select([handle], [], [], 20)[0])


@pytest.fixture
def small_batches(settings: Settings) -> Settings:
    settings.IMPORTOPS = replace(
        settings.IMPORTOPS, batch_rows=20, reader_process_bytes=APART, refresh_seconds=0.001
    )
    return settings


def limit(settings: Settings, reader_process_bytes: int) -> None:
    settings.IMPORTOPS = replace(settings.IMPORTOPS, reader_process_bytes=reader_process_bytes)


def what_came_of(operation: ImportOperation) -> tuple[Any, ...]:
    failures = ImportFailure.objects.of(operation).order_by("place", "stage")
    tally = without_times(operation.tally)
    return (
        canonical_dump(),
        counts(operation),
        tally,
        list(failures.values_list("stage", "kind", "place", "code", "message", "raw")),
    )


def started(export: Path, user: User) -> ImportOperation:
    operation = prepare(export, user)
    start_operation(operation, EVERYTHING, user, queue=False)
    return operation


class Undone(Exception):
    pass


# What is read.


@pytest.mark.django_db(transaction=True)
def test_an_import_that_reads_apart_ends_like_one_that_does_not(
    tmp_path: Path, alice: User, small_batches: Settings
) -> None:
    export = odd_export(tmp_path / "export.zip")
    limit(small_batches, IN_PROCESS)
    operation = started(export, alice)
    run_operation(operation)
    expected = what_came_of(operation)
    assert operation.status == Status.DONE and adds_up(operation)
    assert ImportFailure.objects.of(operation).count() >= 2
    forget_everything()

    limit(small_batches, APART)
    operation = started(export, alice)
    seen: set[int] = set()
    run_operation_watching(operation, seen)
    assert seen, "no second process was started"
    assert what_came_of(operation) == expected
    assert not children()


def forget_everything() -> None:
    for model in (
        "File",
        "Message",
        "Membership",
        "RoomImportId",
        "Room",
        "UserEmail",
        "UserImportId",
    ):
        getattr(__import__("importops.models", fromlist=[model]), model).objects.all().delete()
    User.objects.exclude(operation=None).delete()


def run_operation_watching(operation: ImportOperation, seen: set[int]) -> None:
    run_operation(operation, on_progress=lambda _: seen.update(children()))


def job(export: Path, index: Path, **changes: Any) -> tuple[Any, ...]:
    """A reading of the whole export, with keys of users and rooms as they happen to be."""
    with (
        export.open("rb") as file,
        closing(importer_class("slack").open(file, index, Limits())) as source,
    ):
        (span,) = source.spans()
    values: dict[str, Any] = {
        "operation_id": 7,
        "span": span,
        "cursor": span.start,
        "batch_rows": 20,
        "wanted": DateRange(None, None),
        "usernames": {"U1": "ann", "U2": "ben", "U9": "nina"},
        "user_keys": {"U1": 11, "U2": 12, "rocket.cat": 1},
        "room_names": {"C1": "general", "C2": "random"},
        "room_keys": {"C1": 21, "C2": 22} | {f"C-{name}": 30 for name in MORE_ROOMS},
        "folders": {"general": "C1", "random": "C2"} | {name: f"C-{name}" for name in MORE_ROOMS},
    }
    return ("slack", export, index, Limits(), Reading(**values | changes))


def read_here(job: tuple[Any, ...]) -> list[ReadBatch]:
    key, export, index, limits, reading = job
    with (
        export.open("rb") as file,
        closing(importer_class(key).open(file, index, limits)) as source,
    ):
        return list(read_rows(source, reading))


def read_apart(job: tuple[Any, ...]) -> list[ReadBatch]:
    with ReaderProcess() as reader:
        return list(reader.read(*job))


def test_from_every_cursor_it_reads_the_same(tmp_path: Path) -> None:
    export, index = odd_export(tmp_path / "export.zip"), tmp_path / "index"
    whole = read_here(job(export, index))
    assert len(whole) > 2 and any(batch.strangers for batch in whole)

    assert read_apart(job(export, index)) == whole
    for number, batch in enumerate(whole, 1):
        rest = read_apart(job(export, index, cursor=batch.cursor))
        assert rest == read_here(job(export, index, cursor=batch.cursor))
        assert sum((b.messages for b in rest), []) == sum((b.messages for b in whole[number:]), [])


def test_dates_and_failed_rooms_are_left_out_there_too(tmp_path: Path) -> None:
    export, index = odd_export(tmp_path / "export.zip"), tmp_path / "index"
    some = job(export, index, room_keys={"C1": 21}, wanted=DateRange(1_704_189_650_000_000, None))

    assert read_apart(some) == read_here(some)
    reasons = {key for batch in read_apart(some) for key in batch.tally}
    assert {"messages.skipped.room-failed", "messages.skipped.outside-dates"} <= reasons


def test_it_loads_no_django() -> None:
    code = (
        "import sys, importops.engine.reader_process\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'django'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


# What goes wrong.


def test_what_opening_raises_is_raised_here(tmp_path: Path) -> None:
    export, index = odd_export(tmp_path / "export.zip"), tmp_path / "index"
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no archive at all")
    some = job(export, index)

    with pytest.raises(NotAnArchive):
        read_apart(("slack", broken, tmp_path / "other", *some[3:]))
    other = slack_zip(tmp_path / "other.zip", users=[slack_user("U1", "ann")])
    with pytest.raises(SourceChanged):
        read_apart(("slack", other, *some[2:]))


def test_an_error_of_ours_in_it_is_told_with_its_traceback(tmp_path: Path) -> None:
    export, index = odd_export(tmp_path / "export.zip"), tmp_path / "index"

    with pytest.raises(ReaderDied, match="(?s)ValueError.*Traceback"):
        read_apart(job(export, index, cursor=[1, 2, 3]))


def test_a_reader_that_is_killed_is_an_error_and_no_end(tmp_path: Path) -> None:
    export, index = odd_export(tmp_path / "export.zip"), tmp_path / "index"
    with ReaderProcess() as reader, watched(reader.pid) as handle:
        os.kill(reader.pid, signal.SIGKILL)
        assert ends(handle)
        with pytest.raises(ReaderDied, match="signal 9"):
            list(reader.read(*job(export, index)))


@pytest.mark.parametrize("users", [3, 50_000], ids=["small job", "job wider than the pipe"])
def test_a_reader_that_falls_silent_is_given_up(tmp_path: Path, users: int) -> None:
    export, index = odd_export(tmp_path / "export.zip"), tmp_path / "index"
    names = {f"U{number}": f"user{number}" for number in range(users)}
    with ReaderProcess(patience=0.3) as reader, watched(reader.pid) as handle:
        os.kill(reader.pid, signal.SIGSTOP)
        with pytest.raises(ReaderDied, match="silent"):
            list(reader.read(*job(export, index, usernames=names)))
        assert ends(handle)


def test_a_stop_is_heard_while_the_reader_is_silent(tmp_path: Path) -> None:
    def stop() -> None:
        raise WorkerStopping

    export, index = odd_export(tmp_path / "export.zip"), tmp_path / "index"
    with ReaderProcess(while_silent=stop) as reader:
        os.kill(reader.pid, signal.SIGSTOP)
        with pytest.raises(WorkerStopping):
            list(reader.read(*job(export, index)))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["stop", "cancel", "lost"])
def test_work_without_batches_heeds_what_ends_it(
    tmp_path: Path, alice: User, small_batches: Settings, how: str
) -> None:
    operation = started(odd_export(tmp_path / "export.zip"), alice)
    piece = claim_slice(operation.slices.unfinished().first().pk)
    assert piece
    work = Work(piece, stop=lambda: how == "stop" and not quiet, on_batch=lambda: None)
    quiet = True
    work.heed()
    quiet = False
    if how == "cancel":
        cancel_operation(operation)
    elif how == "lost":
        resume_operation(operation, queue=False)
    with pytest.raises(
        {"stop": WorkerStopping, "cancel": OperationStopped, "lost": SliceLost}[how]
    ):
        work.heed()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_reader_lost_in_the_middle_costs_a_try_and_nothing_else(
    tmp_path: Path, alice: User, small_batches: Settings, number: signal.Signals
) -> None:
    # One that is stopped is given up when a lease is over.
    small_batches.IMPORTOPS = replace(small_batches.IMPORTOPS, lease_seconds=1)
    export = tmp_path / "export.zip"
    build(export, messages=3000, seed=5, users=60)
    limit(small_batches, IN_PROCESS)
    operation = started(export, alice)
    run_operation(operation)
    expected = what_came_of(operation)
    forget_everything()

    limit(small_batches, APART)
    operation = started(export, alice)
    killed: list[int] = []
    calls = count(1)

    def strike(_: ImportOperation) -> None:
        if next(calls) % 8 == 0:
            for pid in children():
                killed.append(pid)
                os.kill(pid, number)

    run_operation(operation, on_progress=strike)
    assert killed
    assert operation.status == Status.DONE
    assert what_came_of(operation) == expected
    assert not children()


@pytest.mark.django_db
def test_a_second_try_at_one_place_reads_without_it(
    tmp_path: Path, alice: User, small_batches: Settings
) -> None:
    operation = started(odd_export(tmp_path / "export.zip"), alice)
    piece = ImportSlice(operation=operation, phase=Phase.MESSAGES, weight=10, stalled=1)

    assert is_read_apart(piece)
    piece.stalled = 2
    assert not is_read_apart(piece)
    limit(small_batches, 11)
    piece.stalled = 1
    assert not is_read_apart(piece)


# How it ends.


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["stop", "cancel", "lost", "error"])
def test_it_is_gone_when_its_slice_ends_early(
    tmp_path: Path, alice: User, small_batches: Settings, how: str
) -> None:
    export = tmp_path / "export.zip"
    build(export, messages=3000, seed=5, users=60)
    operation = started(export, alice)
    while operation.phase != Phase.MESSAGES:
        piece = operation.slices.filter(phase=operation.phase).unfinished().get()
        run_slice(piece.pk)
        operation.refresh_from_db()
    piece = operation.slices.get(phase=Phase.MESSAGES)
    seen: list[int] = []

    def after_a_batch() -> None:
        seen.extend(children())
        if how == "cancel":
            cancel_operation(operation)
        elif how == "lost":
            resume_operation(operation, queue=False)
        elif how == "error":
            raise Undone

    if how == "stop":
        with pytest.raises(WorkerStopping):
            run_slice(piece.pk, stop=lambda: bool(seen), on_batch=after_a_batch)
    else:
        run_slice(piece.pk, on_batch=after_a_batch)

    assert seen
    assert not children()
    assert not Path(f"/proc/{seen[0]}").exists()


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from importops.engine.reader_process import ReaderProcess\n"
        "import signal\n"
        "print(ReaderProcess().pid, flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        with watched(int(parent.stdout.readline())) as handle:
            parent.kill()
            assert ends(handle)
