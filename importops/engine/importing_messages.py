"""Messages: chunks of the export -> rows, about a thousand in a transaction, in archive order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from importops.conf import conf
from importops.engine.preparing import span_of
from importops.engine.resolve import UserDirectory
from importops.engine.rows import moment_text, reactions_json
from importops.engine.selecting import DateRange, date_range
from importops.engine.slices import Batch, Work
from importops.engine.sources import open_source
from importops.engine.writers import FileRow, MessageRow, Writer, writer_for
from importops.importers.base import Directory
from importops.models import File, ImportOperation, RoomImportId, StagedRecord
from importops.records import NAME_LIMIT, Chunk, FileRecord, MessageRecord

EVERYBODY = ("all", "here")
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
    operation = work.operation
    rooms = Rooms(operation)
    users = UserDirectory(operation)
    directory = Directory(usernames=users, room_names=rooms.names, folders=rooms.folders)
    writer = writer_for(operation.pk)
    maker = RowMaker(rooms, users, Sieve(date_range(operation.selection)), writer)
    span = span_of(work)
    with open_source(operation) as source:
        chunks = source.messages(span, work.cursor or span.start, directory)
        for some in gathered(chunks, conf().batch_rows):
            let_authors_in(work, users, some)
            rows, files, batch_of = maker.make(some)
            with work.batch() as batch:
                batch.cursor = some[-1].cursor
                batch.tally.update(batch_of.tally)
                for failure in batch_of.failures:
                    batch.fail(failure)
                write(writer, rows, files, batch)


def gathered(chunks: Iterator[Chunk], size: int) -> Iterator[list[Chunk]]:
    """Chunks in groups of about `size` records: small rooms share a transaction."""
    some: list[Chunk] = []
    records = 0
    for chunk in chunks:
        some.append(chunk)
        # What is only read or skipped counts a little too, so that the cursor moves on.
        records += len(chunk.records) + len(chunk.failures) + 1
        if records >= size:
            yield some
            some, records = [], 0
    if some:
        yield some


def let_authors_in(work: Work, users: UserDirectory, chunks: Sequence[Chunk]) -> None:
    """Make accounts for those authors of `chunks` who have none, in transactions of their own."""
    authors = {record.author for chunk in chunks for record in chunk.records}
    strangers = sorted(users.missing(authors))
    for start in range(0, len(strangers), MOST_STAND_INS):
        some = strangers[start : start + MOST_STAND_INS]
        with work.batch() as batch:
            users.make_stand_ins(some, batch)
    if strangers:
        users.missing(strangers)


class Sieve:
    """Says which records of a chunk go in; the others are counted in the batch, by reason."""

    def __init__(self, wanted: DateRange) -> None:
        self.wanted = wanted

    def sift(self, chunk: Chunk, batch: Batch, *, room_failed: bool) -> list[MessageRecord]:
        batch.add("read", chunk.read)
        batch.add("repaired", chunk.repaired)
        for reason, number in chunk.skipped.items():
            batch.add(f"messages.skipped.{reason}", number)
        batch.add("files.skipped.message-skipped", chunk.skipped_files)
        batch.failures.extend(chunk.failures)
        return self.keep(chunk.records, batch, room_failed=room_failed)

    def keep(
        self, records: list[MessageRecord], batch: Batch, *, room_failed: bool
    ) -> list[MessageRecord]:
        if room_failed:
            _leave_out(records, "room-failed", batch)
            return []
        if not self.wanted:
            return records
        holds = self.wanted.holds
        _leave_out([r for r in records if not holds(r.sent_at)], "outside-dates", batch)
        return [record for record in records if holds(record.sent_at)]


def _leave_out(records: Sequence[MessageRecord], reason: str, batch: Batch) -> None:
    batch.add(f"messages.skipped.{reason}", len(records))
    batch.add(
        f"files.skipped.{reason}",
        sum(len(record.files or ()) for record in records),
    )


class RowMaker:
    """Turns records into rows; what it leaves out is counted or kept as a failure."""

    def __init__(self, rooms: Rooms, users: UserDirectory, sieve: Sieve, writer: Writer) -> None:
        self.rooms = rooms
        self.users = users
        self.sieve = sieve
        self.operation_id = writer.operation_id
        self._mention_texts: dict[str, str] = {}

    def make(self, chunks: Sequence[Chunk]) -> tuple[list[MessageRow], list[FileRow], Batch]:
        rows: list[MessageRow] = []
        files: list[FileRow] = []
        batch = Batch()
        for chunk in chunks:
            room_id = self.rooms.key_of.get(chunk.room)
            records = self.sieve.sift(chunk, batch, room_failed=room_id is None)
            if room_id is None:
                continue
            rows += self._rows(room_id, records)
            files += [
                file_row(room_id, record.source_id, file)
                for record in records
                if record.files
                for file in record.files
            ]
        return rows, files, batch

    def _rows(self, room_id: int, records: Sequence[MessageRecord]) -> list[MessageRow]:
        # Half a million times in a usual import: no call that can be done without.
        keys, moment = self.users.keys_by_id, moment_text
        return [
            MessageRow(
                room_id,
                keys[record.author],
                record.source_id,
                moment(record.sent_at),
                record.text,
                record.type,
                record.alias,
                record.thread_source_id,
                None if record.edited_at is None else moment(record.edited_at),
                (self.users.get(record.edited_by) or "") if record.edited_by else "",
                self._reactions(record) if record.reactions else "{}",
                self._mentions(record) if record.mentions else "[]",
                msgspec.json.encode(record.attachments).decode() if record.attachments else "[]",
                self.operation_id,
            )
            for record in records
        ]

    def _reactions(self, record: MessageRecord) -> str:
        name_of = self.users.get
        # Who reacted but is nowhere in the export keeps the id: a lost vote would be a lie.
        return reactions_json(
            (name, {name_of(user) or user for user in users})
            for name, users in record.reactions or ()
        )

    def _mentions(self, record: MessageRecord) -> str:
        texts = [self._mention(item) for item in record.mentions or ()]
        return f"[{','.join(filter(None, texts))}]"

    def _mention(self, import_id: str) -> str:
        """One mention as JSON, remembered: the same few people are named all the time."""
        text = self._mention_texts.get(import_id)
        if text is None:
            if import_id in EVERYBODY:
                name, kind = import_id, "group"
            else:
                name, kind = self.users.get(import_id) or "", "user"
            mention = {"username": name, "name": name, "type": kind}
            text = msgspec.json.encode(mention).decode() if name else ""
            self._mention_texts[import_id] = text
        return text


def file_row(room_id: int, message_source_id: str, file: FileRecord) -> FileRow:
    if file.problem or not file.url:
        status, problem = File.Status.FAILED, file.problem or "the export has no link"
    elif file.external:
        status, problem = File.Status.DONE, ""
    else:
        status, problem = File.Status.PENDING, ""
    return FileRow(
        room_id,
        message_source_id[:NAME_LIMIT],
        file.source_id[:NAME_LIMIT],
        file.name[:NAME_LIMIT],
        file.mime_type[:NAME_LIMIT],
        max(0, min(file.size, 2**62)),
        file.url,
        str(status),
        file.external,
        problem[:NAME_LIMIT],
    )


def write(writer: Writer, rows: list[MessageRow], files: list[FileRow], batch: Batch) -> None:
    for kind, counts in (
        ("messages", writer.write_messages(rows) if rows else {}),
        ("files", writer.write_files(files) if files else {}),
    ):
        for outcome, number in counts.items():
            batch.add(f"{kind}.{outcome}", number)
