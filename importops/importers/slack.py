"""Slack workspace exports (JSON, zipped): docs/importers.md.

slack_layout     where things are in the archive
slack_workspace  users and rooms
slack_days       day files -> batches of messages (slack_schema: their fields)
slack_counting   batches -> counts            the first pass
slack_messages   batches -> records           the second pass
slack_markup     text; slack_blocks: text of messages that have none
slack_threads    threads of replies that do not say theirs
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self

from importops.importers.archive import Entry, open_archive
from importops.importers.archive_index import shown
from importops.importers.base import Directory, FileImporter, Limits, Span
from importops.importers.slack_counting import Counter, add_heads
from importops.importers.slack_days import Batch, DayReader, M
from importops.importers.slack_layout import Layout, Survey
from importops.importers.slack_messages import Converter
from importops.importers.slack_schema import decode_heads, decode_messages
from importops.importers.slack_threads import ParentFinder
from importops.importers.slack_workspace import Workspace
from importops.records import (
    BadRecord,
    Chunk,
    Cursor,
    RoomRecord,
    Scan,
    UserRecord,
)

__all__ = ["SlackImporter"]

SPAN_BYTES = 192 * 1024**2
SPAN_ENTRIES = 20_000
CHUNK_RECORDS = 1000
CHUNK_BYTES = 16 * 1024**2
CHUNK_FAILURES = 200


class SlackImporter(FileImporter):
    """A Slack export. Cursors are [number of the entry, number of the element in it]."""

    key = "slack"
    name = "Slack"
    family = "slack"

    def __init__(self, source: BinaryIO, index_path: Path, limits: Limits) -> None:
        self._limits = limits
        self._archive = open_archive(source, index_path, limits)
        self._layout = Layout(self._archive)
        self._reader = DayReader(self._archive, limits, decode_messages)
        self._counting_reader = DayReader(self._archive, limits, decode_heads)
        self._survey: Survey | None = None

    @classmethod
    def open(cls, source: BinaryIO, index_path: Path, limits: Limits) -> Self:
        return cls(source, index_path, limits)

    def close(self) -> None:
        self._archive.close()

    def workspace(self) -> Iterator[UserRecord | RoomRecord | BadRecord]:
        survey = self._walk()
        workspace = Workspace(self._archive, self._layout, survey, self._limits)
        return workspace.records()

    def notes(self) -> list[str]:
        notes, survey = [], self._walk()
        if survey.ignored_count:
            names = ", ".join(map(shown, survey.ignored))
            more = ", …" if survey.ignored_count > len(survey.ignored) else ""
            noun = "file was" if survey.ignored_count == 1 else "files were"
            notes.append(
                f"{survey.ignored_count:,} {noun} passed over, because no users, rooms"
                f" or messages are in files of that name: {names}{more}"
            )
        if count := self._archive.names_guessed:
            notes.append(
                f"{count:,} file names in the archive are not UTF-8 and were read as"
                " CP437; names of rooms may look wrong."
            )
        return notes

    def spans(self) -> Iterator[Span]:
        """About 192 MB, unpacked, or 20,000 files each, cut between files."""
        return _cut(day.entry for day in self._layout.days())

    def spans_of(self, folders: Iterable[str], places: Iterable[str]) -> Iterator[Span]:
        for folder in folders:
            yield from _cut(day.entry for day in self._layout.days_of(folder))
        found = {entry.number: entry for place in places if (entry := self._layout.entry_of(place))}
        yield from _cut((found[number] for number in sorted(found)), gaps=False)

    def scan(
        self,
        span: Span,
        cursor: Cursor,
        folders: Mapping[str, str],
        known_users: Container[str],
    ) -> Iterator[Scan]:
        counter = Counter(known_users)
        scan = None
        for batch in self._batches(self._counting_reader, span, cursor, folders):
            if scan is None:
                scan = Scan(cursor, {}, {}, [])
            counter.add(batch, folders[batch.day.folder], scan)
            if counter.is_enough(scan):
                yield scan
                scan = None
        if scan is not None:
            yield scan

    def messages(self, span: Span, cursor: Cursor, directory: Directory) -> Iterator[Chunk]:
        """Small files of one room share a chunk."""
        converter = Converter(
            directory.usernames,
            directory.room_names,
            ParentFinder(self._layout, self._reader).find,
        )
        batches = self._batches(self._reader, span, cursor, directory.folders)
        return _chunks(batches, cursor, directory.folders, converter.add)

    def heads(self, span: Span, cursor: Cursor, folders: Mapping[str, str]) -> Iterator[Chunk]:
        batches = self._batches(self._counting_reader, span, cursor, folders)
        return _chunks(batches, cursor, folders, add_heads)

    def _batches(
        self, reader: DayReader[M], span: Span, cursor: Cursor, folders: Mapping[str, str]
    ) -> Iterator[Batch[M]]:
        """What is between `cursor` and the end of `span`, in wanted folders."""
        first, element = cursor
        for day in self._layout.days(first, span.stop):
            if day.folder in folders:
                start = element if day.entry.number == first else 0
                yield from reader.batches(day, start)

    def _walk(self) -> Survey:
        if self._survey is None:
            self._survey = self._layout.survey()
        return self._survey


def _cut(entries: Iterable[Entry], *, gaps: bool = True) -> Iterator[Span]:
    """Stretches of these entries; without `gaps`, with nothing else in them."""
    start = stop = weight = files = 0
    for entry in entries:
        full = files >= SPAN_ENTRIES or weight + entry.size > SPAN_BYTES
        if files and (full or (entry.number != stop and not gaps)):
            yield Span([start, 0], stop, weight)
            weight = files = 0
        if not files:
            start = entry.number
        stop = entry.number + 1
        weight += entry.size
        files += 1
    if files:
        yield Span([start, 0], stop, weight)


def _chunks(
    batches: Iterator[Batch[M]],
    cursor: Cursor,
    folders: Mapping[str, str],
    add: Callable[[Batch[M], Chunk], None],
) -> Iterator[Chunk]:
    """Batches gathered into chunks; `add` puts one into the other."""
    chunk = None
    for batch in batches:
        room = folders[batch.day.folder]
        if chunk is not None and not _has_room(chunk, room, batch):
            yield chunk
            chunk = None
        if chunk is None:
            chunk = Chunk(room, cursor, [])
        add(batch, chunk)
    if chunk is not None:
        yield chunk


def _has_room(chunk: Chunk, room: str, batch: Batch[M]) -> bool:
    """Whether `batch` still fits into `chunk`."""
    return (
        chunk.room == room
        and len(chunk.records) + len(batch.messages) <= CHUNK_RECORDS
        and chunk.read + batch.read <= CHUNK_BYTES
        and len(chunk.failures) + len(batch.failures) <= CHUNK_FAILURES
    )
