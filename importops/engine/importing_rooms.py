"""Rooms: staged records -> rooms and memberships. Deciding (`resolve_rooms.py`) comes first, writing
after. Existing rooms gain members, and empty fields are filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from importops.engine.resolve_rooms import RoomMatch, RoomMatcher
from importops.engine.slices import Batch, Work
from importops.engine.stand_ins import UserDirectory
from importops.engine.writers import Writer, writer_for
from importops.models import ImportOperation, RoomImportId, StagedRecord
from importops.models.operations import StagedRecordQuerySet
from importops.records import NAME_LIMIT, BadRecord, RoomRecord

ROOMS_AT_ONCE = 50
MEMBERS_AT_ONCE = 1000


class Piece(NamedTuple):
    """A room, or a stretch of the members of a large one."""

    row: StagedRecord
    record: RoomRecord
    first: int

    @property
    def members(self) -> list[str]:
        return self.record.members[self.first : self.first + MEMBERS_AT_ONCE]

    @property
    def joining(self) -> list[str]:
        """Its members, and with the first of them who made the room."""
        creator = self.record.creator
        if self.first or not creator or creator in self.members:
            return self.members
        return [*self.members, creator]

    @property
    def is_last(self) -> bool:
        return self.first + MEMBERS_AT_ONCE >= len(self.record.members)


def import_rooms(work: Work) -> None:
    """Write the staged rooms. Its cursor is a place in `writing_order`, and how many of that room's
    members are in."""
    users = UserDirectory(work.operation)
    writer = writer_for(work.operation.pk)
    staged_rooms = StagedRecord.objects.rooms().filter(operation=work.operation)
    order = writing_order(staged_rooms.selected())
    at, member = work.cursor or [0, 0]
    while at < len(order):
        staged = StagedRecord.objects.in_bulk(order[at : at + ROOMS_AT_ONCE])
        pieces = next_pieces([staged[pk] for pk in order[at : at + ROOMS_AT_ONCE]], member)
        let_members_in(work, users, pieces)
        with work.batch() as batch:
            rooms = RoomBatch(work.operation, users, writer, batch, pieces)
            for piece in pieces:
                rooms.take(piece)
            last = pieces[-1]
            at += len(pieces) - (0 if last.is_last else 1)
            member = 0 if last.is_last else last.first + MEMBERS_AT_ONCE
            batch.cursor = [at, member]


def writing_order(rooms: StagedRecordQuerySet) -> list[int]:
    """Keys of staged rooms, in the order in which their messages will come.

    Rooms then have ascending keys in that order, so that messages are appended to the indexes
    instead of being inserted in their middle.
    """
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
        pieces: Sequence[Piece],
    ) -> None:
        self.operation = operation
        self.matcher = RoomMatcher(operation, users)
        self.matcher.load([piece.record for piece in pieces if piece.first == 0])
        self.writer = writer
        self.batch = batch

    def take(self, piece: Piece) -> None:
        row, record = piece.row, piece.record
        if piece.first == 0:
            match = self.matcher.match(record)
            row.note = match.note
            if match.problem:
                self._refuse(row, match.problem)
                return
            room, outcome = match.room, match.outcome
            self._write(match)
        else:
            if row.status == StagedRecord.Status.FAILED:
                return
            room = RoomImportId.objects.get(
                source=self.operation.source, import_id=row.import_id
            ).room
            outcome = StagedRecord.Status(row.status)
        members = self.matcher.joining(record, piece.joining)
        joined = self.writer.write_memberships(room.pk, members)
        if joined and outcome == StagedRecord.Status.SKIPPED:
            outcome = StagedRecord.Status.UPDATED
        row.status = outcome
        row.save(update_fields=["status", "note"])
        if piece.is_last:
            self.batch.add(tally_key(outcome))

    def _refuse(self, row: StagedRecord, problem: BadRecord) -> None:
        row.status = StagedRecord.Status.FAILED
        row.save(update_fields=["status", "note"])
        self.batch.fail(problem)

    def _write(self, match: RoomMatch) -> None:
        room = match.room
        if match.is_new:
            room.save(force_insert=True)
        elif match.changed:
            room.save(update_fields=match.changed)
        RoomImportId.objects.bulk_create(
            RoomImportId(
                room=room,
                source=self.operation.source,
                import_id=import_id[:NAME_LIMIT],
                operation=self.operation,
            )
            for import_id in match.import_ids
        )


def tally_key(outcome: StagedRecord.Status) -> str:
    """What a room that was dealt with counts as."""
    if outcome == StagedRecord.Status.SKIPPED:
        return "channels.skipped.unchanged"
    return f"channels.{outcome.value}"
