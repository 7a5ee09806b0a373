"""Counts that add up, and what is told of them.

A tally is a flat mapping of sums, so that tallies of slices simply add:

    users.total  users.created  users.updated  users.failed  users.skipped.<reason>
    channels.…   messages.…   files.…
    problems      bad records that preparing found
    placeholders  authors that had no account and got a stand-in;  bots  the same for bots
    repaired      texts in which NUL or lone surrogates were replaced
    <kind>.removed, memberships.… import_ids.… emails.…  of a rollback: engine/undo_report.py
    scanned, read bytes of messages counted, and imported, so far;  bytes  all there is to read
    bytes.deselected  what of it is not read, as its room was not chosen
    batches, batch_us, batch_seconds.le_<seconds>   how long batches took (`timing.py`)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from importops.conf import conf
from importops.engine.outside import low_disk
from importops.engine.pace import EFFORT, Amount, measure, pace_of
from importops.engine.undo_report import undo_body
from importops.models import ImportFailure, ImportOperation, ImportSlice, Phase, Status
from importops.models.operations import ENDED

KINDS = ("users", "channels", "messages", "files")
KIND_OF_RECORD = {
    "user": "users",
    "room": "channels",
    "message": "messages",
    "file": "files",
}
WORKER_SEEN = "importops-worker-seen"
WORKER_SILENT = 30
WORKER_FORGOTTEN = 24 * 3600
PREPARING = (Phase.LISTING, Phase.COUNTING)
QUICK_COUNT = 0.05
"""Seconds that counting failures may take without its answer being kept."""
KEPT_FOR = 20
"""Times as long as counting took."""
KEPT_WHILE_COUNTING = 10.0

Tally = Counter[str]


def counts(operation: ImportOperation) -> dict[str, dict[str, int]]:
    """Per kind: total, created, updated, skipped, failed. At the end the four add up to `total`.

    A rollback or merge counts `removed` as well; what it keeps is skipped, by reason.
    """
    numbers = counts_of(operation.tally)
    if operation.is_import:
        return numbers
    return {
        kind: {"removed": operation.tally.get(f"{kind}.removed", 0), **number}
        for kind, number in numbers.items()
    }


def counts_of(tally: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {
        kind: {
            "total": tally.get(f"{kind}.total", 0),
            "created": tally.get(f"{kind}.created", 0),
            "updated": tally.get(f"{kind}.updated", 0),
            "skipped": sum(skip_reasons(tally, kind).values()),
            "failed": tally.get(f"{kind}.failed", 0),
        }
        for kind in KINDS
    }


def skip_reasons(tally: Mapping[str, int], kind: str) -> dict[str, int]:
    """Why records of `kind` were skipped: reason -> how many."""
    prefix = f"{kind}.skipped."
    return {
        key.removeprefix(prefix): number
        for key, number in sorted(tally.items())
        if key.startswith(prefix) and number
    }


def has_failures(operation: ImportOperation) -> bool:
    """Whether any record failed; for an operation that only prepared, whether any would."""
    if not operation.has_started and operation.tally.get("problems"):
        return True
    return any(kind["failed"] for kind in counts(operation).values())


def wire_count(operation: ImportOperation) -> dict[str, int] | None:
    """The wire's `count`; None while nothing has been counted.

    `completed + error + skipped` reaches `total`. Files are not part of it: a message counts once,
    whatever it carries.
    """
    if not operation.tally:
        return None
    numbers = counts(operation)
    parts = [numbers[kind] for kind in ("users", "channels", "messages")]
    return {
        "users": numbers["users"]["total"],
        "channels": numbers["channels"]["total"],
        "messages": numbers["messages"]["total"],
        "total": sum(part["total"] for part in parts),
        "completed": sum(
            part["created"] + part["updated"] + part.get("removed", 0) for part in parts
        ),
        "error": sum(part["failed"] for part in parts),
        "skipped": sum(part["skipped"] for part in parts),
    }


def epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since the epoch, in integers: a float would round some of them."""
    return (moment - datetime(1970, 1, 1, tzinfo=moment.tzinfo)) // timedelta(milliseconds=1)


def iso_ms(moment: datetime) -> str:
    """ISO-8601 in UTC with milliseconds and `Z`."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def operation_body(operation: ImportOperation) -> dict[str, Any]:
    """The operation as the wire knows it: these keys in this order (docs/api.md)."""
    body: dict[str, Any] = {
        "_id": operation.public_id,
        "type": operation.type,
        "importerKey": operation.importer_key,
        "ts": epoch_ms(operation.ts),
        "status": operation.status,
        "valid": operation.valid,
        "user": operation.user.public_id,
        "_updatedAt": iso_ms(operation.updated_at),
    }
    if operation.content_type:
        body["contentType"] = operation.content_type
    if operation.file:
        body["file"] = operation.file
    if (count := wire_count(operation)) is not None:
        body["count"] = count
    return body


def progress_body(operation: ImportOperation) -> dict[str, Any]:
    """How far it is and how fast it gets on; from the operation's row alone."""
    return {
        "phase": operation.phase,
        "percent": percent(operation),
        **pace_of(operation, timezone.now())._asdict(),
        "records": dict(
            zip(
                ("done", "total"),
                (part.records for part in processed(operation.tally)),
                strict=True,
            )
        ),
        "bytes": read_bytes(operation),
    }


def report(operation: ImportOperation) -> dict[str, Any]:
    """Everything there is to tell about an operation; the body of `import.report`."""
    tally = operation.tally
    return {
        "operation": operation_body(operation),
        "state": operation.state,
        **progress_body(operation),
        "cancelling": operation.is_cancelling,
        "paused": paused(operation),
        "counts": counts(operation),
        "skipped": {kind: skip_reasons(tally, kind) for kind in KINDS},
        "problems": tally.get("problems", 0),
        "placeholders": tally.get("placeholders", 0),
        "bots": tally.get("bots", 0),
        "repaired": tally.get("repaired", 0),
        "seconds": round(operation.duration.total_seconds(), 3)
        if operation.duration is not None
        else None,
        "failures": failures_by_code(operation),
        "worker": {"alive": worker_alive()},
        "undo": undo_body(operation),
        "rolledBackAt": iso_ms(operation.rolled_back_at) if operation.rolled_back_at else None,
        "notes": operation.notes,
        "error": operation.error or None,
    }


def read_bytes(operation: ImportOperation) -> dict[str, int]:
    """Bytes of messages, unpacked: read so far, and to be read for what was chosen."""
    tally = operation.tally
    if not operation.has_started:
        return {"read": tally.get("scanned", 0), "total": tally.get("bytes", 0)}
    return {
        "read": tally.get("read", 0),
        "total": tally.get("bytes", 0) - tally.get("bytes.deselected", 0),
    }


def paused(operation: ImportOperation) -> str | None:
    """Why the operation does not get on at the moment, as a sentence; None while it does.

    On SQLite also when the reason could not be written down, because it is the full disk.
    """
    if operation.status in ENDED or operation.phase == Phase.NONE or not operation.valid:
        return None
    if operation.paused_because or connection.vendor != "sqlite":
        return operation.paused_because or None
    return low_disk()


def failures_by_code(operation: ImportOperation) -> dict[str, int]:
    """How many records failed, by reason.

    The database counts them. Where that takes long, because a great many failed, the answer is given
    again for twenty times as long as it took, so that a thousand who ask cost no more than one.
    """
    key = f"importops-failures-{operation.pk}"
    kept: tuple[float, dict[str, int]] | None = cache.get(key)
    if kept is not None:
        until, numbers = kept
        if time.time() < until:
            return numbers
        # Whoever asks meanwhile is told the last answer.
        cache.set(key, (time.time() + KEPT_WHILE_COUNTING, numbers), timeout=3600)
    began = time.monotonic()
    codes = ImportFailure.objects.of(operation).order_by().values("code")
    numbers = dict(
        codes.annotate(number=Count("pk")).order_by("-number", "code").values_list("code", "number")
    )
    took = time.monotonic() - began
    if took > QUICK_COUNT:
        cache.set(key, (time.time() + KEPT_FOR * took, numbers), timeout=3600)
    elif kept is not None:
        cache.delete(key)
    return numbers


def processed(tally: Mapping[str, int]) -> tuple[Amount, Amount]:
    """Records dealt with and records to deal with, deselected ones left out of both."""
    records_done = records = effort_done = effort = 0
    for kind, cost in EFFORT.items():
        reasons = skip_reasons(tally, kind)
        deselected = reasons.pop("deselected", 0)
        total = tally.get(f"{kind}.total", 0) - deselected
        done = sum(reasons.values()) + sum(
            tally.get(f"{kind}.{outcome}", 0)
            for outcome in ("created", "updated", "removed", "failed")
        )
        records, records_done = records + total, records_done + done
        effort, effort_done = effort + total * cost, effort_done + done * cost
    return Amount(records_done, effort_done), Amount(records, effort)


def percent(operation: ImportOperation) -> int | None:
    """How much of the present work is done: 0 to 99 while it goes on, 100 only when it is over."""
    if operation.status == Status.DONE:
        return 100
    if operation.status == Status.USER_SELECTION or operation.phase == Phase.NONE:
        return None  # nothing is going on: it is the person's turn, or was when it was cancelled
    if not operation.has_started:
        read, total = (operation.tally.get(key, 0) for key in ("scanned", "bytes"))
    else:
        read, total = (amount.records for amount in processed(operation.tally))
    if not total:
        return None
    return int(min(99, read * 100 // total))


def refresh_totals(operation_id: int, *, force: bool = False) -> None:
    """Bring the operation's sums up to date from its slices, at most once in `refresh_seconds`.

    Of several workers one does it, under the row's lock, so that an older sum never overwrites a
    newer one. The others pass by: a worker never waits here, unless with `force`, at an end.
    """
    operations = ImportOperation.objects.filter(pk=operation_id)
    if not force and not _is_due(operations.only("updated_at").get()):
        return
    with transaction.atomic():
        # Not FOR UPDATE: slices and rows that refer to the operation are inserted all the time.
        held = operations.select_for_update(no_key=True, skip_locked=not force)
        operation = held.only(
            "updated_at", "tally", "base_tally", "progress", "started_at", "status"
        ).first()
        if operation is None or not (force or _is_due(operation)):
            return
        now = timezone.now()
        # What a dry run counts is its own.
        slices = ImportSlice.objects.filter(operation=operation_id).exclude(phase=Phase.PREVIEWING)
        tally = sum_tallies(operation.base_tally, slices)
        operations.update(
            tally=dict(tally),
            progress=progress_of(operation, tally, now),
            updated_at=now,
            paused_because="",  # somebody got on
        )


def _is_due(operation: ImportOperation) -> bool:
    return timezone.now() - operation.updated_at >= timedelta(seconds=conf().refresh_seconds)


def sum_tallies(base: Mapping[str, int], slices: QuerySet[ImportSlice]) -> Tally:
    total: Tally = Counter(base)
    for tally in slices.values_list("tally", flat=True).iterator(chunk_size=500):
        total.update(tally)
    return total


def progress_of(
    operation: ImportOperation, tally: Mapping[str, int], now: datetime
) -> dict[str, Any]:
    """How fast it gets on: in records, or while preparing in bytes."""
    if operation.has_started:
        return measure(operation.progress, "importing", *processed(tally), now)
    done, total = tally.get("scanned", 0), tally.get("bytes", 0)
    return measure(operation.progress, "preparing", Amount(done, done), Amount(total, total), now)


def worker_seen() -> None:
    """A worker says that it is alive, where that can be written; a full disk must not stop it."""
    with suppress(OSError):
        cache.set(WORKER_SEEN, timezone.now().timestamp(), timeout=WORKER_FORGOTTEN)


def worker_silence() -> float | None:
    """Seconds since a worker was heard of; None: not for a day, or never."""
    seen: float | None = cache.get(WORKER_SEEN)
    return None if seen is None else max(0.0, timezone.now().timestamp() - seen)


def worker_alive() -> bool:
    """Whether some worker has been heard of in the last half minute."""
    silence = worker_silence()
    return silence is not None and silence <= WORKER_SILENT
