"""The PostgreSQL writer: multi-row INSERT … ON CONFLICT for messages, the ORM for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

import msgspec

from importops.engine.writers.base import FileRow, MessageRow, Writer, rows_of
from importops.engine.writers.merge import Existing, merge, reactions_json
from importops.models import File, Membership, Message

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AT_ONCE = 1000

_COLUMNS = ", ".join(MessageRow._fields)
_MARKS = f"({', '.join(['%s'] * len(MessageRow._fields))})"


def as_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class PostgresqlWriter(Writer):
    @staticmethod
    def moment(at: int) -> datetime:
        return EPOCH + timedelta(microseconds=at)

    def write_messages(self, rows: Sequence[MessageRow]) -> Counter[str]:
        result: Counter[str] = Counter()
        by_room = sorted(rows, key=attrgetter("room_id"))
        for room_id, group in groupby(by_room, key=attrgetter("room_id")):
            result.update(self._write_room(room_id, list(group)))
        return result

    def _write_room(self, room_id: int, rows: list[MessageRow]) -> Counter[str]:
        first = {row.source_id: row for row in reversed(rows)}
        fresh = self._insert(list(first.values())[::-1])
        result = Counter(created=len(fresh))
        again = [
            row for row in rows if row.source_id not in fresh or row is not first[row.source_id]
        ]
        if not again:
            return +result
        there = self._existing(room_id, [row.source_id for row in again])
        for row in again:
            existing = there[row.source_id]
            ours = existing.operation_id == self.operation_id
            changed = merge(existing, row)
            if ours:
                result["skipped.duplicate"] += 1
            else:
                result["updated" if changed else "skipped.unchanged"] += 1
        self._update([row for row in there.values() if row.changed])
        return +result

    def _insert(self, rows: Sequence[MessageRow]) -> set[str]:
        """Insert those that are not there yet, also not by a worker that is about to commit them;
        the source ids of what was inserted."""
        fresh: set[str] = set()
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            statement = (
                f"INSERT INTO importops_message ({_COLUMNS}) "  # noqa: S608
                f"VALUES {', '.join([_MARKS] * len(some))} "
                "ON CONFLICT (room_id, source_id) DO NOTHING RETURNING source_id"
            )
            fresh.update(key for (key,) in rows_of(statement, list(chain.from_iterable(some))))
        return fresh

    def _existing(self, room_id: int, source_ids: list[str]) -> dict[str, Existing]:
        return {
            message.source_id: Existing(
                id=message.pk,
                operation_id=message.operation_id,
                text=message.text,
                thread_source_id=message.thread_source_id,
                edited_at=message.edited_at,
                edited_by=message.edited_by,
                reactions=reactions_json(
                    (name, reaction["usernames"]) for name, reaction in message.reactions.items()
                ),
                mentions=as_text(message.mentions),
                attachments=as_text(message.attachments),
            )
            for message in Message.objects.select_for_update()
            .filter(room=room_id, source_id__in=source_ids)
            .order_by("pk")
        }

    def _update(self, changed: list[Existing]) -> None:
        Message.objects.bulk_update(
            [
                Message(
                    pk=row.id,
                    text=row.text,
                    thread_source_id=row.thread_source_id,
                    edited_at=row.edited_at,
                    edited_by=row.edited_by,
                    reactions=msgspec.json.decode(row.reactions),
                    mentions=msgspec.json.decode(row.mentions),
                    attachments=msgspec.json.decode(row.attachments),
                )
                for row in changed
            ],
            [
                "text",
                "thread_source_id",
                "edited_at",
                "edited_by",
                "reactions",
                "mentions",
                "attachments",
            ],
            batch_size=200,
        )

    def write_files(self, rows: Sequence[FileRow]) -> Counter[str]:
        result: Counter[str] = Counter()
        for room_id, group in groupby(rows, key=attrgetter("room_id")):
            of_room = list(group)
            keys = dict(
                Message.objects.filter(
                    room=room_id, source_id__in=[row.message_source_id for row in of_room]
                ).values_list("source_id", "pk")
            )
            wanted = {(keys[row.message_source_id], row.source_id): row for row in of_room}
            there = set(
                File.objects.filter(message__in=keys.values()).values_list(
                    "message_id", "source_id"
                )
            )
            fresh = {key: row for key, row in wanted.items() if key not in there}
            File.objects.bulk_create(
                File(
                    message_id=message_id,
                    source_id=row.source_id,
                    name=row.name,
                    mime_type=row.mime_type,
                    size=row.size,
                    url=row.url,
                    status=row.status,
                    external=row.external,
                    problem=row.problem,
                    operation_id=self.operation_id,
                )
                for (message_id, _), row in fresh.items()
            )
            result["created"] += len(fresh)
            result["skipped.unchanged"] += len(of_room) - len(fresh)
        return +result

    def write_memberships(self, room_id: int, user_ids: Sequence[int]) -> int:
        there = set(
            Membership.objects.filter(room=room_id, user__in=user_ids).values_list(
                "user_id", flat=True
            )
        )
        fresh = sorted(set(user_ids) - there)
        Membership.objects.bulk_create(
            (
                Membership(room_id=room_id, user_id=user_id, operation_id=self.operation_id)
                for user_id in fresh
            ),
            ignore_conflicts=True,
        )
        return len(fresh)
