"""Before the person chooses: users and rooms are staged, messages counted, problems found.

Nothing is written to the workspace here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import msgspec

from importops.engine.slices import Batch, Work
from importops.engine.sources import open_source
from importops.errors import EmptyExport
from importops.importers.base import Span
from importops.models import ImportOperation, StagedRecord, Status
from importops.records import (
    NAME_LIMIT,
    AuthorRecord,
    BadRecord,
    RoomRecord,
    RoomScan,
    Scan,
    UserRecord,
    repair_text,
    short_place,
)

STAGED_AT_ONCE = 500
Record = UserRecord | RoomRecord | BadRecord


def list_workspace(work: Work) -> None:
    """Stage every user and room of the export. Its cursor is how many records were staged.

    Raises `SourceError` when the file as a whole cannot be imported.
    """
    with ExitStack() as stack:
        with work.kept_alive():  # opening reads the archive's whole directory, once
            source = stack.enter_context(open_source(work.operation))
        staged = work.cursor[0] if work.cursor else 0
        records = islice(source.workspace(), staged, None)
        for some in batched(records, STAGED_AT_ONCE):
            with work.batch() as batch:
                stage(work.operation, some, batch)
                staged += len(some)
                batch.cursor = [staged]
        notes = source.notes()
    ImportOperation.objects.filter(pk=work.operation.pk).update(notes=notes)


def batched(items: Iterable[Record], size: int) -> Iterator[list[Record]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def stage(operation: ImportOperation, records: list[Record], batch: Batch) -> None:
    """Put records into `StagedRecord`; the second of two with one import id is a duplicate."""
    fresh: dict[tuple[str, str], StagedRecord] = {}
    for record in records:
        if isinstance(record, BadRecord):
            batch.fail(record)
            batch.add("problems")
            batch.add("users.total" if record.kind == "user" else "channels.total")
            continue
        row = staged_row(operation, record)
        kind = "users" if row.kind == StagedRecord.Kind.USER else "channels"
        batch.add(f"{kind}.total")
        if (row.kind, row.import_id) in fresh:
            batch.add(f"{kind}.skipped.duplicate")
        else:
            fresh[row.kind, row.import_id] = row
    known = set(
        StagedRecord.objects.filter(
            operation=operation, import_id__in={key[1] for key in fresh}
        ).values_list("kind", "import_id")
    )
    for kind_of_row, _ in known & fresh.keys():
        kind = "users" if kind_of_row == StagedRecord.Kind.USER else "channels"
        batch.add(f"{kind}.skipped.duplicate")
    StagedRecord.objects.bulk_create(row for key, row in fresh.items() if key not in known)


def staged_row(operation: ImportOperation, record: UserRecord | RoomRecord) -> StagedRecord:
    return StagedRecord(
        operation=operation,
        kind=StagedRecord.Kind.USER if isinstance(record, UserRecord) else StagedRecord.Kind.ROOM,
        import_id=record.import_ids[0][:NAME_LIMIT],
        place=short_place(repair_text(record.place)),
        data=msgspec.to_builtins(record),
    )


def count_messages(work: Work) -> None:
    """Count one span's messages per room; stage authors nobody listed; keep what is wrong."""
    operation = work.operation
    rooms = dict(
        StagedRecord.objects.rooms()
        .filter(operation=operation)
        .values_list("data__folder", "import_id")
    )
    known = set(
        StagedRecord.objects.users().filter(operation=operation).values_list("import_id", flat=True)
    )
    span = span_of(work)
    with open_source(operation) as source:
        for scan in source.scan(span, work.cursor or span.start, rooms, known):
            with work.batch() as batch:
                keep_scan(work, scan, batch)


def span_of(work: Work) -> Span:
    piece = work.slice
    return Span(start=piece.start, stop=piece.stop, weight=piece.weight)


def keep_scan(work: Work, scan: Scan, batch: Batch) -> None:
    operation = work.operation
    batch.cursor = scan.cursor
    batch.add("scanned", scan.read)
    batch.add("problems", len(scan.failures))
    # Not `fail`: importing will meet these records again, and counts them then.
    batch.failures.extend(scan.failures)
    rooms = StagedRecord.objects.rooms().filter(operation=operation, import_id__in=scan.rooms)
    changed = []
    for room in rooms.select_for_update().order_by("pk"):
        found = scan.rooms[room.import_id]
        room.found = add_found(room.found, found, work.slice.number)
        changed.append(room)
        batch.add("messages.total", found.messages)
        batch.add("files.total", found.files)
    StagedRecord.objects.bulk_update(changed, ["found"], batch_size=200)
    if scan.authors:
        stage_authors(work, scan.authors)


def stage_authors(work: Work, authors: dict[str, AuthorRecord]) -> None:
    """Stage those whom nobody has staged; of two slices that met somebody the first one's word counts.

    In the order of import ids: workers that insert the same ones wait for each other in one direction.
    """
    mine = f"{work.slice.number:06d}"
    rows = [author_row(work.operation, authors[key], mine) for key in sorted(authors)]
    StagedRecord.objects.bulk_create(rows, ignore_conflicts=True)
    of_later_slices = StagedRecord.objects.authors().filter(
        operation=work.operation, import_id__in=authors, place__gt=mine
    )
    for row in of_later_slices.select_for_update().order_by("import_id"):
        row.data, row.place = msgspec.to_builtins(authors[row.import_id]), mine
        row.save(update_fields=["data", "place"])


def add_found(found: dict[str, Any], more: RoomScan, part: int) -> dict[str, Any]:
    """The sum of what was found in a room so far and in one more stretch of it, in slice number `part`."""
    firsts = [at for at in (found.get("first_at"), more.first_at) if at is not None]
    lasts = [at for at in (found.get("last_at"), more.last_at) if at is not None]
    # Stretches that lie over each other may have messages in common.
    apart = len(firsts) < 2 or firsts[1] > lasts[0] or lasts[1] < firsts[0]
    return {
        "messages": found.get("messages", 0) + more.messages,
        "files": found.get("files", 0) + more.files,
        "read": found.get("read", 0) + more.read,
        "first_at": min(firsts, default=None),
        "last_at": max(lasts, default=None),
        "failed": found.get("failed", 0) + more.failed,
        "skipped": dict(Counter(found.get("skipped", {})) + Counter(more.skipped)),
        "skipped_files": found.get("skipped_files", 0) + more.skipped_files,
        "exact": found.get("exact", not found) and more.exact and apart,
        "parts": sorted({*found.get("parts", ()), part}),
    }


def author_row(operation: ImportOperation, author: AuthorRecord, place: str) -> StagedRecord:
    return StagedRecord(
        operation=operation,
        kind=StagedRecord.Kind.AUTHOR,
        import_id=author.import_id[:NAME_LIMIT],
        place=place,
        data=msgspec.to_builtins(author),
    )


def plan_counting(operation: ImportOperation) -> list[Span]:
    """The stretches of messages that are to be counted, and later imported."""
    with open_source(operation) as source:
        return list(source.spans())


def end_preparing(operation: ImportOperation) -> None:
    """Wait for the person to choose. Raises `EmptyExport` when there is nothing to choose from."""
    if not StagedRecord.objects.filter(operation=operation).exists():
        raise EmptyExport
    ImportOperation.objects.filter(pk=operation.pk, valid=True).update(status=Status.USER_SELECTION)
