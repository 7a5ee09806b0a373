"""Rooms: staged records -> rooms and memberships.

A direct room is its members; any other is the room with its import id, else an existing one of the
same name and type that this source does not know yet, else a new one under a free name. Existing
rooms gain members, and empty fields are filled.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from importops.engine.resolve import UserDirectory
from importops.engine.slices import Batch, Work
from importops.engine.writers import Writer, writer_for
from importops.models import ImportOperation, Room, RoomImportId, StagedRecord
from importops.records import NAME_LIMIT, BadRecord, RoomRecord, fold

ROOMS_AT_ONCE = 50
MEMBERS_AT_ONCE = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Piece(NamedTuple):
    """A room, or a stretch of the members of a large one."""

    row: StagedRecord
    record: RoomRecord
    first: int

    @property
    def members(self) -> list[str]:
        return self.record.members[self.first : self.first + MEMBERS_AT_ONCE]

    @property
    def is_last(self) -> bool:
        return self.first + MEMBERS_AT_ONCE >= len(self.record.members)


def import_rooms(work: Work) -> None:
    """Write the staged rooms. Its cursor is a place in `writing_order`, and how many of that room's
    members are in."""
    users = UserDirectory(work.operation)
    writer = writer_for(work.operation.pk)
    order = writing_order(work.operation)
    at, member = work.cursor or [0, 0]
    while at < len(order):
        staged = StagedRecord.objects.in_bulk(order[at : at + ROOMS_AT_ONCE])
        pieces = next_pieces([staged[pk] for pk in order[at : at + ROOMS_AT_ONCE]], member)
        let_members_in(work, users, pieces)
        with work.batch() as batch:
            rooms = RoomBatch(work.operation, users, writer, batch)
            for piece in pieces:
                rooms.take(piece)
            last = pieces[-1]
            at += len(pieces) - (0 if last.is_last else 1)
            member = 0 if last.is_last else last.first + MEMBERS_AT_ONCE
            batch.cursor = [at, member]


def writing_order(operation: ImportOperation) -> list[int]:
    """Keys of the selected staged rooms, in the order in which their messages will come.

    Rooms then have ascending keys in that order, so that messages are appended to the indexes
    instead of being inserted in their middle.
    """
    rooms = StagedRecord.objects.rooms().selected().filter(operation=operation)
    return [
        pk
        for _, _, pk in sorted(
            (not folder, f"{folder}/", pk) for pk, folder in rooms.values_list("pk", "data__folder")
        )
    ]


def next_pieces(staged: list[StagedRecord], member: int) -> list[Piece]:
    """As many rooms as have together about `MEMBERS_AT_ONCE` members, so that a batch stays short."""
    pieces: list[Piece] = []
    members = 0
    for row in staged:
        piece = Piece(row, msgspec.convert(row.data, RoomRecord), member)
        member = 0
        pieces.append(piece)
        members += len(piece.members)
        if members >= MEMBERS_AT_ONCE or not piece.is_last:
            break
    return pieces


def let_members_in(work: Work, users: UserDirectory, pieces: list[Piece]) -> None:
    """A direct room is its members, so those who were not imported get stand-ins."""
    members = {
        member for piece in pieces if piece.record.type == "d" for member in piece.record.members
    }
    strangers = sorted(users.missing(members))
    if strangers:
        with work.batch() as batch:
            users.make_stand_ins(strangers, batch)
        users.missing(strangers)


class RoomBatch:
    """Some staged rooms on their way into rooms; `take` them inside the batch's transaction."""

    def __init__(
        self,
        operation: ImportOperation,
        users: UserDirectory,
        writer: Writer,
        batch: Batch,
    ) -> None:
        self.operation = operation
        self.users = users
        self.writer = writer
        self.batch = batch

    def take(self, piece: Piece) -> None:
        row, record = piece.row, piece.record
        if row.status == StagedRecord.Status.FAILED:
            return
        if piece.first == 0:
            if self._would_publish(record):
                self._refuse(row, record)
                return
            room, outcome = self._find_or_create(record, row)
            row.status = outcome
        else:
            room = RoomImportId.objects.get(
                source=self.operation.source, import_id=row.import_id
            ).room
            outcome = StagedRecord.Status(row.status)
        wanted = [*piece.members]
        if piece.first == 0 and record.creator and record.creator not in wanted:
            wanted.append(record.creator)
        keys = self.users.keys_by_id
        # A stand-in made for messages is in no room: the same export again would find it there and
        # let it in. A direct room is its members, stand-ins or not.
        joins = keys.__contains__ if record.type == "d" else self.users.is_real
        members = [keys[member] for member in wanted if joins(member)]
        joined = self.writer.write_memberships(room.pk, members)
        if joined and outcome == StagedRecord.Status.SKIPPED:
            outcome = StagedRecord.Status.UPDATED
        row.status = outcome
        row.save(update_fields=["status", "note"])
        if piece.is_last:
            self.batch.add(
                "channels.skipped.unchanged"
                if outcome == StagedRecord.Status.SKIPPED
                else f"channels.{outcome.value}"
            )

    def _would_publish(self, record: RoomRecord) -> bool:
        """Whether what is private in the export is known here as a public room that people made."""
        room = self._known(record)
        return (
            room is not None
            and room.type == Room.Type.PUBLIC
            and record.type == "p"
            and room.operation_id is None
        )

    def _refuse(self, row: StagedRecord, record: RoomRecord) -> None:
        row.status = StagedRecord.Status.FAILED
        row.save(update_fields=["status"])
        self.batch.fail(
            BadRecord(
                kind="room",
                place=record.place,
                code="importer-channel-became-private",
                message=f"{record.name} is private in the export and public here. Make it private "
                "here, then import again.",
                import_id=row.import_id,
                retryable=True,
            )
        )

    def _find_or_create(
        self, record: RoomRecord, row: StagedRecord
    ) -> tuple[Room, StagedRecord.Status]:
        room = self._known(record)
        direct_key = self._direct_key(record)
        if room is None and direct_key:
            room = Room.objects.filter(direct_key=direct_key).first()
        if room is None and record.type != "d":
            room = self._by_name(record)
        if room is None:
            room = self._create(record, row, direct_key)
            outcome = StagedRecord.Status.CREATED
        elif self._fill(room, record):
            outcome = StagedRecord.Status.UPDATED
        else:
            outcome = StagedRecord.Status.SKIPPED
        if self._remember(room, record) and outcome == StagedRecord.Status.SKIPPED:
            outcome = StagedRecord.Status.UPDATED
        return room, outcome

    def _known(self, record: RoomRecord) -> Room | None:
        known = (
            RoomImportId.objects.select_related("room")
            .filter(source=self.operation.source, import_id__in=record.import_ids)
            .first()
        )
        return known.room if known else None

    def _direct_key(self, record: RoomRecord) -> str | None:
        if record.type != "d" or not record.members:
            return None
        return Room.direct_key_of(self.users.key(member) for member in record.members)

    def _by_name(self, record: RoomRecord) -> Room | None:
        return (
            Room.objects.filter(type=record.type, name_key=fold(record.name))
            # One that this source knows under another id is another room of that name.
            .exclude(import_ids__source=self.operation.source)
            .order_by("pk")
            .first()
        )

    def _create(self, record: RoomRecord, row: StagedRecord, direct_key: str | None) -> Room:
        name = record.name[:NAME_LIMIT]
        if record.type != "d":
            name = self._free_name(record.name or record.import_ids[0])
            if record.name and name != record.name:
                row.note = f"named {name}: {record.name} is taken"[:NAME_LIMIT]
        creator = self.users.keys_by_id.get(record.creator)
        if creator is None and record.type != "d":
            creator = self.operation.user_id
        return Room.objects.create(
            type=record.type,
            name=name,
            name_key=fold(name),
            topic=record.topic,
            description=record.description,
            archived=record.archived,
            creator_id=creator,
            created_at=self._created_at(record),
            direct_key=direct_key,
            operation=self.operation,
        )

    def _created_at(self, record: RoomRecord) -> datetime:
        if record.created_at is None:
            return self.operation.ts
        return EPOCH + timedelta(microseconds=record.created_at)

    def _free_name(self, wanted: str) -> str:
        base = wanted[: NAME_LIMIT - 12]
        taken = set(
            Room.objects.exclude(type=Room.Type.DIRECT)
            .filter(name_key__startswith=fold(base))
            .values_list("name_key", flat=True)
        )
        name, number = base, 0
        while fold(name) in taken:
            number += 1
            name = f"{base}-{number}"
        return name

    def _fill(self, room: Room, record: RoomRecord) -> bool:
        changed = []
        for field, value in (
            ("topic", record.topic),
            ("description", record.description),
        ):
            ours = room.operation_id is not None
            if value and value != getattr(room, field) and (ours or not getattr(room, field)):
                setattr(room, field, value)
                changed.append(field)
        if record.type == "p" and room.type == Room.Type.PUBLIC and room.operation_id is not None:
            # It was made private over there since; what follows must not be read by everybody.
            room.type = Room.Type.PRIVATE
            changed.append("type")
        if record.archived and not room.archived and room.operation_id is not None:
            room.archived = True
            changed.append("archived")
        if changed:
            room.save(update_fields=changed)
        return bool(changed)

    def _remember(self, room: Room, record: RoomRecord) -> bool:
        known = set(
            RoomImportId.objects.filter(
                source=self.operation.source, import_id__in=record.import_ids
            ).values_list("import_id", flat=True)
        )
        fresh = [item for item in dict.fromkeys(record.import_ids) if item not in known]
        RoomImportId.objects.bulk_create(
            RoomImportId(
                room=room,
                source=self.operation.source,
                import_id=import_id[:NAME_LIMIT],
                operation=self.operation,
            )
            for import_id in fresh
        )
        return bool(fresh)
