"""The contract of writers: rows of the hot path into tables, around the ORM, inside the caller's transaction.

What a conflict changes is one rule for all of them (`merge.py`), and so is what they count: the
database's own answer, never what was sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import connection


class MessageRow(NamedTuple):
    """One message with our keys, in the order of the insert's columns.

    Times are in the database's own form (`Writer.moment`), JSON is text: nothing is left to convert
    where each microsecond counts half a million times.
    """

    room_id: int
    author_id: int
    source_id: str
    sent_at: Any
    text: str
    type: str
    alias: str
    thread_source_id: str
    edited_at: Any
    edited_by: str
    reactions: str
    mentions: str
    attachments: str
    operation_id: int


class FileRow(NamedTuple):
    """One file of the message `(room_id, message_source_id)`, which is there already."""

    room_id: int
    message_source_id: str
    source_id: str
    name: str
    mime_type: str
    size: int
    url: str
    status: str
    external: bool
    problem: str


class Writer(ABC):
    """Writes for one operation, which every row it creates is marked with."""

    def __init__(self, operation_id: int) -> None:
        self.operation_id = operation_id

    @staticmethod
    @abstractmethod
    def moment(at: int) -> Any:
        """Microseconds since the epoch as this database takes a time; such values compare as times do."""

    @abstractmethod
    def write_messages(self, rows: Sequence[MessageRow]) -> Counter[str]:
        """Insert `rows`, merge those that are there already. Counts: `created`, `updated`,
        `skipped.unchanged`, and `skipped.duplicate` for one that this operation brought before."""

    @abstractmethod
    def write_files(self, rows: Sequence[FileRow]) -> Counter[str]:
        """Insert `rows`; one that is there stays as it is. Counts: `created`, `skipped.unchanged`."""

    @abstractmethod
    def write_memberships(self, room_id: int, user_ids: Sequence[int]) -> int:
        """Let users into a room; how many were not in it yet."""


def rows_of(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())
