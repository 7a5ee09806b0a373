"""Reading a span of messages: an opened export and plain values in, batches of rows out.

No Django here: this also runs in a process without it (`reader_process.py`). So what it needs of the
database comes as values, looked up before (`Reading`), and authors that have no account yet are
named for the caller to let in (`Batch.strangers`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from importops.engine.rows import FileRow, Row, moment_text, reactions_json
from importops.importers.base import Directory, FileImporter, Span
from importops.records import NAME_LIMIT, BadRecord, Chunk, Cursor, FileRecord, MessageRecord

EVERYBODY = ("all", "here")


@dataclass(frozen=True, slots=True)
class DateRange:
    """Which messages are wanted, in microseconds since the epoch; `until` is not included."""

    since: int | None
    until: int | None

    def __bool__(self) -> bool:
        return self.since is not None or self.until is not None

    def holds(self, sent_at: int) -> bool:
        return (self.since is None or sent_at >= self.since) and (
            self.until is None or sent_at < self.until
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read, and what is known here of those whom it speaks of."""

    operation_id: int
    span: Span
    cursor: Cursor
    """Where to begin; `span.start`, or where the last batch ended."""
    batch_rows: int
    wanted: DateRange
    usernames: dict[str, str]
    """Import id of a user -> name, here or else in the export."""
    user_keys: dict[str, int]
    """Import id of a user -> our key."""
    room_names: dict[str, str]
    room_keys: dict[str, int]
    folders: dict[str, str]
    """Folder -> import id of its room, for rooms that are wanted."""


class ReadBatch(NamedTuple):
    """Rows for one transaction, and what it has to count."""

    cursor: Cursor
    tally: dict[str, int]
    failures: list[BadRecord]
    messages: list[Row]
    """`MessageRow`s as plain tuples. An author below zero is `strangers[-1 - author]`."""
    files: list[Row]
    """`FileRow`s as plain tuples."""
    strangers: list[str]
    """Import ids of authors without an account."""


def read_rows(source: FileImporter, reading: Reading) -> Iterator[ReadBatch]:
    """The rows of `reading`'s span from its cursor on."""
    directory = directory_of(reading)
    maker = RowMaker(reading)
    chunks = source.messages(reading.span, reading.cursor, directory)
    for some in gathered(chunks, reading.batch_rows):
        yield maker.make(some)


def directory_of(reading: Reading) -> Directory:
    """What an importer needs to know of what is read."""
    return Directory(
        usernames=reading.usernames, room_names=reading.room_names, folders=reading.folders
    )


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


class Counting(Protocol):
    """What counts: a transaction's batch, or `Counted`."""

    tally: Counter[str]
    failures: list[BadRecord]

    def add(self, key: str, number: int = 1) -> None: ...


@dataclass
class Counted:
    tally: Counter[str] = field(default_factory=Counter)
    failures: list[BadRecord] = field(default_factory=list)

    def add(self, key: str, number: int = 1) -> None:
        if number:
            self.tally[key] += number


class Sieve:
    """Says which records of a chunk go in; the others are counted in the batch, by reason."""

    def __init__(self, wanted: DateRange) -> None:
        self.wanted = wanted

    def sift(self, chunk: Chunk, batch: Counting, *, room_failed: bool) -> list[MessageRecord]:
        batch.add("read", chunk.read)
        batch.add("repaired", chunk.repaired)
        for reason, number in chunk.skipped.items():
            batch.add(f"messages.skipped.{reason}", number)
        batch.add("files.skipped.message-skipped", chunk.skipped_files)
        batch.failures.extend(chunk.failures)
        return self.keep(chunk.records, batch, room_failed=room_failed)

    def keep(
        self, records: list[MessageRecord], batch: Counting, *, room_failed: bool
    ) -> list[MessageRecord]:
        if room_failed:
            _leave_out(records, "room-failed", batch)
            return []
        if not self.wanted:
            return records
        holds = self.wanted.holds
        _leave_out([r for r in records if not holds(r.sent_at)], "outside-dates", batch)
        return [record for record in records if holds(record.sent_at)]


def _leave_out(records: Sequence[MessageRecord], reason: str, batch: Counting) -> None:
    batch.add(f"messages.skipped.{reason}", len(records))
    batch.add(
        f"files.skipped.{reason}",
        sum(len(record.files or ()) for record in records),
    )


class _Authors(dict[str, int]):
    """Import id -> our key; who has none gets a number below zero, and is kept in `strangers`."""

    def __init__(self, keys: dict[str, int]) -> None:
        super().__init__(keys)
        self.strangers: list[str] = []

    def __missing__(self, import_id: str) -> int:
        if import_id not in self.strangers:
            self.strangers.append(import_id)
        return -1 - self.strangers.index(import_id)

    def take_strangers(self) -> list[str]:
        met, self.strangers = self.strangers, []
        return met


class RowMaker:
    """Turns records into rows; what it leaves out is counted or kept as a failure."""

    def __init__(self, reading: Reading) -> None:
        self._operation_id = reading.operation_id
        self._room_keys = reading.room_keys
        self._sieve = Sieve(reading.wanted)
        self._authors = _Authors(reading.user_keys)
        self._name_of = reading.usernames.get
        self._mention_texts: dict[str, str] = {}

    def make(self, chunks: Sequence[Chunk]) -> ReadBatch:
        messages: list[Row] = []
        files: list[Row] = []
        counted = Counted()
        for chunk in chunks:
            room_id = self._room_keys.get(chunk.room)
            records = self._sieve.sift(chunk, counted, room_failed=room_id is None)
            if room_id is None:
                continue
            messages += self._rows(room_id, records)
            files += [
                file_row(room_id, record.source_id, file)
                for record in records
                if record.files
                for file in record.files
            ]
        strangers = self._authors.take_strangers()
        return ReadBatch(
            chunks[-1].cursor, dict(counted.tally), counted.failures, messages, files, strangers
        )

    def _rows(self, room_id: int, records: Sequence[MessageRecord]) -> list[Row]:
        # Half a million times in a usual import: no call that can be done without.
        authors, operation_id = self._authors, self._operation_id
        return [
            (
                room_id,
                authors[record.author],
                record.source_id,
                moment_text(record.sent_at),
                record.text,
                record.type,
                record.alias,
                record.thread_source_id,
                None if record.edited_at is None else moment_text(record.edited_at),
                (self._name_of(record.edited_by) or "") if record.edited_by else "",
                self._reactions(record) if record.reactions else "{}",
                self._mentions(record) if record.mentions else "[]",
                msgspec.json.encode(record.attachments).decode() if record.attachments else "[]",
                operation_id,
            )
            for record in records
        ]

    def _reactions(self, record: MessageRecord) -> str:
        name_of = self._name_of
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
                name, kind = self._name_of(import_id) or "", "user"
            mention = {"username": name, "name": name, "type": kind}
            text = msgspec.json.encode(mention).decode() if name else ""
            self._mention_texts[import_id] = text
        return text


def file_row(room_id: int, message_source_id: str, file: FileRecord) -> Row:
    if file.problem or not file.url:
        status, problem = "failed", file.problem or "the export has no link"
    elif file.external:
        status, problem = "done", ""
    else:
        status, problem = "pending", ""
    return tuple(
        FileRow(
            room_id,
            message_source_id[:NAME_LIMIT],
            file.source_id[:NAME_LIMIT],
            file.name[:NAME_LIMIT],
            file.mime_type[:NAME_LIMIT],
            max(0, min(file.size, 2**62)),
            file.url,
            status,
            file.external,
            problem[:NAME_LIMIT],
        )
    )


def with_authors(messages: list[Row], keys: Sequence[int]) -> list[Row]:
    """`messages` with the strangers' keys put in, now that they have some."""
    if not keys:
        return messages
    return [row if row[1] >= 0 else (row[0], keys[-1 - row[1]], *row[2:]) for row in messages]
