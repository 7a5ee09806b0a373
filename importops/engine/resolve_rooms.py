"""Which room here an incoming room is, and what becomes of it. Nothing here writes.

A direct room is its members; any other is the room with its import id, else an existing one of the
same name and type that this source does not know yet, else a new one under a free name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from importops.models import ImportOperation, Room, RoomImportId, StagedRecord
from importops.records import NAME_LIMIT, BadRecord, RoomRecord, fold

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_UP_AT_ONCE = 500


class Members(Protocol):
    """Who the members of incoming rooms are here: `UserDirectory`, or what a dry run imagines."""

    def account(self, import_id: str) -> int | None: ...

    def is_real(self, import_id: str) -> bool: ...


@dataclass(slots=True)
class RoomMatch:
    """What is to become of one incoming room."""

    record: RoomRecord
    room: Room
    """As it will be: one that is here, its changes made in memory, or a new one without a key."""
    is_new: bool = False
    found_by: Literal["", "import-id", "members", "name"] = ""
    """What led to a room that is here."""
    changed: list[str] = field(default_factory=list)
    """Fields of a room that is here."""
    import_ids: list[str] = field(default_factory=list)
    """Import ids that no room has."""
    note: str = ""
    problem: BadRecord | None = None
    """Why it cannot be imported."""

    @property
    def outcome(self) -> StagedRecord.Status:
        """What it is, if nobody joins."""
        if self.problem:
            return StagedRecord.Status.FAILED
        if self.is_new:
            return StagedRecord.Status.CREATED
        if self.changed or self.import_ids:
            return StagedRecord.Status.UPDATED
        return StagedRecord.Status.SKIPPED


class RoomMatcher:
    """Matches rooms in a constant number of queries for all that `load` is given at once.

    Each decision is taken as carried out for those after it.
    """

    def __init__(self, operation: ImportOperation, users: Members) -> None:
        self.operation = operation
        self.users = users
        self.by_import_id: dict[str, Room] = {}
        self.by_direct_key: dict[str, Room] = {}
        self.namesakes: dict[tuple[str, str], list[Room]] = {}
        """Rooms that this source does not know, by type and name, the oldest first."""
        self._rooms: dict[int, Room] = {}
        self._of_this_source: set[int] = set()
        self._names: set[str] = set()
        """Folded names that are taken."""

    def load(self, records: Sequence[RoomRecord]) -> None:
        """Look up everything that deciding about `records` needs."""
        for start in range(0, len(records), LOOK_UP_AT_ONCE):
            self._load(records[start : start + LOOK_UP_AT_ONCE])

    def _load(self, records: Sequence[RoomRecord]) -> None:
        source = self.operation.source
        ids = {item for record in records for item in record.import_ids}
        for known in RoomImportId.objects.select_related("room").filter(
            source=source, import_id__in=ids
        ):
            self.by_import_id[known.import_id] = self._one(known.room)
        keys = {key for record in records if (key := self.direct_key(record))}
        for room in Room.objects.filter(direct_key__in=keys - self.by_direct_key.keys()):
            self.by_direct_key[room.direct_key or ""] = self._one(room)
        names = {fold(wanted_name(record)) for record in records if record.type != "d"}
        here = Room.objects.exclude(type=Room.Type.DIRECT).filter(name_key__in=names)
        self._names.update(here.values_list("name_key", flat=True))
        # One that this source knows under another id is another room of that name.
        strangers = here.exclude(import_ids__source=source).order_by("pk")
        found: dict[tuple[str, str], list[Room]] = {}
        for room in strangers:
            found.setdefault((room.type, room.name_key), []).append(self._one(room))
        self.namesakes.update(found)

    def _one(self, room: Room) -> Room:
        """One object a room, however it was found, so that changes to it are seen everywhere."""
        return self._rooms.setdefault(room.pk, room)

    def match(self, record: RoomRecord) -> RoomMatch:
        """Decide about one record that was given to `load`."""
        known = self._known(record)
        if known is not None and would_publish(known, record):
            return RoomMatch(record, known, problem=became_private(record))
        direct_key = self.direct_key(record)
        if known is not None:
            match = RoomMatch(record, known, found_by="import-id")
        elif direct_key and (room := self.by_direct_key.get(direct_key)):
            match = RoomMatch(record, room, found_by="members")
        elif record.type != "d" and (room := self._by_name(record)):
            match = RoomMatch(record, room, found_by="name")
        else:
            match = self._make(record, direct_key)
        if not match.is_new:
            match.changed = fill(match.room, record)
        match.import_ids = [
            item for item in dict.fromkeys(record.import_ids) if item not in self.by_import_id
        ]
        self._learn(match)
        return match

    def _known(self, record: RoomRecord) -> Room | None:
        for import_id in record.import_ids:
            if (room := self.by_import_id.get(import_id)) is not None:
                return room
        return None

    def direct_key(self, record: RoomRecord) -> str | None:
        if record.type != "d" or not record.members:
            return None
        accounts = [self.users.account(member) for member in record.members]
        return Room.direct_key_of(key for key in accounts if key is not None)

    def _by_name(self, record: RoomRecord) -> Room | None:
        for room in self.namesakes.get((record.type, fold(record.name)), ()):
            if room.pk not in self._of_this_source:
                return room
        return None

    def _make(self, record: RoomRecord, direct_key: str | None) -> RoomMatch:
        name, note = record.name[:NAME_LIMIT], ""
        if record.type != "d":
            name = self._free_name(wanted_name(record))
            if record.name and name != record.name:
                note = f"named {name}: {record.name} is taken"[:NAME_LIMIT]
        creator = self.users.account(record.creator)
        if creator is None and record.type != "d":
            creator = self.operation.user_id
        room = Room(
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
        return RoomMatch(record, room, is_new=True, note=note)

    def _created_at(self, record: RoomRecord) -> datetime:
        if record.created_at is None:
            return self.operation.ts
        return EPOCH + timedelta(microseconds=record.created_at)

    def _free_name(self, base: str) -> str:
        key, name, number = fold(base), base, 0
        if key in self._names:
            rooms = Room.objects.exclude(type=Room.Type.DIRECT)
            taken = rooms.filter(name_key__startswith=f"{key}-").values_list("name_key", flat=True)
            self._names.update(taken)
        while fold(name) in self._names:
            number += 1
            name = f"{base}-{number}"
        return name

    def _learn(self, match: RoomMatch) -> None:
        room = match.room
        for import_id in match.import_ids:
            self.by_import_id[import_id] = room
        if room.pk is not None:
            self._of_this_source.add(room.pk)
        elif room.direct_key:
            self.by_direct_key[room.direct_key] = room
        if match.is_new and room.type != Room.Type.DIRECT:
            self._names.add(room.name_key)

    def joining(self, record: RoomRecord, members: Iterable[str]) -> list[int]:
        """The accounts of those of `members` who are let into the room."""
        # A stand-in made for messages is in no room: the same export again would find it there and
        # let it in. A direct room is its members, stand-ins or not.
        accounts = [
            self.users.account(member)
            for member in members
            if record.type == "d" or self.users.is_real(member)
        ]
        return [key for key in accounts if key is not None]


def wanted_name(record: RoomRecord) -> str:
    return (record.name or record.import_ids[0])[: NAME_LIMIT - 12]


def would_publish(room: Room, record: RoomRecord) -> bool:
    """Whether what is private in the export is known here as a public room that people made."""
    return room.type == Room.Type.PUBLIC and record.type == "p" and room.operation_id is None


def became_private(record: RoomRecord) -> BadRecord:
    return BadRecord(
        kind="room",
        place=record.place,
        code="importer-channel-became-private",
        message=f"{record.name} is private in the export and public here. Make it private "
        "here, then import again.",
        import_id=record.import_ids[0],
        retryable=True,
    )


def fill(room: Room, record: RoomRecord) -> list[str]:
    """Bring into `room`, in memory, what the export knows better; the names of changed fields."""
    ours = room.operation_id is not None
    changed = []
    for name, value in (("topic", record.topic), ("description", record.description)):
        if value and value != getattr(room, name) and (ours or not getattr(room, name)):
            setattr(room, name, value)
            changed.append(name)
    if record.type == "p" and room.type == Room.Type.PUBLIC and ours:
        # It was made private over there since; what follows must not be read by everybody.
        room.type = Room.Type.PRIVATE
        changed.append("type")
    if record.archived and not room.archived and ours:
        room.archived = True
        changed.append("archived")
    return changed
