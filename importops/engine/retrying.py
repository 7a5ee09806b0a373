"""Only what failed, again: after a limit was raised, a room made private, a disk mended.

    retry users     staged users that failed
    retry rooms     staged rooms that failed; one that goes in now brings its messages
    retry messages  the entries that hold failed records (`retrying_messages.py`)

What is tried again is marked when the retry starts (`ImportFailure.retrying`). The batch that settles a
record takes its failure away, and counts one failed less in the same transaction; if it fails again,
that is a failure anew. So the sums hold at every moment, and a retry may be stopped anywhere.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet, Sum
from django.db.models.functions import Length

from importops.engine.importing_rooms import (
    MEMBERS_AT_ONCE,
    ROOMS_AT_ONCE,
    RoomBatch,
    let_members_in,
    next_pieces,
)
from importops.engine.importing_users import USERS_AT_ONCE, UserBatch
from importops.engine.progress import KIND_OF_RECORD
from importops.engine.slices import Batch, Work
from importops.engine.stand_ins import UserDirectory
from importops.engine.writers import writer_for
from importops.models import ImportFailure, ImportOperation, Phase, StagedRecord
from importops.models.operations import ImportFailureQuerySet

Kind = ImportFailure.Kind
RETRIED_KINDS = (Kind.USER, Kind.ROOM, Kind.MESSAGE)


def failures_to_retry(operation: ImportOperation, kind: str = "") -> ImportFailureQuerySet:
    """Those of an import that another try may mend: all but users and rooms that preparing could not
    read, which need a better export."""
    failures = ImportFailure.objects.filter(
        operation=operation, stage=ImportFailure.Stage.IMPORTING
    )
    return failures.filter(kind=kind) if kind else failures.filter(kind__in=RETRIED_KINDS)


def being_retried(operation: ImportOperation, kind: str) -> ImportFailureQuerySet:
    return failures_to_retry(operation, kind).filter(retrying=True)


def take_back(failures: QuerySet[ImportFailure], batch: Batch, kind: str) -> int:
    """Forget `failures`, in the batch that counts what they are now, and count as many failed records
    less; how many."""
    kept = failures.aggregate(raw=Sum(Length("raw")))["raw"] or 0
    number, _ = failures.delete()
    batch.add("raw", -kept)
    batch.add(f"{KIND_OF_RECORD[kind]}.failed", -number)
    return number


def retry_users(work: Work) -> None:
    """Its cursor is the last staged record dealt with."""
    operation = work.operation
    failures = being_retried(operation, Kind.USER)
    last = work.cursor[0] if work.cursor else 0
    failed = StagedRecord.objects.users().filter(
        operation=operation,
        status=StagedRecord.Status.FAILED,
        import_id__in=failures.values("import_id"),
    )
    while staged := list(failed.filter(pk__gt=last).order_by("pk")[:USERS_AT_ONCE]):
        last = staged[-1].pk
        with work.batch() as batch:
            batch.cursor = [last]
            ids = [row.import_id for row in staged]
            take_back(failures.filter(import_id__in=ids), batch, Kind.USER)
            users = UserBatch(operation, staged, batch)
            users.decide()
            users.write()


def retry_rooms(work: Work) -> None:
    """Its cursor is the last staged room begun, how many of its members are in, and the staged rooms
    that went in."""
    operation = work.operation
    failures = being_retried(operation, Kind.ROOM)
    users = UserDirectory(operation)
    writer = writer_for(operation.pk)
    at, member, *mended = work.cursor or [0, 0]
    while staged := next_rooms(operation, failures, at, member):
        pieces = next_pieces(staged, member)
        let_members_in(work, users, pieces)
        with work.batch() as batch:
            rooms = RoomBatch(operation, users, writer, batch, pieces)
            settled = []
            for piece in pieces:
                rooms.take(piece)
                if piece.is_last or piece.row.status == StagedRecord.Status.FAILED:
                    settled.append(piece.row)
            last = pieces[-1]
            at = last.row.pk
            member = 0 if last.row in settled else last.first + MEMBERS_AT_ONCE
            mended += [row.pk for row in settled if row.status != StagedRecord.Status.FAILED]
            ids = [row.import_id for row in settled]
            take_back(failures.filter(import_id__in=ids), batch, Kind.ROOM)
            batch.cursor = [at, member, *mended]


def next_rooms(
    operation: ImportOperation, failures: ImportFailureQuerySet, at: int, member: int
) -> list[StagedRecord]:
    """Failed rooms after `at`; before them the one whose members are half in."""
    begun = [StagedRecord.objects.get(pk=at)] if member else []
    failed = StagedRecord.objects.rooms().filter(
        operation=operation,
        status=StagedRecord.Status.FAILED,
        import_id__in=failures.values("import_id"),
        pk__gt=at,
    )
    return [*begun, *failed.order_by("pk")[:ROOMS_AT_ONCE]]


def mended_rooms(operation: ImportOperation) -> list[int]:
    """Staged rooms that went in with this retry."""
    piece: Any = operation.slices.filter(phase=Phase.RETRY_ROOMS).order_by("number").last()
    return [] if piece is None or piece.cursor is None else piece.cursor[2:]


def end_retry(operation: ImportOperation) -> None:
    """What was not met again stays a failure like any other."""
    ImportFailure.objects.filter(operation=operation, retrying=True).update(retrying=False)
