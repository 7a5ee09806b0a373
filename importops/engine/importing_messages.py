"""Messages: chunks of the export -> rows, about a thousand in a transaction, in archive order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from importops.conf import conf
from importops.engine.preparing import span_of
from importops.engine.reader_process import ReaderProcess
from importops.engine.reading import ReadBatch, Reading, read_rows, with_authors
from importops.engine.rows import Row
from importops.engine.selecting import date_range
from importops.engine.slices import Batch, Work
from importops.engine.sources import local_files, open_source
from importops.engine.stand_ins import UserDirectory
from importops.engine.writers import Writer, writer_for
from importops.models import ImportOperation, ImportSlice, RoomImportId, StagedRecord

MOST_STAND_INS = 200


class Rooms:
    """The rooms that messages of an operation go to."""

    def __init__(self, operation: ImportOperation) -> None:
        self.key_of: dict[str, int] = {}
        self.names: dict[str, str] = {}
        for import_id, key, name in RoomImportId.objects.filter(
            source=operation.source
        ).values_list("import_id", "room_id", "room__name"):
            self.key_of[import_id], self.names[import_id] = key, name
        self.folders: dict[str, str] = {}
        staged = StagedRecord.objects.rooms().filter(operation=operation)
        for import_id, name, folder, selected, status in staged.values_list(
            "import_id", "data__name", "data__folder", "selected", "status"
        ):
            if status == StagedRecord.Status.FAILED:
                # Its messages are read, and counted as skipped with it.
                self.key_of.pop(import_id, None)
            self.names.setdefault(import_id, name or "")
            if selected and folder:
                self.folders[folder] = import_id


def import_messages(work: Work) -> None:
    """Write one span's messages and files. Its cursor is the importer's."""
    with ExitStack() as stack:
        files = local_files(work.operation) if is_read_apart(work.slice) else None
        # Before the look-ups: it gets ready meanwhile.
        reader = ReaderProcess(conf().lease_seconds, work.heed) if files else None
        if reader:
            stack.enter_context(reader)
        source = stack.enter_context(open_source(work.operation))
        users = UserDirectory(work.operation)
        reading = what_to_read(work, users)
        if reader and files:
            key, limits = work.operation.importer_key, conf().limits()
            batches = reader.read(key, *files, limits, reading)
        else:
            batches = read_rows(source, reading)
        write_batches(work, users, batches)


def is_read_apart(piece: ImportSlice) -> bool:
    """Whether a second process reads: for a slice that is worth its start, and only the first time at
    one place. If it could not get further it is tried without."""
    return piece.weight >= conf().reader_process_bytes and piece.stalled <= 1


def what_to_read(work: Work, users: UserDirectory) -> Reading:
    rooms = Rooms(work.operation)
    span = span_of(work)
    return Reading(
        operation_id=work.operation.pk,
        span=span,
        cursor=work.cursor or span.start,
        batch_rows=conf().batch_rows,
        wanted=date_range(work.operation.selection),
        # As they are now: what a text says must not depend on who was let in while it was read.
        usernames={import_id: name for import_id in users if (name := users.get(import_id))},
        user_keys=dict(users.keys_by_id),
        room_names=rooms.names,
        room_keys=rooms.key_of,
        folders=rooms.folders,
    )


def write_batches(work: Work, users: UserDirectory, batches: Iterable[ReadBatch]) -> None:
    writer = writer_for(work.operation.pk)
    for some in batches:
        authors = let_authors_in(work, users, some.strangers)
        messages = with_authors(some.messages, authors)
        with work.batch() as batch:
            batch.cursor = some.cursor
            batch.tally.update(some.tally)
            for failure in some.failures:
                batch.fail(failure)
            write(writer, messages, some.files, batch)


def let_authors_in(work: Work, users: UserDirectory, authors: Sequence[str]) -> list[int]:
    """Our keys of `authors`; accounts are made for those who have none, in transactions of their own."""
    strangers = sorted(users.missing(authors))
    for start in range(0, len(strangers), MOST_STAND_INS):
        some = strangers[start : start + MOST_STAND_INS]
        with work.batch() as batch:
            users.make_stand_ins(some, batch)
    if strangers:
        users.missing(strangers)
    return [users.keys_by_id[author] for author in authors]


def write(writer: Writer, rows: Sequence[Row], files: Sequence[Row], batch: Batch) -> None:
    for kind, counts in (
        ("messages", writer.write_messages(rows) if rows else {}),
        ("files", writer.write_files(files) if files else {}),
    ):
        for outcome, number in counts.items():
            batch.add(f"{kind}.{outcome}", number)
