"""The contract of writers: rows of the hot path into tables, around the ORM, inside the caller's transaction.

What a conflict changes is one rule for all of them (`merge.py`), and so is what they count: the
database's own answer, never what was sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.db import connection

from importops.engine.rows import Row
from importops.engine.writers.merge import Existing


class Writer(ABC):
    """Writes for one operation, which every row it creates is marked with."""

    def __init__(self, operation_id: int) -> None:
        self.operation_id = operation_id

    @abstractmethod
    def write_messages(self, rows: Sequence[Row]) -> Counter[str]:
        """Insert `rows` (`MessageRow`s), merge those that are there already. Counts: `created`, `updated`,
        `skipped.unchanged`, and `skipped.duplicate` for one that this operation brought before."""

    @abstractmethod
    def write_files(self, rows: Sequence[Row]) -> Counter[str]:
        """Insert `rows` (`FileRow`s); one that is there stays as it is. Counts: `created`, `skipped.unchanged`."""

    @abstractmethod
    def write_memberships(self, room_id: int, user_ids: Sequence[int]) -> int:
        """Let users into a room; how many were not in it yet."""


def rows_of(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def update_messages(statement: str, changed: Sequence[Existing]) -> None:
    """Write what merging has changed; `statement` takes the columns in this order, the key last."""
    if not changed:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            statement,
            [
                (
                    row.text,
                    row.thread_source_id,
                    row.edited_at,
                    row.edited_by,
                    row.reactions,
                    row.mentions,
                    row.attachments,
                    row.id,
                )
                for row in changed
            ],
        )
