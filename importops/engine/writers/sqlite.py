"""The SQLite writer: many rows a statement, in archive order; conflicts are looked at only when there are any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter

from django.db import connection

from importops.engine.rows import MessageRow, Row
from importops.engine.writers.base import Writer, rows_of, update_messages
from importops.engine.writers.merge import Existing, merge

MOST_PARAMETERS = 900
ROWS_A_STATEMENT = 50
"""One INSERT of 50 rows takes two thirds of the time of 50 (docs/benchmarks.md)."""

_COLUMNS = ", ".join(MessageRow._fields)
_UPDATE_MESSAGE = """
    UPDATE importops_message SET text = %s, thread_source_id = %s, edited_at = %s,
        edited_by = %s, reactions = %s, mentions = %s, attachments = %s
    WHERE id = %s
"""
_INSERT_FILE = """
    INSERT INTO importops_file (message_id, source_id, name, mime_type, size, url, status,
        external, problem, content, operation_id)
    SELECT id, %s, %s, %s, %s, %s, %s, %s, %s, '', %s
    FROM importops_message WHERE room_id = %s AND source_id = %s
    ON CONFLICT (message_id, source_id) DO NOTHING
"""
_INSERT_MEMBERSHIP = """
    INSERT INTO importops_membership (room_id, user_id, operation_id) VALUES (%s, %s, %s)
    ON CONFLICT (room_id, user_id) DO NOTHING
"""


@lru_cache(maxsize=ROWS_A_STATEMENT)
def insert_messages(rows: int) -> str:
    """The statement that inserts so many messages, with SQLite's own parameter marks."""
    marks = f"({', '.join('?' * len(MessageRow._fields))})"
    return (
        f"INSERT INTO importops_message ({_COLUMNS}) VALUES {', '.join([marks] * rows)} "  # noqa: S608
        "ON CONFLICT (room_id, source_id) DO NOTHING"
    )


class SqliteWriter(Writer):
    def write_messages(self, rows: Sequence[Row]) -> Counter[str]:
        before = rows_of("SELECT seq FROM sqlite_sequence WHERE name = 'importops_message'", [])
        created = 0
        with connection.wrap_database_errors:
            execute = connection.connection.execute
            for start in range(0, len(rows), ROWS_A_STATEMENT):
                some = rows[start : start + ROWS_A_STATEMENT]
                statement = insert_messages(len(some))
                created += execute(statement, list(chain.from_iterable(some))).rowcount
        if created == len(rows):
            return Counter(created=created)
        return self._merge(rows, last_before=before[0][0] if before else 0)

    def _merge(self, rows: Sequence[Row], last_before: int) -> Counter[str]:
        """Some of `rows` were there: find out which, and merge those."""
        result: Counter[str] = Counter()
        changed = []
        by_room = sorted(map(MessageRow._make, rows), key=attrgetter("room_id"))
        for room_id, group in groupby(by_room, key=attrgetter("room_id")):
            of_room = list(group)
            there = self._existing(room_id, [row.source_id for row in of_room])
            fresh = {key for key, row in there.items() if row.id > last_before}
            for row in of_room:
                if row.source_id in fresh:
                    fresh.remove(row.source_id)
                    result["created"] += 1
                    continue
                existing = there[row.source_id]
                ours = existing.operation_id == self.operation_id
                if not merge(existing, row):
                    result["skipped.duplicate" if ours else "skipped.unchanged"] += 1
                elif ours:
                    # Created, or counted as updated, by this operation already.
                    result["skipped.duplicate"] += 1
                else:
                    result["updated"] += 1
            changed += [row for row in there.values() if row.changed]
        update_messages(_UPDATE_MESSAGE, changed)
        return result

    def _existing(self, room_id: int, source_ids: Sequence[str]) -> dict[str, Existing]:
        found = {}
        for start in range(0, len(source_ids), MOST_PARAMETERS):
            some = source_ids[start : start + MOST_PARAMETERS]
            marks = ", ".join(["%s"] * len(some))
            for source_id, edited_at, *columns in rows_of(
                f"""SELECT source_id, CAST(edited_at AS TEXT), id, operation_id, text, thread_source_id,
                    edited_by, reactions, mentions, attachments
                FROM importops_message WHERE room_id = %s AND source_id IN ({marks})""",  # noqa: S608
                [room_id, *some],
            ):
                key, operation_id, text, thread, editor, *documents = columns
                found[source_id] = Existing(
                    key,
                    operation_id,
                    text,
                    thread,
                    edited_at,
                    editor,
                    *documents,
                )
        return found

    def write_files(self, rows: Sequence[Row]) -> Counter[str]:
        if not rows:
            return Counter()
        with connection.cursor() as cursor:
            cursor.executemany(
                _INSERT_FILE,
                [(*row[2:], self.operation_id, row[0], row[1]) for row in rows],
            )
            created = cursor.rowcount
        return +Counter({"created": created, "skipped.unchanged": len(rows) - created})

    def write_memberships(self, room_id: int, user_ids: Sequence[int]) -> int:
        if not user_ids:
            return 0
        with connection.cursor() as cursor:
            cursor.executemany(
                _INSERT_MEMBERSHIP,
                [(room_id, user_id, self.operation_id) for user_id in user_ids],
            )
            return int(cursor.rowcount)
