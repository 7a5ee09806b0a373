"""Reads whole Slack exports for tests, and holds every one of them to what must always be true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from importops.importers.base import Directory, Limits, Span
from importops.importers.slack import SlackImporter
from importops.records import (
    AuthorRecord,
    BadRecord,
    MessageRecord,
    RoomRecord,
    RoomScan,
    UserRecord,
)
from tests.exports import slack_room, slack_user, slack_zip


@dataclass
class Read:
    """All that is in an export."""

    users: list[UserRecord] = field(default_factory=list)
    rooms: list[RoomRecord] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)
    """Of users and rooms."""
    messages: list[MessageRecord] = field(default_factory=list)
    rooms_of: list[str] = field(default_factory=list)
    """The room of each message."""
    places: list[str] = field(default_factory=list)
    """The place of each message."""
    failures: list[BadRecord] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_files: int = 0
    repaired: int = 0
    counts: dict[str, RoomScan] = field(default_factory=dict)
    authors: dict[str, AuthorRecord] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def message(self) -> MessageRecord:
        (message,) = self.messages
        return message

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]

    @property
    def total(self) -> int:
        return sum(count.messages for count in self.counts.values())


@contextmanager
def opened(path: Path, limits: Limits | None = None) -> Iterator[SlackImporter]:
    with path.open("rb") as source:
        importer = SlackImporter.open(source, path.with_suffix(".index"), limits or Limits())
        try:
            yield importer
        finally:
            importer.close()


def read_export(path: Path, limits: Limits | None = None) -> Read:
    """Read the export at `path`; asserts that counting and importing agree."""
    with opened(path, limits) as importer:
        read = Read()
        for record in importer.workspace():
            if isinstance(record, UserRecord):
                read.users.append(record)
            elif isinstance(record, RoomRecord):
                read.rooms.append(record)
            else:
                read.bad.append(record)
        read.notes = importer.notes()
        directory = directory_of(read)
        known = set(directory.usernames)
        scan_failures = []
        for span in importer.spans():
            for scan in importer.scan(span, span.start, directory.folders, known):
                scan_failures += scan.failures
                read.authors |= scan.authors
                for room, count in scan.rooms.items():
                    _add(read.counts.setdefault(room, RoomScan()), count)
            _read_span(importer, span, directory, read)
        assert scan_failures == read.failures
        assert read.total == len(read.messages) + len(read.failures) + read.skipped.total()
        files = sum(len(message.files or ()) for message in read.messages)
        assert sum(c.files for c in read.counts.values()) == files + read.skipped_files
        return read


def directory_of(read: Read) -> Directory:
    """Users and rooms as they would be called if all of them were imported."""
    return Directory(
        usernames={user.import_ids[0]: user.username for user in read.users},
        room_names={room.import_ids[0]: room.name for room in read.rooms},
        folders={room.folder: room.import_ids[0] for room in read.rooms if room.folder},
    )


def _read_span(importer: SlackImporter, span: Span, directory: Directory, read: Read) -> None:
    for chunk in importer.messages(span, span.start, directory):
        assert len(chunk.records) <= 1000
        read.messages += chunk.records
        read.rooms_of += [chunk.room] * len(chunk.records)
        read.places += [chunk.place(i) for i in range(len(chunk.records))]
        read.failures += chunk.failures
        read.skipped.update(chunk.skipped)
        read.skipped_files += chunk.skipped_files
        read.repaired += chunk.repaired


def _add(total: RoomScan, more: RoomScan) -> None:
    total.messages += more.messages
    total.files += more.files
    for at in (more.first_at, more.last_at):
        if at is not None:
            total.first_at = at if total.first_at is None else min(total.first_at, at)
            total.last_at = at if total.last_at is None else max(total.last_at, at)


def read_messages(tmp_path: Path, messages: Any, **files: Any) -> Read:
    """Read an export of one room, `general`, and one day with these `messages`."""
    files.setdefault("users", [slack_user("U1", "ann"), slack_user("U2", "bob")])
    files.setdefault("channels", [slack_room("C1", "general", ["U1", "U2"])])
    path = slack_zip(
        tmp_path / "export.zip", messages={"general": {"2024-01-02": messages}}, **files
    )
    path.with_suffix(".index").unlink(missing_ok=True)
    return read_export(path)
