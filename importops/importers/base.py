"""The contract of importers: a source in, typed records and their places out; no database, no Django.

Reading happens in two passes, both resumable at any cursor:

1. `workspace()` yields users and rooms; `spans()` cuts the messages into stretches that any number of
   workers may read in parallel; `scan()` counts them.
2. `messages()` reads a span again, with the names that users and rooms have here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar, Self

from importops.limits import Limits
from importops.records import (
    BadRecord,
    Chunk,
    Cursor,
    RoomRecord,
    RoomScan,
    Scan,
    UserRecord,
)

__all__ = [
    "Directory",
    "FileImporter",
    "Limits",
    "RoomScan",
    "Span",
]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the source that one slice covers."""

    start: Cursor
    """Where reading begins."""
    stop: int
    """First element of a cursor that is past the end."""
    weight: int
    """Unpacked bytes, for progress."""


@dataclass(frozen=True, slots=True)
class Directory:
    """What the engine knows when messages are read. Mappings may look things up lazily."""

    usernames: Mapping[str, str] = field(default_factory=dict)
    """Import id of a user -> username here, or the export's own where that user is not imported."""
    room_names: Mapping[str, str] = field(default_factory=dict)
    """Import id of a room -> its name here."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """`RoomRecord.folder` -> import id, of the rooms that are wanted; others are passed over unread."""


class FileImporter(ABC):
    """One kind of export, opened. Not safe to share between threads."""

    key: ClassVar[str]
    """`importerKey` on the wire."""
    name: ClassVar[str]
    """Display name on the wire (`type` of an operation)."""
    family: ClassVar[str]
    """Default namespace of import ids (`slack` and `slack-users` share one)."""
    visible: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def open(cls, source: BinaryIO, index_path: Path, limits: Limits) -> Self:
        """Open the export in `source`, which is seekable, gives as many bytes as asked for except at
        its end, and stays the caller's to close. It may be far away: read in large pieces, in order.
        What has to be derived from it once (a zip's directory) is written to `index_path`,
        atomically, and read from there the next time.

        Raises `SourceError` when the file as a whole is not an export of this kind.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of what was opened on top of the source."""

    @abstractmethod
    def workspace(self) -> Iterator[UserRecord | RoomRecord | BadRecord]:
        """Users first, then rooms, in archive order, always the same order for the same file.

        Raises `SourceError` when there is nothing in it that could be imported.
        """

    @abstractmethod
    def spans(self) -> Iterator[Span]:
        """Stretches of messages, in the order they should be written."""

    def spans_of(self, folders: Iterable[str], places: Iterable[str]) -> Iterator[Span]:
        """For a retry: stretches with all messages of `folders` (`RoomRecord.folder`), and those with the
        entries that `places` are in, whatever else is in them. Where a source cannot find them by
        that, all of it."""
        return self.spans()

    @abstractmethod
    def scan(
        self,
        span: Span,
        cursor: Cursor,
        folders: Mapping[str, str],
        known_users: Container[str],
    ) -> Iterator[Scan]:
        """Count from `cursor` to the end of `span`. `folders` maps all rooms, `known_users` are
        import ids of users that `workspace()` gave. Yields at least once every few seconds."""

    @abstractmethod
    def messages(self, span: Span, cursor: Cursor, directory: Directory) -> Iterator[Chunk]:
        """Read from `cursor` to the end of `span`, at most about a thousand records a chunk.

        Never raises for what a record or an entry holds: that becomes `Chunk.failures`, the same
        ones that `scan` reported.
        """

    @abstractmethod
    def heads(self, span: Span, cursor: Cursor, folders: Mapping[str, str]) -> Iterator[Chunk]:
        """What `messages` gives, but of each record no more than `source_id`, `sent_at` and its files.
        `folders` are those of the `Directory`. For dry runs, so it should cost what `scan` costs."""

    @abstractmethod
    def notes(self) -> list[str]:
        """Sentences about the export as a whole that a person should know (after `workspace()`):
        entries ignored, names read in another encoding."""
