"""Messages of a dry run: what preparing found where that is enough, and the heads of the others.

A message that is here already is counted as `existing`: whether the import would leave it as it is, or
bring a later edit or new reactions, is not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef

from importops.engine.reading import DateRange, Sieve
from importops.engine.resolve_rooms import RoomMatch
from importops.engine.slices import Batch, Work
from importops.engine.sources import open_source
from importops.engine.writers.base import rows_of
from importops.importers.base import Span
from importops.models import File, ImportSlice, Message, Room, StagedRecord
from importops.records import Chunk, MessageRecord

KEYS_AT_ONCE = 900
COMMIT_AFTER = 40_000
"""Messages read between two checkpoints."""
MOST_WATCHED = 500_000
"""Messages remembered to find those that are in the export twice; about 60 MB."""
FAILED = 0


@dataclass(slots=True)
class RoomToRead:
    """A room whose messages preparing may not have counted well enough."""

    staged: int
    key: int
    """Of the room that is here; below zero one that is not; `FAILED` one that cannot be imported."""
    found: dict[str, Any]
    parts: list[int]
    watched: bool
    """Whether some message may be in it twice."""


class Reading:
    """Goes through the rooms of a dry run: decides about the messages of most, lists the others."""

    def __init__(self, dates: DateRange) -> None:
        self.dates = dates
        self._rooms: list[RoomToRead] = []
        self._keys: dict[int, int] = {}
        """Identity of a room that is not there -> its number."""

    def add(self, row: StagedRecord, match: RoomMatch, batch: Batch) -> None:
        found = row.found
        if not found.get("messages"):
            return
        if match.problem:
            key = FAILED
        elif match.room.pk is not None:
            key = match.room.pk
        else:
            key = self._keys.setdefault(id(match.room), -row.pk)
        exact = bool(found.get("exact"))
        fate = "room-failed" if key == FAILED else self._dates_say(found)
        if exact and fate:
            settle(found, fate, batch)
            return
        self._rooms.append(RoomToRead(row.pk, key, found, found.get("parts", []), not exact))

    def _dates_say(self, found: Mapping[str, Any]) -> str:
        """`outside-dates` when every message is; '' when some may not be."""
        first, last = found["first_at"], found["last_at"]
        if first is None or not self.dates:
            return ""
        since, until = self.dates.since, self.dates.until
        if (since is not None and last < since) or (until is not None and first >= until):
            return "outside-dates"
        return ""

    def settle(self) -> Batch:
        """Count what needs no reading: new rooms, as long as dates do not cut through them, and no
        other room of the export becomes the same one."""
        batch = Batch()
        shared = Counter(room.key for room in self._rooms)
        inhabited = self._inhabited()
        remaining = []
        for room in self._rooms:
            room.watched = room.watched or shared[room.key] > 1
            cut = self.dates and not self._holds_all(room.found)
            if room.watched or cut or room.key in inhabited:
                remaining.append(room)
            else:
                settle(room.found, "", batch)
        self._rooms = remaining
        return batch

    def _holds_all(self, found: Mapping[str, Any]) -> bool:
        first, last = found["first_at"], found["last_at"]
        return first is None or (self.dates.holds(first) and self.dates.holds(last))

    def _inhabited(self) -> set[int]:
        """Rooms that have messages already."""
        keys = sorted({room.key for room in self._rooms if room.key > 0})
        any_message = Message.objects.filter(room=OuterRef("pk"))
        inhabited: set[int] = set()
        for start in range(0, len(keys), KEYS_AT_ONCE):
            rooms = Room.objects.filter(Exists(any_message), pk__in=keys[start:][:KEYS_AT_ONCE])
            inhabited.update(rooms.values_list("pk", flat=True))
        return inhabited

    def spans(self, parts: Sequence[ImportSlice]) -> list[tuple[Any, int, int]]:
        """Slices for what has to be read: the parts that preparing counted, those in one piece that
        have a room in common in which a message may be twice."""
        if not self._rooms:
            return []
        every = [part.number for part in parts]
        wanted: set[int] = set()
        joints: set[int] = set()  # a number stands for the joint between it and the next one
        together: dict[int, list[int]] = {}
        for room in self._rooms:
            wanted.update(room.parts or every)
            if room.watched:
                together.setdefault(room.key, []).extend(room.parts or every)
        for numbers in together.values():
            joints.update(range(min(numbers), max(numbers)))
        groups: list[list[ImportSlice]] = []
        for part in parts:
            if groups and part.number - 1 in joints and groups[-1][-1].number == part.number - 1:
                groups[-1].append(part)
            elif part.number in wanted or part.number in joints:
                groups.append([part])
        return [self._span(group) for group in groups]

    def _span(self, group: list[ImportSlice]) -> tuple[Any, int, int]:
        numbers = {part.number for part in group}
        rooms = [
            [room.staged, room.key, int(room.watched)]
            for room in self._rooms
            if not room.parts or numbers.intersection(room.parts)
        ]
        start = {"cursor": group[0].start, "rooms": rooms}
        return start, group[-1].stop, sum(part.weight for part in group)


def settle(found: Mapping[str, Any], fate: str, batch: Batch) -> None:
    """Count a room's messages as what preparing found: the good ones created, unless their `fate` is to
    be skipped for that reason."""
    good, files = found["messages"] - found["failed"], found["files"] - found["skipped_files"]
    batch.add("messages.failed", found["failed"])
    for reason, number in found["skipped"].items():
        batch.add(f"messages.skipped.{reason}", number)
        good -= number
    batch.add("files.skipped.message-skipped", found["skipped_files"])
    outcome = f"skipped.{fate}" if fate else "created"
    batch.add(f"messages.{outcome}", good)
    batch.add(f"files.{outcome}", files)


def read_heads(work: Work, dates: DateRange) -> None:
    """Read one stretch. Where messages may be twice, only the end is a checkpoint."""
    start = work.slice.start
    rooms = {staged: (key, bool(watched)) for staged, key, watched in start["rooms"]}
    folders, keys = {}, {}
    for row in StagedRecord.objects.filter(pk__in=rooms).iterator():
        folders[row.data["folder"]] = row.import_id
        keys[row.import_id] = rooms[row.pk]
    comparing = Comparing(keys, Sieve(dates))
    may_stop = not any(watched for _, watched in keys.values())
    span = Span(start["cursor"], work.slice.stop, work.slice.weight)
    last = None
    with open_source(work.operation) as source:
        for chunk in source.heads(span, work.cursor or span.start, folders):
            comparing.take(chunk)
            last = chunk.cursor
            if comparing.taken >= COMMIT_AFTER:
                with work.batch() as batch:
                    if may_stop:
                        batch.cursor, batch.tally = last, comparing.give()
                comparing.taken = 0
    if last is not None:
        with work.batch() as batch:
            batch.cursor, batch.tally = last, comparing.give()


class Comparing:
    """Compares messages of the export with those that are here."""

    def __init__(self, rooms: Mapping[str, tuple[int, bool]], sieve: Sieve) -> None:
        """`rooms`: import id -> key, and whether it is to be watched for messages that come twice."""
        self.rooms = rooms
        self.sieve = sieve
        self.taken = 0
        self._batch = Batch()
        self._seen: set[tuple[int, str]] = set()
        self._seen_files: set[tuple[int, str, str]] = set()

    def give(self) -> Counter[str]:
        """What was counted since the last time."""
        tally, self._batch = self._batch.tally, Batch()
        return tally

    def take(self, chunk: Chunk) -> None:
        key, watched = self.rooms[chunk.room]
        batch = self._batch
        records = self.sieve.sift(chunk, batch, room_failed=key == FAILED)
        # They are kept already: preparing found them.
        batch.add("messages.failed", len(batch.failures))
        batch.failures.clear()
        self.taken += chunk.read // 1000 + len(records) + 1
        there = existing_messages(key, [record.source_id for record in records])
        batch.add("messages.skipped.existing", sum(r.source_id in there for r in records))
        fresh = [record for record in records if record.source_id not in there]
        if watched:
            self._watch(key, fresh)
        else:
            batch.add("messages.created", len(fresh))
        with_files = [record for record in records if record.files]
        if with_files:
            self._take_files(key, with_files, there, watched)

    def _watch(self, key: int, fresh: Iterable[MessageRecord]) -> None:
        for record in fresh:
            seen = (key, record.source_id)
            if seen in self._seen:
                self._batch.add("messages.skipped.duplicate")
                continue
            self._batch.add("messages.created")
            if len(self._seen) < MOST_WATCHED:
                self._seen.add(seen)

    def _take_files(
        self, key: int, records: list[MessageRecord], there: set[str], watched: bool
    ) -> None:
        known = existing_files(key, [r.source_id for r in records if r.source_id in there])
        for record in records:
            for file in record.files or ():
                seen = (key, record.source_id, file.source_id)
                if seen[1:] in known or (watched and seen in self._seen_files):
                    self._batch.add("files.skipped.unchanged")
                    continue
                self._batch.add("files.created")
                if watched and len(self._seen_files) < MOST_WATCHED:
                    self._seen_files.add(seen)


def existing_messages(room: int, source_ids: Sequence[str]) -> set[str]:
    """Those of `source_ids` that are in a room."""
    there: set[str] = set()
    if room <= 0:
        return there
    for start in range(0, len(source_ids), KEYS_AT_ONCE):
        some = source_ids[start : start + KEYS_AT_ONCE]
        marks = ", ".join(["%s"] * len(some))
        rows = rows_of(
            "SELECT source_id FROM importops_message "  # noqa: S608
            f"WHERE room_id = %s AND source_id IN ({marks})",
            [room, *some],
        )
        there.update(source_id for (source_id,) in rows)
    return there


def existing_files(room: int, source_ids: Sequence[str]) -> set[tuple[str, str]]:
    there: set[tuple[str, str]] = set()
    for start in range(0, len(source_ids), KEYS_AT_ONCE):
        some = source_ids[start : start + KEYS_AT_ONCE]
        files = File.objects.filter(message__room=room, message__source_id__in=some)
        there.update(files.values_list("message__source_id", "source_id"))
    return there
