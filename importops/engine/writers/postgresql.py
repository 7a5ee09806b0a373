"""The PostgreSQL writer: COPY into a temporary table, and from there INSERT … ON CONFLICT.

What comes in passes through tables of the connection's own, which are empty again after each
transaction. Rows are inserted in the order of their keys, rooms first, by everybody: so of two workers
that bring the same messages one waits for the other, and never both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
from django.db import connection
from django.db.transaction import TransactionManagementError

from importops.engine.rows import FileRow, MessageRow, Row, moment_text, reactions_json
from importops.engine.writers.base import Writer, rows_of, update_messages
from importops.engine.writers.merge import Existing, merge

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROOM, _SOURCE_ID = MessageRow._fields.index("room_id"), MessageRow._fields.index("source_id")
_KEY = itemgetter(_ROOM, _SOURCE_ID)
_COLUMNS = ", ".join(MessageRow._fields)
_TYPES = {
    "room_id": "bigint",
    "author_id": "bigint",
    "operation_id": "bigint",
    # Without a zone: our text is in UTC whatever the session's is.
    "sent_at": "timestamp",
    "edited_at": "timestamp",
    "reactions": "jsonb",
    "mentions": "jsonb",
    "attachments": "jsonb",
    "size": "bigint",
    "external": "boolean",
}


def temporary_table(name: str, fields: Sequence[str]) -> str:
    """Statements after which the table is there and empty, whatever was rolled back or reconnected
    since the last batch. (Empty it is already, unless several batches share a transaction.)"""
    columns = ", ".join(f"{field} {_TYPES.get(field, 'text')}" for field in fields)
    return (
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} (position integer, {columns}) "  # noqa: S608
        f"ON COMMIT DELETE ROWS; DELETE FROM {name}"
    )


_INCOMING_MESSAGES = temporary_table("importops_incoming_message", MessageRow._fields)
_INCOMING_FILES = temporary_table("importops_incoming_file", FileRow._fields)

_INSERT_MESSAGES = f"""
    INSERT INTO importops_message ({_COLUMNS})
    SELECT {_COLUMNS.replace("sent_at", "sent_at AT TIME ZONE 'UTC'").replace("edited_at", "edited_at AT TIME ZONE 'UTC'")}
    FROM importops_incoming_message ORDER BY position
    ON CONFLICT (room_id, source_id) DO NOTHING
    RETURNING room_id, source_id
"""  # noqa: S608
_EXISTING = """
    SELECT source_id, id, operation_id, text, thread_source_id, edited_at, edited_by,
        reactions::text, mentions::text, attachments::text
    FROM importops_message WHERE room_id = %s AND source_id = ANY(%s) ORDER BY id FOR UPDATE
"""
_UPDATE_MESSAGE = """
    UPDATE importops_message SET text = %s, thread_source_id = %s,
        edited_at = %s::timestamp AT TIME ZONE 'UTC', edited_by = %s, reactions = %s::jsonb,
        mentions = %s::jsonb, attachments = %s::jsonb
    WHERE id = %s
"""
# LIMIT keeps it a look-up a file: the planner knows nothing of a table that was filled just now, and
# would rather read all messages than believe that it is small.
_INSERT_FILES = """
    INSERT INTO importops_file (message_id, source_id, name, mime_type, size, url, status,
        external, problem, content, operation_id)
    SELECT message.id, f.source_id, f.name, f.mime_type, f.size, f.url, f.status,
        f.external, f.problem, '', %s
    FROM importops_incoming_file f CROSS JOIN LATERAL (
        SELECT id FROM importops_message m
        WHERE m.room_id = f.room_id AND m.source_id = f.message_source_id LIMIT 1
    ) message
    ORDER BY f.position
    ON CONFLICT (message_id, source_id) DO NOTHING
"""
_INSERT_MEMBERSHIPS = """
    INSERT INTO importops_membership (room_id, user_id, operation_id)
    SELECT %s, user_id, %s FROM unnest(%s::bigint[]) AS user_id ORDER BY user_id
    ON CONFLICT (room_id, user_id) DO NOTHING
"""


def copy_in(table: str, prepare: str, rows: Iterable[Sequence[Any]]) -> None:
    """Put `rows`, each with its position before it, into the temporary table."""
    if not connection.in_atomic_block:
        # The table would be empty again before the next statement.
        raise TransactionManagementError("A writer works inside of its caller's transaction.")
    with closing(connection.cursor()) as cursor:
        cursor.execute(prepare)
        with (
            connection.wrap_database_errors,
            cursor.cursor.copy(f"COPY {table} FROM STDIN") as copy,
        ):
            for position, row in enumerate(rows):
                copy.write_row((position, *row))


class PostgresqlWriter(Writer):
    def write_messages(self, rows: Sequence[Row]) -> Counter[str]:
        # Stable: of two with one key the first one in the export stays the first.
        rows = sorted(rows, key=_KEY)
        copy_in("importops_incoming_message", _INCOMING_MESSAGES, rows)
        fresh = set(rows_of(_INSERT_MESSAGES, []))
        result = Counter(created=len(fresh))
        if len(fresh) < len(rows):
            result.update(self._merge(without_first(rows, fresh)))
        return +result

    def _merge(self, rows: Iterable[MessageRow]) -> Counter[str]:
        """Merge `rows`, whose messages are all there by now, in the order of their keys."""
        result: Counter[str] = Counter()
        changed: list[Existing] = []
        for room_id, group in groupby(rows, key=attrgetter("room_id")):
            of_room = list(group)
            there = self._existing(room_id, [row.source_id for row in of_room])
            for row in of_room:
                existing = there[row.source_id]
                is_changed = merge(existing, row)
                if existing.operation_id == self.operation_id:
                    result["skipped.duplicate"] += 1
                else:
                    result["updated" if is_changed else "skipped.unchanged"] += 1
            changed += [row for row in there.values() if row.changed]
        update_messages(_UPDATE_MESSAGE, changed)
        return result

    def _existing(self, room_id: int, source_ids: list[str]) -> dict[str, Existing]:
        return {
            source_id: Existing(
                key,
                operation_id,
                text,
                thread,
                None if edited_at is None else moment_text(microseconds(edited_at)),
                editor,
                own_form(reactions),
                mentions,
                attachments,
            )
            for (
                source_id,
                key,
                operation_id,
                text,
                thread,
                edited_at,
                editor,
                reactions,
                mentions,
                attachments,
            ) in rows_of(_EXISTING, [room_id, source_ids])
        }

    def write_files(self, rows: Sequence[Row]) -> Counter[str]:
        if not rows:
            return Counter()
        in_order = sorted(rows, key=itemgetter(0, 1, 2))
        copy_in("importops_incoming_file", _INCOMING_FILES, in_order)
        created = execute(_INSERT_FILES, [self.operation_id])
        return +Counter({"created": created, "skipped.unchanged": len(rows) - created})

    def write_memberships(self, room_id: int, user_ids: Sequence[int]) -> int:
        if not user_ids:
            return 0
        return execute(_INSERT_MEMBERSHIPS, [room_id, self.operation_id, list(user_ids)])


def without_first(rows: Iterable[Row], created: set[tuple[Any, ...]]) -> Iterable[MessageRow]:
    """`rows` without those that were created: the first of each key in `created`."""
    for row in rows:
        if (key := _KEY(row)) in created:
            created.remove(key)
        else:
            yield MessageRow._make(row)


def execute(statement: str, parameters: Sequence[Any]) -> int:
    """How many rows `statement` wrote."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def own_form(reactions: str) -> str:
    """PostgreSQL's text of a reactions column in the form that `merge` compares."""
    if reactions == "{}":
        return reactions
    return reactions_json(
        (name, reaction["usernames"]) for name, reaction in msgspec.json.decode(reactions).items()
    )
