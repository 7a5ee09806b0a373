"""Rooms of two users who become one.

A direct room is its members: with them its key changes, and where a direct room with the resulting members
is there already the two are made one. A message that is in both is kept once, with the later edit and all
reactions and files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from django.db import connection

from importops.engine.contents import Content, Contents
from importops.engine.rows import reactions_json
from importops.engine.slices import Batch, Work
from importops.engine.undoing import delete_rows
from importops.models import File, Membership, Message, Room, RoomImportId, User

ROOMS_AT_ONCE = 200
MESSAGES_AT_ONCE = 500
_UNITE = """
    UPDATE importops_message SET text = %s, thread_source_id = %s, edited_at = %s, edited_by = %s,
        reactions = %s, mentions = %s, attachments = %s
    WHERE id = %s
"""


class MergedRooms:
    def __init__(self, work: Work, contents: Contents, duplicate: User, into: User) -> None:
        self.work = work
        self.contents = contents
        self.duplicate = duplicate
        self.into = into

    def merge(self) -> None:
        theirs = Membership.objects.filter(user=self.duplicate)
        while rooms := list(
            theirs.exclude(room__type=Room.Type.DIRECT).values_list("room_id", flat=True)[
                :ROOMS_AT_ONCE
            ]
        ):
            with self.work.batch() as batch:
                self._change_member(rooms)
                self._count(batch, "updated", len(rooms))
        while membership := theirs.select_related("room").first():
            self._merge_direct(membership.room)

    @staticmethod
    def _count(batch: Batch, outcome: str, number: int = 1) -> None:
        batch.add("channels.total", number)
        batch.add(f"channels.{outcome}", number)

    def _change_member(self, rooms: Iterable[int]) -> None:
        """The one in place of the other; where both are members, one membership goes."""
        both = Membership.objects.filter(user=self.into, room__in=rooms).values_list(
            "room_id", flat=True
        )
        theirs = Membership.objects.filter(user=self.duplicate, room__in=rooms)
        delete_rows(theirs.filter(room__in=list(both)))
        theirs.update(user=self.into)

    def _merge_direct(self, room: Room) -> None:
        members = set(room.memberships.values_list("user_id", flat=True))
        key = Room.direct_key_of(members - {self.duplicate.pk} | {self.into.pk})
        there = Room.objects.filter(direct_key=key).exclude(pk=room.pk).first()
        if there is None:
            with self.work.batch() as batch:
                self._change_member([room.pk])
                Room.objects.filter(pk=room.pk).update(direct_key=key)
                self._count(batch, "updated")
            return
        while moving := list(
            Message.objects.filter(room=room).order_by("source_id")[:MESSAGES_AT_ONCE]
        ):
            with self.work.batch() as batch:
                self._move_messages(moving, there, batch)
                batch.cursor = [False, self.contents.cursor()]
            self.contents.committed()
            self.contents.finish(self.work, [False])
        with self.work.batch() as batch:
            RoomImportId.objects.filter(room=room).update(room=there)
            delete_rows(Membership.objects.filter(room=room))
            delete_rows(Room.objects.filter(pk=room.pk))
            self._count(batch, "removed")

    def _move_messages(self, moving: list[Message], there: Room, batch: Batch) -> None:
        ids = [message.source_id for message in moving]
        known = {
            message.source_id: message
            for message in Message.objects.filter(room=there, source_id__in=ids)
        }
        twice = [
            (message, known[message.source_id]) for message in moving if message.source_id in known
        ]
        unite(twice)
        self._unite_files(twice, batch)
        delete_rows(Message.objects.filter(pk__in=[message.pk for message, _ in twice]))
        fresh = [message.pk for message in moving if message.source_id not in known]
        Message.objects.filter(pk__in=fresh).update(room=there)
        batch.add("messages.total", len(moving))
        batch.add("messages.updated", len(fresh))
        batch.add("messages.removed", len(twice))

    def _unite_files(self, twice: list[tuple[Message, Message]], batch: Batch) -> None:
        kept_of = {message.pk: kept.pk for message, kept in twice}
        there = set(
            File.objects.filter(message__in=kept_of.values()).values_list("message_id", "source_id")
        )
        for file in File.objects.filter(message__in=kept_of).order_by("pk"):
            kept = kept_of[file.message_id]
            if (kept, file.source_id) not in there:
                File.objects.filter(pk=file.pk).update(message=kept)
                continue
            if file.content:
                batch.add("files.total")  # what goes from storage
                place = f"file {file.source_id}"
                self.contents.add(Content("file", "files", place, str(file.content.name)))
            delete_rows(File.objects.filter(pk=file.pk))


def unite(twice: list[tuple[Message, Message]]) -> None:
    """What the first of each pair knows better goes into the second, as when one is imported over the
    other (`writers/merge.py`)."""
    for message, kept in twice:
        if message.edited_at and (kept.edited_at is None or message.edited_at > kept.edited_at):
            for name in ("text", "edited_at", "edited_by", "mentions", "attachments"):
                setattr(kept, name, getattr(message, name))
        kept.thread_source_id = kept.thread_source_id or message.thread_source_id
        for name, reaction in message.reactions.items():
            known = kept.reactions.get(name, {"usernames": []})["usernames"]
            kept.reactions[name] = {"usernames": [*known, *reaction["usernames"]]}
    with connection.cursor() as cursor:
        cursor.executemany(_UNITE, [_row(kept) for _, kept in twice])


def _row(message: Message) -> tuple[Any, ...]:
    return (
        message.text,
        message.thread_source_id,
        connection.ops.adapt_datetimefield_value(message.edited_at),
        message.edited_by,
        reactions_json((name, set(r["usernames"])) for name, r in message.reactions.items()),
        msgspec.json.encode(message.mentions).decode(),
        msgspec.json.encode(message.attachments).decode(),
        message.pk,
    )
