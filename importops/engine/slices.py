"""Slices: taking one, committing batches under its fence, giving it back, going on to the next phase.

Any number of workers may try to do the same thing at the same time, be killed at any point, or wake
up after they were given up for dead. What keeps the work exact is that each of these is one
conditional UPDATE, and that a batch's rows and its checkpoint are one transaction:

- *claim*: READY, or RUNNING with a lease that ran out, becomes RUNNING with `attempt` + 1.
- *fence*: a batch commits only while `attempt` is still its own and the operation is still active.
- *advance*: when no slice of the phase is unfinished, one UPDATE moves the operation on, and its
  winner inserts the slices of the next phase.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Case, F, Max, When
from django.db.models.functions import Greatest
from django.utils import timezone

from importops.conf import conf
from importops.engine.fairness import Turns
from importops.engine.outside import mend_connection, mind_the_disk, reason_to_wait, remind
from importops.engine.progress import KIND_OF_RECORD, Tally, refresh_totals
from importops.engine.timing import timing_of
from importops.errors import (
    ImportopsError,
    OperationStopped,
    SliceLost,
    WorkerStopping,
)
from importops.models import (
    ImportFailure,
    ImportOperation,
    ImportSlice,
    Phase,
    Status,
)
from importops.models.operations import (
    ENDED,
    IMPORTING,
    LETTING_GO,
    LOADING,
    STATUS_OF_PHASE,
    UNDOING,
)
from importops.records import NAME_LIMIT, BadRecord, Cursor, repair_text, short_place

logger = structlog.stdlib.get_logger(__name__)

MOST_STALLED_CLAIMS = 5
DISK_EVERY = 1.0
"""Seconds between two looks at how much room the disk has."""
QUEUE_GRACE = timedelta(seconds=20)
"""How long the sweeper leaves a slice alone that was just put on the queue."""

_CHECKPOINT = """
    UPDATE importops_importslice SET "cursor" = %s, tally = %s, lease_until = %s, stalled = 0
    WHERE id = %s AND attempt = %s AND status = 'running' AND EXISTS (
        SELECT 1 FROM importops_importoperation o
        WHERE o.id = importops_importslice.operation_id AND o.valid
            AND o.cancel_requested_at IS NULL AND o.finished_at IS NULL
            AND o.phase = importops_importslice.phase
    )
"""


@dataclass
class Batch:
    """What one transaction adds to its slice besides rows; filled in while it is open."""

    cursor: list[Any] | None = None
    tally: Tally = field(default_factory=Tally)
    failures: list[BadRecord] = field(default_factory=list)

    def add(self, key: str, number: int = 1) -> None:
        if number:
            self.tally[key] += number

    def fail(self, failure: BadRecord) -> None:
        """Keep `failure` and count it."""
        self.failures.append(failure)
        self.add(f"{KIND_OF_RECORD[failure.kind]}.failed")


class Work:
    """A slice that this process has claimed. `cursor` and `tally` are as last committed."""

    def __init__(
        self,
        piece: ImportSlice,
        *,
        stop: Callable[[], bool],
        on_batch: Callable[[], None],
    ) -> None:
        self.slice = piece
        self.operation = piece.operation
        self.cursor: list[Any] | None = piece.cursor
        self.tally: Tally = Tally(piece.tally)
        self.made: list[int] = []
        """Slices of the same phase that this one has made, to be queued when it is done."""
        self._stop = stop
        self._on_batch = on_batch
        self._refreshed_at = 0.0
        self._last_commit = 0.0
        self._disk_seen_at = 0.0
        self._turns = Turns()

    @property
    def stage(self) -> ImportFailure.Stage:
        if self.slice.phase == Phase.PREVIEWING:
            return ImportFailure.Stage.PREVIEW
        if self.operation.has_started:
            return ImportFailure.Stage.IMPORTING
        return ImportFailure.Stage.PREPARING

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """One transaction: the rows written inside, then failures and checkpoint, or nothing at all.

        Raises `SliceLost` or `OperationStopped` when the fence has fallen (nothing is committed),
        `WorkerStopping` after a committed batch when this process has been asked to stop,
        `MustWait` before anything is written when the disk is nearly full.
        """
        self.mind_the_disk()
        self._turns.wait()
        batch = Batch()
        began = monotonic()
        with transaction.atomic():
            self._turns.taken()
            if connection.vendor == "postgresql" and self.slice.phase not in LETTING_GO:
                self._hurry()
            yield batch
            self._keep(batch)
            cursor = batch.cursor if batch.cursor is not None else self.cursor
            worked = monotonic()
            # A commit can only be counted with the batch after it.
            batch.tally.update(timing_of(worked - began + self._last_commit))
            tally = Counter(self.tally)
            tally.update(batch.tally)  # not `+`, which drops what is below zero
            if self.slice.takeovers:
                tally["takeovers"] = self.slice.takeovers
            self._checkpoint(cursor, tally)
        self._turns.given_back()
        self.cursor, self.tally = cursor, tally
        self._last_commit = monotonic() - worked
        self._tell()
        if self._stop():
            raise WorkerStopping

    def mind_the_disk(self) -> None:
        """Raise `MustWait` while our disk is nearly full; undoing goes on, it is how one makes room."""
        if self.slice.phase in UNDOING or monotonic() - self._disk_seen_at < DISK_EVERY:
            return
        mind_the_disk()
        self._disk_seen_at = monotonic()

    def heed(self) -> None:
        """While no batch comes: raise what would end the next one. The lease is not renewed."""
        if self._stop():
            raise WorkerStopping
        ours = ImportSlice.objects.filter(pk=self.slice.pk, attempt=self.slice.attempt)
        if not ours.of_active_operations().exists():
            raise self._why_fenced()

    def _tell(self) -> None:
        if monotonic() - self._refreshed_at >= conf().refresh_seconds:
            refresh_totals(self.operation.pk)
            self._refreshed_at = monotonic()
        self._on_batch()

    def _hurry(self) -> None:
        # No waiting for the disk after each batch. A server that crashes forgets its last commits,
        # but a batch together with its cursor, and none before an older one: they are done again.
        # What ends a slice waits for the disk, and so for all before it.
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")

    def _checkpoint(self, cursor: list[Any] | None, tally: Tally) -> None:
        lease = timezone.now() + timedelta(seconds=conf().lease_seconds)
        with connection.cursor() as sql:
            sql.execute(
                _CHECKPOINT,
                [
                    None if cursor is None else json.dumps(cursor),
                    json.dumps(dict(tally)),
                    connection.ops.adapt_datetimefield_value(lease),
                    self.slice.pk,
                    self.slice.attempt,
                ],
            )
            if sql.rowcount != 1:
                raise self._why_fenced()

    def _why_fenced(self) -> ImportopsError:
        piece = ImportSlice.objects.filter(pk=self.slice.pk).first()
        if piece is None or piece.attempt != self.slice.attempt:
            return SliceLost()
        return OperationStopped()

    def _keep(self, batch: Batch) -> None:
        if not batch.failures:
            return
        room_for_raw = conf().raw_failures_bytes - self._raw_kept()
        rows = []
        for failure in batch.failures:
            raw = repair_text(failure.raw)[: conf().raw_failure_bytes]
            room_for_raw -= len(raw)
            rows.append(
                ImportFailure(
                    operation_id=self.operation.pk,
                    stage=self.stage,
                    kind=failure.kind,
                    import_id=repair_text(failure.import_id)[:NAME_LIMIT],
                    place=short_place(repair_text(failure.place)),
                    code=failure.code[:64],
                    message=repair_text(failure.message)[:2000],
                    retryable=failure.retryable,
                    raw=raw if room_for_raw > 0 else "",
                )
            )
        ImportFailure.objects.bulk_create(rows, ignore_conflicts=True)
        batch.add("raw", sum(len(row.raw) for row in rows))

    def _raw_kept(self) -> int:
        totals = ImportOperation.objects.values_list("tally", flat=True)
        return int(totals.get(pk=self.operation.pk).get("raw", 0))

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Renew the lease from a thread while a long step without batches runs (reading a directory)."""
        over = threading.Event()

        def renew() -> None:
            try:
                while not over.wait(conf().lease_seconds / 4):
                    try:
                        extend_lease(self.slice)
                        self._on_batch()
                    except Exception as error:
                        # The next turn tries again; a lease that ran out costs a second reading.
                        if (reason := reason_to_wait(error)) is None:
                            raise
                        remind("a lease could not be renewed", reason)
                        mend_connection()
            finally:
                connection.close()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def extend_lease(piece: ImportSlice) -> None:
    ImportSlice.objects.filter(
        pk=piece.pk, attempt=piece.attempt, status=ImportSlice.Status.RUNNING
    ).update(lease_until=timezone.now() + timedelta(seconds=conf().lease_seconds))


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def claim_slice(slice_id: int) -> ImportSlice | None:
    """Take a slice that nobody has; None when somebody has it, it is done, or its time is over."""
    now = timezone.now()
    with transaction.atomic():
        before = ImportSlice.objects.filter(pk=slice_id).values_list("takeovers", "worker").first()
        claimed = (
            ImportSlice.objects.claimable(now)
            .of_active_operations()
            .filter(pk=slice_id)
            .update(
                status=ImportSlice.Status.RUNNING,
                attempt=F("attempt") + 1,
                stalled=F("stalled") + 1,
                takeovers=F("takeovers") + Case(When(status="running", then=1), default=0),
                lease_until=now + timedelta(seconds=conf().lease_seconds),
                worker=worker_name(),
            )
        )
        if not claimed:
            return None
        piece = ImportSlice.objects.select_related("operation__user").get(pk=slice_id)
    # After the commit: who resumes an operation takes its row first and its slices then.
    enter_phase(piece.operation, Phase(piece.phase))
    if before is not None and piece.takeovers > before[0]:
        logger.warning(
            "slice taken over",
            operation=piece.operation.public_id,
            slice=piece.pk,
            phase=piece.phase,
            attempt=piece.attempt,
            worker=piece.worker,
            silent_worker=before[1],
        )
    return piece


def enter_phase(operation: ImportOperation, phase: Phase) -> None:
    """Show on the wire that work on `phase` has begun."""
    status = STATUS_OF_PHASE[phase]
    if operation.status == status:
        return
    expected = IMPORTING if status in IMPORTING else LOADING
    if ImportOperation.objects.filter(pk=operation.pk).move(
        tuple(Status(state) for state in expected), status=status
    ):
        operation.status = status


def finish_slice(work: Work) -> None:
    """Mark the slice done, if it is still ours."""
    ImportSlice.objects.filter(
        pk=work.slice.pk,
        attempt=work.slice.attempt,
        status=ImportSlice.Status.RUNNING,
    ).update(status=ImportSlice.Status.DONE, finished_at=timezone.now(), lease_until=None)


def release_slice(
    piece: ImportSlice, *, wait: float = 0, keep_stalled: bool = False, forgive: bool = False
) -> bool:
    """Give the slice back; others may have it after `wait` seconds. False: it was not ours any more.

    `keep_stalled`: it may be the slice's own fault. `forgive`: it was not, this claim does not count.
    """
    changes: dict[str, Any] = {} if keep_stalled else {"stalled": 0}
    if forgive:
        changes = {"stalled": Greatest(F("stalled") - 1, 0)}
    return bool(
        ImportSlice.objects.filter(
            pk=piece.pk, attempt=piece.attempt, status=ImportSlice.Status.RUNNING
        ).update(
            status=ImportSlice.Status.READY,
            lease_until=None,
            look_again_at=timezone.now() + timedelta(seconds=wait),
            **changes,
        )
    )


def create_slices(
    operation_id: int, phase: Phase, spans: Sequence[tuple[Cursor, int, int]]
) -> list[int]:
    """Insert the slices of `phase`, (start, stop, weight) each; their ids in order."""
    first = (
        ImportSlice.objects.filter(operation=operation_id, phase=phase).aggregate(
            last=Max("number")
        )["last"]
        or 0
    )
    later = timezone.now() + QUEUE_GRACE
    made = ImportSlice.objects.bulk_create(
        [
            ImportSlice(
                operation_id=operation_id,
                phase=phase,
                number=number,
                start=start,
                stop=stop,
                weight=weight,
                look_again_at=later,
            )
            for number, (start, stop, weight) in enumerate(spans, first + 1)
        ],
        batch_size=500,
    )
    return [piece.pk for piece in made]


def leave_phase(operation_id: int, phase: Phase, following: Phase) -> bool:
    """Move on when nothing of `phase` is left to do; True for the one caller that did it."""
    unfinished = ImportSlice.objects.filter(operation=operation_id, phase=phase).unfinished()
    return bool(
        ImportOperation.objects.active()
        .filter(pk=operation_id, phase=phase)
        .exclude(pk__in=unfinished.values("operation"))
        .update(phase=following)
    )


def settle_stopped(operation_id: int) -> bool:
    """Make an operation that was asked to stop `cancelled`, once nobody works on it any more.

    Whoever held a slice past its lease is fenced off first: what it has not committed by now it never
    will, so that nothing is written to an operation after it was called cancelled.
    """
    stopping = (
        ImportOperation.objects.filter(pk=operation_id)
        .exclude(cancel_requested_at=None)
        .exclude(status__in=ENDED)
    )
    if not stopping.exists():
        return False
    now = timezone.now()
    slices = ImportSlice.objects.filter(operation=operation_id)
    slices.abandoned(now).take_over()
    held = slices.held(now)
    done = stopping.exclude(pk__in=held.values("operation")).update(
        status=Status.CANCELLED, finished_at=now, updated_at=now
    )
    if done:
        refresh_totals(operation_id, force=True)
        logger.info("operation cancelled", operation=public_id_of(operation_id))
    return bool(done)


def fail_operation(operation_id: int, error: ImportopsError) -> None:
    """End an operation that cannot go on, with a sentence for a person."""
    now = timezone.now()
    failed = (
        ImportOperation.objects.filter(pk=operation_id)
        .exclude(status__in=ENDED)
        .update(
            status=Status.FAILED,
            error=error.message,
            error_code=error.code,
            finished_at=now,
            updated_at=now,
        )
    )
    refresh_totals(operation_id, force=True)
    if failed:
        logger.error(
            "operation failed",
            operation=public_id_of(operation_id),
            code=error.code,
            error=error.message,
        )


def public_id_of(operation_id: int) -> str:
    return ImportOperation.objects.values_list("public_id", flat=True).get(pk=operation_id)
