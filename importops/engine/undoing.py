"""Undo: removing what one import created, and nothing else.

A rollback is an operation of its own (`target` is what it takes back), so that it is claimed, fenced,
cancelled and resumed as an import is. First messages and files, then memberships and rooms, then users and
the ids that were added (`undoing_users.py`). Each looks at what the one before has left.

What a later import or a person uses stays, and is said (`undo_report.py`). Changes that the import made to
rows that were there before stay too: what they replaced is not known any more.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from importops.conf import conf
from importops.engine.contents import Content, Contents
from importops.engine.slices import Batch, Work
from importops.engine.stretches import Stretch, cut_rooms, stretches
from importops.engine.undo_report import kept
from importops.models import File, ImportOperation, Membership, Message, Room, RoomImportId, User
from importops.models.operations import WITHOUT_SOURCE
from importops.records import Cursor

ROOMS_AT_ONCE = 50


def plan_undo(target: ImportOperation) -> list[tuple[Cursor, int, int]]:
    """Slices of the first phase: rooms that hold, or may hold, what `target` created."""
    return cut_rooms(rooms_of(target))


def count_undo(target: ImportOperation) -> dict[str, int]:
    """How much `target` created: what will be removed, at most."""
    tally = target.tally
    return {
        "users.total": User.objects.filter(operation=target).count(),
        "channels.total": Room.objects.filter(operation=target).count(),
        "messages.total": tally.get("messages.created", 0),
        "files.total": tally.get("files.created", 0),
    }


def rooms_of(target: ImportOperation) -> QuerySet[Room]:
    """An import writes only into rooms that its source has an id for."""
    known = RoomImportId.objects.filter(source=target.source).values("room")
    return Room.objects.filter(Q(operation=target) | Q(pk__in=known))


def target_of(work: Work) -> ImportOperation:
    return ImportOperation.objects.get(undone_by=work.operation)


def later_than(target: ImportOperation) -> list[int]:
    """Imports of the same source that wrote after `target` had begun: they may have found people and
    rooms by the ids that it added."""
    others = ImportOperation.objects.filter(
        source=target.source, finished_at__gt=target.started_at, started_at__isnull=False
    ).exclude(importer_key__in=WITHOUT_SOURCE)
    return list(others.exclude(pk=target.pk).values_list("pk", flat=True))


def delete_rows(rows: QuerySet[Any]) -> int:
    """Delete in one statement, without looking for what refers to the rows; how many they were."""
    return int(rows._raw_delete(rows.db) or 0)


def undo_messages(work: Work) -> None:
    """Messages and files of a slice's rooms. Cursor: room, source id, contents to be deleted."""
    target = target_of(work)
    first, last = work.slice.start[0], work.slice.stop
    at, after, waiting = work.cursor or [first, None, []]
    contents = Contents(waiting)
    rooms = rooms_of(target).filter(pk__gte=at, pk__lte=last).order_by("pk")
    keys = list(rooms.values_list("pk", flat=True))
    for some in stretches(keys, conf().batch_rows, at=at, after=after):
        contents.delete_waiting(work)
        at, after = some[-1].room_id, some[-1].until
        with work.batch() as batch:
            contents.settle(batch)
            for stretch in some:
                _undo_stretch(stretch, target, batch, contents)
            batch.cursor = [at, after, contents.cursor()]
        contents.committed()
    contents.finish(work, [at, after])


def _undo_stretch(
    stretch: Stretch, target: ImportOperation, batch: Batch, contents: Contents
) -> None:
    files = File.objects.filter(operation=target, message__in=stretch.messages())
    stored = list(
        files.exclude(content="").values_list("content", "message__source_id", "source_id")
    )
    for name, message, source_id in stored:
        contents.add(Content("file", "files", f"file {source_id} of {message}", name))
    # Those with a content are counted when that is gone too.
    batch.add("files.removed", delete_rows(files) - len(stored))
    mine = stretch.messages().filter(operation=target)
    others_files = File.objects.filter(message=OuterRef("pk"))
    batch.add("messages.removed", delete_rows(mine.exclude(Exists(others_files))))
    room = ""
    for source_id in mine.values_list("source_id", flat=True):
        room = room or str(Room.objects.get(pk=stretch.room_id))
        batch.add("messages.skipped.kept-has-later-files")
        batch.failures.append(
            kept("message", f"message {source_id} in {room}", "kept-has-later-files")
        )


def undo_rooms(work: Work) -> None:
    """Memberships, ids and rooms, some rooms at a time. Its cursor is the last room dealt with."""
    target = target_of(work)
    last = work.cursor[0] if work.cursor else 0
    later = later_than(target)
    while True:
        rooms = list(rooms_of(target).filter(pk__gt=last).order_by("pk")[:ROOMS_AT_ONCE])
        if not rooms:
            return
        last = rooms[-1].pk
        undo = RoomUndo(rooms, target, later)
        while undo.many_members_left():
            with work.batch() as batch:
                undo.remove_members(batch)
        with work.batch() as batch:
            batch.cursor = [last]
            undo.remove_members(batch)
            undo.remove_rooms(batch)


class RoomUndo:
    """Some rooms, and what of them is to go. Decided anew after an interruption, and to the same end:
    what other people's rows say does not change meanwhile."""

    def __init__(self, rooms: list[Room], target: ImportOperation, later: list[int]) -> None:
        self.rooms = {room.pk: room for room in rooms}
        self.target = target
        self.later = later
        self.made = {room.pk for room in rooms if room.operation_id == target.pk}
        self.reasons = self._reasons()
        direct = {pk for pk in self.reasons if self.rooms[pk].type == Room.Type.DIRECT}
        # A direct room is its members; and whom a later import found there it would have let in.
        self.keeping = direct | self._found_later(self.made)
        self.losing = [pk for pk in self.rooms if pk not in self.keeping]

    def _reasons(self) -> dict[int, str]:
        """Why rooms that the import created stay."""
        of_room = {"room": OuterRef("pk")}
        others = {
            "kept-has-messages": Message.objects.filter(**of_room),
            "kept-has-members": Membership.objects.filter(**of_room).exclude(operation=self.target),
            "kept-room-known-elsewhere": RoomImportId.objects.filter(**of_room).exclude(
                operation=self.target
            ),
        }
        reasons: dict[int, str] = {}
        made = Room.objects.filter(pk__in=self.made)
        for code, rows in others.items():
            for pk in made.filter(Exists(rows)).values_list("pk", flat=True):
                reasons.setdefault(pk, code)
        return reasons

    def _members(self) -> QuerySet[Membership]:
        return Membership.objects.filter(room__in=self.losing, operation=self.target)

    def many_members_left(self) -> bool:
        return self._members()[conf().batch_rows :].exists()

    def remove_members(self, batch: Batch) -> None:
        some = list(self._members().values_list("pk", flat=True)[: conf().batch_rows])
        gone = delete_rows(Membership.objects.filter(pk__in=some))
        batch.add("memberships.removed", gone)

    def remove_rooms(self, batch: Batch) -> None:
        self._forget_ids(batch)
        going = self.made - self.reasons.keys()
        delete_rows(Room.objects.filter(pk__in=going))
        batch.add("channels.removed", len(going))
        for pk, code in self.reasons.items():
            batch.add(f"channels.skipped.{code}")
            batch.failures.append(kept("room", f"room {self.rooms[pk]}", code))
        staying = Membership.objects.filter(room__in=self.keeping, operation=self.target)
        batch.add("memberships.kept", staying.count())

    def _forget_ids(self, batch: Batch) -> None:
        added = RoomImportId.objects.filter(room__in=self.rooms, operation=self.target)
        in_use = self._found_later(
            set(added.exclude(room__in=self.made).values_list("room_id", flat=True))
        )
        # A room that stays is to be found again by the next import.
        going = added.exclude(room__in=[*self.reasons, *in_use])
        batch.add("import_ids.removed", delete_rows(going))
        batch.add("import_ids.kept", added.count())
        for known in added.filter(room__in=in_use):
            place = f"import id {known.import_id} of room {self.rooms[known.room_id]}"
            batch.failures.append(kept("room", place, "kept-import-id-in-use", known.import_id))

    def _found_later(self, rooms: set[int]) -> set[int]:
        """Those that a later import of the same source wrote to."""
        if not rooms or not self.later:
            return set()
        theirs = {"room": OuterRef("pk"), "operation__in": self.later}
        found = Room.objects.filter(pk__in=rooms).filter(
            Exists(Membership.objects.filter(**theirs)) | Exists(Message.objects.filter(**theirs))
        )
        return set(found.values_list("pk", flat=True))
