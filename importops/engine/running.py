"""One slice from claim to finish, and the way from phase to phase.

Who calls this, in which process and how often, is the caller's affair: a queue's worker, a command in
the foreground, a test.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import structlog
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from importops.conf import conf
from importops.engine.importing_messages import import_messages
from importops.engine.importing_rooms import import_rooms
from importops.engine.importing_users import import_users
from importops.engine.merging import close_merge, merge_messages
from importops.engine.outside import growing, mend_connection, nap, reason_to_wait, remind
from importops.engine.pausing import LONGEST_WAIT, pause, show_pause
from importops.engine.preparing import (
    count_messages,
    end_preparing,
    list_workspace,
    plan_counting,
)
from importops.engine.previewing import end_preview, fail_preview, preview
from importops.engine.progress import counts, refresh_totals
from importops.engine.retrying import end_retry, retry_rooms, retry_users
from importops.engine.retrying_messages import plan_retry, retry_messages
from importops.engine.slices import (
    MOST_STALLED_CLAIMS,
    Work,
    claim_slice,
    create_slices,
    fail_operation,
    finish_slice,
    leave_phase,
    release_slice,
    settle_stopped,
)
from importops.engine.sources import local_path
from importops.engine.undoing import undo_messages, undo_rooms
from importops.engine.undoing_users import undo_users
from importops.errors import (
    FileMissing,
    ImportopsError,
    MustWait,
    NotEnoughSpace,
    OperationStopped,
    SliceLost,
    SourceChanged,
    SourceError,
    WorkerStopping,
)
from importops.logs import own_context
from importops.models import ImportOperation, ImportSlice, Phase, Status
from importops.models.operations import MERGE_USERS, ROLLBACK
from importops.records import Cursor

logger = structlog.stdlib.get_logger(__name__)

WAIT_FOR_OTHERS = 0.2
RETRY_AFTER = 0.5
WAIT_FOR_OUTSIDE = 5.0
READING = (Phase.LISTING, Phase.COUNTING, Phase.MESSAGES, Phase.PREVIEWING, Phase.RETRY_MESSAGES)
"""Phases that need the export itself."""

ONE_SLICE: list[tuple[Cursor, int, int]] = [([], 0, 0)]


def finish(work: Work) -> None:
    """What the sums say is checked in `end_importing`; only a merge has something left to write."""
    if work.operation.importer_key == MERGE_USERS:
        close_merge(work)


class Step(NamedTuple):
    work: Callable[[Work], None]
    following: Phase


STEPS: dict[Phase, Step] = {
    Phase.LISTING: Step(list_workspace, Phase.COUNTING),
    Phase.COUNTING: Step(count_messages, Phase.NONE),
    Phase.USERS: Step(import_users, Phase.ROOMS),
    Phase.ROOMS: Step(import_rooms, Phase.MESSAGES),
    Phase.MESSAGES: Step(import_messages, Phase.FINISHING),
    Phase.UNDO_MESSAGES: Step(undo_messages, Phase.UNDO_ROOMS),
    Phase.UNDO_ROOMS: Step(undo_rooms, Phase.UNDO_USERS),
    Phase.UNDO_USERS: Step(undo_users, Phase.FINISHING),
    Phase.MERGING: Step(merge_messages, Phase.FINISHING),
    Phase.FINISHING: Step(finish, Phase.NONE),
    Phase.PREVIEWING: Step(preview, Phase.NONE),
    Phase.RETRY_USERS: Step(retry_users, Phase.RETRY_ROOMS),
    Phase.RETRY_ROOMS: Step(retry_rooms, Phase.RETRY_MESSAGES),
    Phase.RETRY_MESSAGES: Step(retry_messages, Phase.FINISHING),
}


class StalledSlice(ImportopsError):
    """The import stopped several times at the same place without getting any further."""

    code = "error-import-stalled"


class BetweenPhases(ImportopsError):
    """The import could not go on to its next phase; the worker's log tells why. Resume it to try again."""

    code = "error-import-between-phases"


@own_context()
def run_slice(
    slice_id: int,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[], None] = lambda: None,
    on_wait: Callable[[str], None] = lambda reason: None,
) -> list[int]:
    """Work on one slice until it is done, lost or stopped; ids of slices that now wait to be run.

    Does nothing when somebody else has the slice. What the export holds never raises from here: it
    fails the operation with a sentence. A trouble from outside (`outside.py`) in the midst of the work
    pauses it, with `on_wait` told why while the database is away; one before or after is raised, and
    the slice taken up again by the sweeper, or when its lease has run out: so `MustWait` when the
    export is on another machine.
    """
    require_source(slice_id)
    piece = claim_slice(slice_id)
    if piece is None:
        return []
    structlog.contextvars.bind_contextvars(
        operation=piece.operation.public_id,
        slice=piece.pk,
        phase=piece.phase,
        attempt=piece.attempt,
        worker=piece.worker,
    )
    work = Work(piece, stop=stop, on_batch=on_batch)
    spare_the_collector()
    try:
        if piece.stalled > MOST_STALLED_CLAIMS:
            raise StalledSlice(
                f"The import stopped {MOST_STALLED_CLAIMS} times at the same place "
                f"({piece.get_phase_display()}, part {piece.number}) without getting any "
                "further; the worker's log tells why. Resume it when the cause is gone."
            )
        work.mind_the_disk()
        if piece.phase == Phase.LISTING:
            check_space(piece.operation)
        STEPS[Phase(piece.phase)].work(work)
        finish_slice(work)
    except SliceLost:
        return []
    except OperationStopped:
        release_slice(piece)
        settle_stopped(piece.operation_id)
        return []
    except WorkerStopping:
        release_slice(piece)
        raise
    except (SourceError, FileMissing, SourceChanged, NotEnoughSpace, StalledSlice) as error:
        give_up(piece, error)
        return []
    except Exception as error:
        if (reason := reason_to_wait(error)) is not None:
            pause(piece, reason, stop=stop, on_wait=on_wait)
            return []
        # A defect of ours must not leave an operation stuck: it is tried again a few times, then
        # fails with a sentence (`StalledSlice`), and the log has the traceback.
        logger.exception("slice failed")
        release_later(piece)
        return []
    return [*work.made, *advance(piece.operation_id)]


def require_source(slice_id: int) -> None:
    """Raise `MustWait`, before the slice is taken, when its work needs a file of another machine."""
    operation = ImportOperation.objects.filter(slices=slice_id).first()
    if operation is not None and operation.archive_path and operation.phase in READING:
        try:
            local_path(operation)
        except FileMissing:
            return  # which fails it, once the slice is ours
        except MustWait as error:
            # While another machine is at it, nothing waits.
            if not operation.slices.held(timezone.now()).exists():
                show_pause(operation.pk, error.message)
            raise


@cache
def spare_the_collector() -> None:
    """Once a process: what is in memory now is Django and ourselves, and stays. Without this the
    garbage collector walks all of it every few batches (a twentieth of an import's time)."""
    gc.collect()
    gc.freeze()


def give_up(piece: ImportSlice, error: ImportopsError) -> None:
    """Fail the operation, unless somebody else has the slice by now and may fare better."""
    if not release_slice(piece):
        return
    end_badly(piece.operation_id, Phase(piece.phase), error)


def end_badly(operation_id: int, phase: Phase, error: ImportopsError) -> None:
    """Fail the operation, or, as nothing is lost with it, no more than its dry run."""
    if phase == Phase.PREVIEWING:
        fail_preview(operation_id, error)
    else:
        fail_operation(operation_id, error)


def release_later(piece: ImportSlice) -> None:
    """Give the slice back for another try, later each time."""
    try:
        release_slice(piece, wait=RETRY_AFTER * 2**piece.stalled, keep_stalled=True)
    except Exception as error:
        if reason_to_wait(error) is None:
            raise
        logger.warning("the database is away; the lease of %s will run out", piece)


def check_space(operation: ImportOperation) -> None:
    """Raise `NotEnoughSpace` when the import would likely fill the disk half-way."""
    needed = conf().min_free_bytes
    path = local_path(operation)
    if path is not None:  # else the database is elsewhere too, and only the index comes here
        needed += path.stat().st_size * 3 // 2
    free = shutil.disk_usage(conf().data_dir).free
    if free < needed:
        raise NotEnoughSpace(
            f"This import needs about {needed >> 20} MiB of free disk space and there are "
            f"{free >> 20} MiB. Make room, then resume it."
        )


def advance(operation_id: int) -> list[int]:
    """Go on to the next phase if this one is finished; the ids of its slices. Safe to call any time.

    Raises `MustWait` when a trouble from outside prevents it: the sweeper tries again.
    """
    operation = ImportOperation.objects.get(pk=operation_id)
    phase = Phase(operation.phase)
    unfinished = operation.slices.filter(phase=phase).unfinished()
    if phase == Phase.NONE or operation.finished_at or unfinished.exists():
        return []
    following = STEPS[phase].following
    try:
        spans = plan(operation, following)
        with transaction.atomic():
            if not leave_phase(operation_id, phase, following):
                return []
            made = create_slices(operation_id, following, spans) if spans else []
            if phase == Phase.LISTING:
                # What there is to read is known only now.
                ImportOperation.objects.filter(pk=operation_id).update(
                    base_tally={"bytes": sum(weight for _, _, weight in spans)}
                )
            elif phase == Phase.COUNTING:
                end_preparing(operation)
            elif phase == Phase.FINISHING:
                end_importing(operation)
            elif phase == Phase.PREVIEWING:
                end_preview(operation)
    except Exception as error:
        if (reason := reason_to_wait(error)) is not None:
            mend_connection()
            show_pause(operation_id, reason)
            raise MustWait(reason) from error
        if isinstance(error, ImportopsError):
            end_badly(operation_id, phase, error)
            return []
        # Nobody holds a slice here, so nobody would try a bounded number of times.
        logger.exception("operation %s cannot go on to %r", operation.public_id, following)
        end_badly(operation_id, phase, BetweenPhases(f"{BetweenPhases.__doc__} ({error})"))
        return []
    refresh_totals(operation_id, force=True)
    tell_phase_done(operation_id, phase)
    if spans or following == Phase.NONE:
        return made
    return advance(operation_id)


def tell_phase_done(operation_id: int, phase: Phase) -> None:
    """One line for the log: how long `phase` took, and what there is of records by now."""
    operation = ImportOperation.objects.get(pk=operation_id)
    ends = operation.slices.exclude(phase=phase).aggregate(at=Max("finished_at"))["at"]
    begins = [operation.ts, operation.started_at, ends]
    began = max(moment for moment in begins if moment is not None)
    events = {Phase.COUNTING: "operation prepared", Phase.FINISHING: "operation done"}
    logger.info(
        events.get(phase, "phase done"),
        operation=operation.public_id,
        phase=phase.value,
        seconds=round((timezone.now() - began).total_seconds(), 2),
        counts={kind: number for kind, number in counts(operation).items() if number["total"]},
    )


def plan(operation: ImportOperation, phase: Phase) -> list[tuple[Cursor, int, int]]:
    """How the work of `phase` is cut into slices: (start, stop, weight) each."""
    if phase == Phase.COUNTING:
        return [(s.start, s.stop, s.weight) for s in plan_counting(operation)]
    if phase == Phase.MESSAGES:
        # The same stretches that were counted, so that what was found there holds.
        counted = operation.slices.filter(phase=Phase.COUNTING).order_by("number")
        return list(counted.values_list("start", "stop", "weight"))
    if phase == Phase.RETRY_MESSAGES:
        return plan_retry(operation)
    return [] if phase == Phase.NONE else ONE_SLICE


def end_importing(operation: ImportOperation) -> None:
    """Everything was tried: the operation is done, with what failed kept and counted."""
    refresh_totals(operation.pk, force=True)
    operation.refresh_from_db()
    end_retry(operation)
    notes = list(operation.notes)
    numbers = counts(operation)
    if operation.is_import and not any(
        kind["created"] or kind["updated"] for kind in numbers.values()
    ):
        notes.append("Nothing was created or changed by this import.")
    for kind, number in numbers.items():
        dealt_with = sum(number.values()) - number["total"]
        if dealt_with != number["total"]:
            # Never expected; said rather than hidden.
            notes.append(
                f"{kind}: {dealt_with} records were dealt with, {number['total']} were counted."
            )
            logger.error("operation %s does not add up: %s", operation.public_id, number)
    now = timezone.now()
    ImportOperation.objects.filter(pk=operation.pk).update(
        status=Status.DONE,
        finished_at=now,
        updated_at=now,
        notes=list(dict.fromkeys(notes)),  # a retry ends like this a second time
    )
    if operation.importer_key == ROLLBACK:
        ImportOperation.objects.filter(undone_by=operation).update(
            rolled_back_at=now, updated_at=now
        )


def run_operation(
    operation: ImportOperation,
    *,
    on_progress: Callable[[ImportOperation], None] = lambda operation: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Do an operation's present work in this process: until it waits for the selection, or has ended.

    Workers may help at the same time. `on_progress` is called about once a second. Raises
    `WorkerStopping` soon after `stop()` has become true; nothing is lost by that. A trouble from
    outside is told through `on_progress` (`paused_because`) and waited for.
    """
    told = 0.0

    def tell() -> None:
        nonlocal told
        if time.monotonic() - told >= conf().refresh_seconds:
            operation.refresh_from_db()
            on_progress(operation)
            told = time.monotonic()

    def wait(reason: str) -> None:
        operation.paused_because = reason
        on_progress(operation)

    def turn() -> bool:
        operation.refresh_from_db()
        if operation.phase == Phase.NONE or operation.finished_at:
            return False
        if not operation.valid or (operation.cancel_requested_at and settle_stopped(operation.pk)):
            return False
        if stop():
            raise WorkerStopping
        ready = (
            ImportSlice.objects.claimable(timezone.now())
            .of_active_operations()
            .due(timezone.now())
            .filter(operation=operation)
            .order_by("number")
            .values_list("pk", flat=True)
            .first()
        )
        if ready is not None:
            run_slice(ready, stop=stop, on_batch=tell, on_wait=wait)
        elif not advance(operation.pk):
            # Another process has the rest; wait for it to finish, or for its lease to run out.
            time.sleep(WAIT_FOR_OTHERS)
        tell()
        return True

    def last() -> bool:
        operation.refresh_from_db()
        on_progress(operation)
        return False

    patiently(turn, stop=stop, on_wait=wait)
    patiently(last, stop=stop, on_wait=wait)


def patiently(
    turn: Callable[[], bool], *, stop: Callable[[], bool], on_wait: Callable[[str], None]
) -> None:
    """Call `turn` until it is false. What outside prevents is tried again, later each time."""
    delays = growing(RETRY_AFTER, LONGEST_WAIT)
    while True:
        try:
            if not turn():
                return
            delays = growing(RETRY_AFTER, LONGEST_WAIT)
        except Exception as error:
            if (reason := reason_to_wait(error)) is None:
                raise
            remind("the import waits", reason)
            on_wait(reason)
            nap(next(delays), stop)
            if stop():
                raise WorkerStopping from error
            mend_connection()
