"""Messages that failed, again. Their entries are read anew, and of those records only what failed is taken.

A stretch that is read is for one of three:

- `rooms`    rooms that failed and went in now: all of their messages, which were skipped with them;
- `records`  entries that hold failed records: just these;
- `entry`    an entry that could not be read, or not from some point on. That was one failure, and is as
             many records as there are: they are added to the total, and at the end the one is taken
             from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from importops.engine.importing_messages import (
    let_authors_in,
    what_to_read,
    write,
)
from importops.engine.preparing import stage_authors
from importops.engine.reading import RowMaker, directory_of, with_authors
from importops.engine.retrying import being_retried, failures_to_retry, mended_rooms, take_back
from importops.engine.slices import Batch, Work
from importops.engine.sources import open_source
from importops.engine.stand_ins import UserDirectory
from importops.engine.writers import writer_for
from importops.importers.base import FileImporter, Span
from importops.models import ImportFailure, ImportOperation, StagedRecord
from importops.models.operations import ImportFailureQuerySet
from importops.records import BadRecord, Chunk, MessageRecord, repair_text, short_place

MESSAGE = ImportFailure.Kind.MESSAGE
PLACES_AT_ONCE = 900
STRETCHES_AT_ONCE = 200
SLICE_BYTES = 96 * 1024**2
ROOMS, RECORDS, ENTRY = "rooms", "records", "entry"

_ONE_RECORD = re.compile(r"(.*)\[([0-9]+)\]", re.DOTALL)
_FROM = re.compile(r"(.*)\[([0-9]+):\]", re.DOTALL)


class Stretch(NamedTuple):
    """One stretch to read; a slice has a list of them."""

    purpose: str
    start: list[int]
    stop: int
    place: str = ""
    """Of the failure that an `entry` has."""
    is_last: bool = True
    """Whether that failure is settled at its end."""

    @property
    def entry(self) -> tuple[str, int]:
        """The entry, and from which element on it could not be read."""
        found = _FROM.fullmatch(self.place)
        return (found[1], int(found[2])) if found else (self.place, 0)


def plan_retry(operation: ImportOperation) -> list[tuple[Any, int, int]]:
    """The slices of the retry of messages."""
    slices: list[tuple[Any, int, int]] = []
    some: list[Stretch] = []
    weight = 0
    # Of a room that went in, what is in an unreadable entry comes with that. As long as there are both,
    # one worker does all of it, in this order.
    in_order = bool(mended_rooms(operation)) and any(
        unreadable_entries(being_retried(operation, MESSAGE))
    )
    with open_source(operation) as source:
        for stretch, size in stretches(operation, source):
            some.append(stretch)
            weight += size
            full = len(some) >= STRETCHES_AT_ONCE or weight >= SLICE_BYTES
            if full and stretch.is_last and not in_order:
                slices.append((some, 0, weight))
                some, weight = [], 0
    if some:
        slices.append((some, 0, weight))
    return slices


def stretches(operation: ImportOperation, source: FileImporter) -> Iterator[tuple[Stretch, int]]:
    mended = StagedRecord.objects.filter(pk__in=mended_rooms(operation))
    folders = [folder for folder in mended.values_list("data__folder", flat=True) if folder]
    if folders:
        for span in source.spans_of(folders, []):
            yield Stretch(ROOMS, span.start, span.stop), span.weight
    places = being_retried(operation, MESSAGE).order_by("pk").values_list("place", flat=True)
    records = filter(_ONE_RECORD.fullmatch, places.iterator())
    if first := next(records, ""):
        for span in source.spans_of([], chain([first], records)):
            yield Stretch(RECORDS, span.start, span.stop), span.weight
    for place in unreadable_entries(being_retried(operation, MESSAGE)):
        spans = list(source.spans_of([], [place]))
        for span in spans:
            is_last = span is spans[-1]
            yield Stretch(ENTRY, span.start, span.stop, place, is_last), span.weight


def unreadable_entries(failures: ImportFailureQuerySet) -> Iterator[str]:
    """Places of those failures of messages that are more than one record."""
    whole = failures.exclude(place__endswith="]") | failures.filter(place__endswith=":]")
    yield from whole.order_by("pk").values_list("place", flat=True).iterator()


def retry_messages(work: Work) -> None:
    """Its cursor is the number of the stretch, and the importer's in that."""
    done, *cursor = work.cursor or [0]
    todo: list[Any] = work.slice.start
    with open_source(work.operation) as source:
        retry = MessageRetry(work, source)
        for number in range(done, len(todo)):
            retry.read(Stretch(*todo[number]), number, cursor)
            cursor = []


class MessageRetry:
    """Reads stretches, and brings in what of them failed."""

    def __init__(self, work: Work, source: FileImporter) -> None:
        operation = work.operation
        self.work = work
        self.operation = operation
        self.source = source
        self.users = UserDirectory(operation)
        self.writer = writer_for(operation.pk)
        reading = what_to_read(work, self.users)
        self.maker = RowMaker(reading)
        self.directory = directory_of(reading)
        mended = StagedRecord.objects.filter(pk__in=mended_rooms(operation))
        self.mended = set(mended.values_list("import_id", flat=True))
        # By entry, as there are few rooms with one: from which element on.
        failed = failures_to_retry(operation, MESSAGE)
        self.unreadable = dict(
            Stretch(ENTRY, [], 0, place).entry
            for place in (unreadable_entries(failed) if self.mended else ())
        )

    def read(self, stretch: Stretch, number: int, cursor: list[int]) -> None:
        span = Span(stretch.start, stretch.stop, 0)
        if not cursor and stretch.purpose != ROOMS:
            self._meet_authors(span)
        for chunk in self.source.messages(span, cursor or span.start, self.directory):
            if stretch.purpose == ENTRY or (stretch.purpose == ROOMS) == (
                chunk.room in self.mended
            ):
                self._take(Sorted(self, stretch, chunk), [number, *chunk.cursor])
        with self.work.batch() as batch:
            batch.cursor = [number + 1]
            if stretch.purpose == ENTRY and stretch.is_last:
                # None, if it failed again.
                settled = take_back(self.retried([stretch.place]), batch, MESSAGE)
                batch.add("messages.total", -settled)

    def retried(self, places: Iterable[str]) -> ImportFailureQuerySet:
        return being_retried(self.operation, MESSAGE).filter(place__in=places)

    def _meet_authors(self, span: Span) -> None:
        """Stage the authors of what could not be read before: messages tell who they are."""
        staged = StagedRecord.objects.filter(operation=self.operation)
        known = set(staged.users().values_list("import_id", flat=True))
        for scan in self.source.scan(span, span.start, self.directory.folders, known):
            if scan.authors:
                with self.work.batch():
                    stage_authors(self.work, scan.authors)

    def _take(self, found: Sorted, cursor: list[int]) -> None:
        chosen = Chunk(found.chunk.room, cursor, found.records)
        made = self.maker.make([chosen])
        authors = let_authors_in(self.work, self.users, made.strangers)
        messages = with_authors(made.messages, authors)
        with self.work.batch() as batch:
            batch.cursor = cursor
            batch.tally.update(found.batch.tally)
            batch.tally.update(made.tally)
            if found.settled:
                take_back(ImportFailure.objects.filter(pk__in=found.settled), batch, MESSAGE)
            for failure in found.failures:
                batch.fail(failure)
            for failure in found.as_before:
                self.retried([stored(failure.place)]).update(
                    code=failure.code, message=failure.message, retrying=False
                )
            write(self.writer, messages, made.files, batch)


class Sorted:
    """What one chunk holds of what is tried again, and what that was counted as."""

    def __init__(self, retry: MessageRetry, stretch: Stretch, chunk: Chunk) -> None:
        self.retry = retry
        self.stretch = stretch
        self.chunk = chunk
        self.batch = Batch()
        """Changes of sums, besides what becomes of `records` and `failures`."""
        self.records: list[MessageRecord] = []
        self.failures: list[BadRecord] = []
        self.as_before: list[BadRecord] = []
        """The failure of an `entry` that fails just so again."""
        self.settled: list[int] = []
        """Keys of failures that this chunk settles."""
        self._sort()

    def _sort(self) -> None:
        chunk = self.chunk
        known = self._known()
        for position, record in enumerate(chunk.records):
            if self._leave(known, *chunk.element(position), len(record.files or ())):
                self.records.append(record)
        for name, index, reason, files in chunk.left_out:
            if self._leave(known, name, index, files, skipped=True):
                self.batch.add(f"messages.skipped.{reason}")
                self.batch.add("files.skipped.message-skipped", files)
        for failure in chunk.failures:
            if self._leave_failure(known, failure):
                self.failures.append(failure)

    def _known(self) -> dict[str, tuple[int, bool]]:
        """The failures that the import has of the chunk: place -> key, and whether it is tried again."""
        chunk = self.chunk
        places = [place_of(*chunk.element(at)) for at in range(len(chunk.records))]
        places += [place_of(name, index) for name, index, _, _ in chunk.left_out]
        places += [stored(failure.place) for failure in chunk.failures]
        failures = failures_to_retry(self.retry.operation, MESSAGE)
        known = {}
        for start in range(0, len(places), PLACES_AT_ONCE):
            some = failures.filter(place__in=places[start : start + PLACES_AT_ONCE])
            for place, key, retrying in some.values_list("place", "pk", "retrying"):
                known[place] = (key, retrying)
        return known

    def _leave(
        self,
        known: dict[str, tuple[int, bool]],
        name: str,
        index: int,
        files: int,
        *,
        skipped: bool = False,
    ) -> bool:
        """Take a record out of what it was counted as, to be counted anew; False: it stays that."""
        place = place_of(name, index)
        if self.stretch.purpose == ENTRY:
            return self._is_of_entry(name, index) and self._add_new(files)
        if place in known:
            return self._settle(known, place, files)
        if self.stretch.purpose != ROOMS or skipped or self._is_unreadable(name, index):
            return False
        self.batch.add("messages.skipped.room-failed", -1)
        self.batch.add("files.skipped.room-failed", -files)
        return True

    def _leave_failure(self, known: dict[str, tuple[int, bool]], failure: BadRecord) -> bool:
        place = stored(failure.place)
        one = _ONE_RECORD.fullmatch(place)
        if self.stretch.purpose == ENTRY:
            if place == self.stretch.place:
                self.as_before.append(failure)
                return False
            name, first = Stretch(ENTRY, [], 0, place).entry
            if one:
                name, first = one[1], int(one[2])
            return self._is_of_entry(name, first) and self._add_new(0)
        if not one:
            return False
        if place in known:
            return self._settle(known, place, 0)
        if self.stretch.purpose == ROOMS:
            self.batch.add("messages.skipped.room-failed", -1)
            return True
        return False

    def _is_of_entry(self, name: str, index: int) -> bool:
        entry, first = self.stretch.entry
        return stored(name) == entry and index >= first

    def _is_unreadable(self, name: str, index: int) -> bool:
        first = self.retry.unreadable.get(stored(name))
        return first is not None and index >= first

    def _add_new(self, files: int) -> bool:
        self.batch.add("messages.total")
        self.batch.add("files.total", files)
        return True

    def _settle(self, known: dict[str, tuple[int, bool]], place: str, files: int) -> bool:
        """A failed record. What it carries was not counted, as nobody could tell."""
        key, retrying = known[place]
        if retrying:
            self.settled.append(key)
            self.batch.add("files.total", files)
        return retrying


def place_of(name: str, index: int) -> str:
    return stored(f"{name}[{index}]")


def stored(place: str) -> str:
    """A place as `ImportFailure` has it."""
    return short_place(repair_text(place))
