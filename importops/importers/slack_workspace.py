"""Users and rooms of a Slack export: docs/importers.md.

Root files are streamed, and those of rooms twice: once to see which folder belongs to which room, once
to give the rooms. What is held are names, ids and folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

from importops.errors import EmptyExport, EntryError
from importops.importers.archive import Archive
from importops.importers.json_stream import RAW_LIMIT, iter_array
from importops.importers.slack_authors import import_id_of
from importops.importers.slack_layout import (
    CHANNELS,
    DMS,
    GROUPS,
    MPIMS,
    ORG_USERS,
    USERS,
    Layout,
    Survey,
)
from importops.importers.slack_markup import Markup
from importops.limits import Limits
from importops.records import (
    FIRST_TIME,
    IMPORT_ID_LIMIT,
    LAST_TIME,
    NAME_LIMIT,
    SYSTEM_BOT,
    BadRecord,
    RoomRecord,
    UserRecord,
    fold,
    repair_json,
    repair_text,
)

__all__ = ["Workspace"]

ROOM_FILES = (CHANNELS, GROUPS, MPIMS, DMS)
DIRECT_LIMIT = 8
"""Members of a direct room; with more, a group conversation becomes a private room."""

_AVATAR = re.compile(r"image_([0-9]{1,4})")
_ENDS_WITH_ID = re.compile(r"[-_ (]([CGD][A-Z0-9]{7,})\)?\Z")
_DIRECT_ID = re.compile(r"D[A-Z0-9]{7,}")
_GROUP_DIRECT = re.compile(r"mpdm-(.+?)(?:-[0-9]+)?")
_plain = Markup({}, {}).plain

Kind = Literal["user", "room"]


class Workspace:
    """Reads users and rooms of one export."""

    def __init__(self, archive: Archive, layout: Layout, survey: Survey, limits: Limits) -> None:
        self._archive = archive
        self._layout = layout
        self._survey = survey
        self._max_record = limits.max_record_bytes
        self._groups_unreadable = False

    def records(self) -> Iterator[UserRecord | RoomRecord | BadRecord]:
        """Users, then rooms, then rooms made up for folders that belong to none. Raises
        `EmptyExport` at the end if that was nothing.
        """
        found = False
        for record in self._users():
            found = True
            yield record
        for room in self._rooms():
            found = True
            yield room
        if not found:
            raise EmptyExport("There are no users, rooms or messages in this export.")

    # Users.

    def _users(self) -> Iterator[UserRecord | BadRecord]:
        """Those of users.json, then those that only org_users.json has."""
        seen: set[str] = set()
        for item in self._objects(USERS, "user"):
            if isinstance(item, BadRecord):
                yield item
            elif (record := _user(item)).import_ids[0] != SYSTEM_BOT:
                seen.add(record.import_ids[0])
                yield record
        for item in self._objects(ORG_USERS, "user"):
            if isinstance(item, BadRecord):
                yield item
                continue
            record = _user(item)
            if record.import_ids[0] not in seen and record.import_ids[0] != SYSTEM_BOT:
                yield record

    # Rooms.

    def _rooms(self) -> Iterator[RoomRecord | BadRecord]:
        finder = _FolderFinder(self._survey.folders)
        for record in self._room_records():
            if isinstance(record, RoomRecord):
                finder.add(record)
        folders = finder.folders()
        number = 0
        for record in self._room_records():
            if isinstance(record, RoomRecord):
                record.folder = folders.get(number, "")
                number += 1
            yield record
        taken = set(folders.values())
        for folder in self._survey.folders:
            if folder not in taken:
                yield self._room_of(folder, finder)

    def _room_records(self) -> Iterator[RoomRecord | BadRecord]:
        for file in ROOM_FILES:
            for item in self._objects(file, "room"):
                if isinstance(item, BadRecord):
                    self._groups_unreadable |= file == GROUPS
                    yield item
                else:
                    yield _room(item, file)

    def _room_of(self, folder: str, finder: _FolderFinder) -> RoomRecord:
        """A room for a folder that no room of the lists belongs to.

        Not public where it may have been private: its list is broken, it belongs to a file
        (`FC:…`), or it was a conversation whose members are not known.
        """
        kind: Literal["c", "p", "d"] = "c"
        if _DIRECT_ID.fullmatch(folder):
            kind = "d"
        elif self._groups_unreadable or folder.startswith("FC:") or _GROUP_DIRECT.fullmatch(folder):
            kind = "p"
        import_id = folder if not finder.knows_id(folder) else f"{folder}/"
        return RoomRecord(
            import_ids=[import_id[:IMPORT_ID_LIMIT]],
            type=kind,
            name="" if kind == "d" else folder[:NAME_LIMIT],
            folder=folder,
            place=f"{folder}/",
        )

    # Both.

    def _objects(self, file: str, kind: Kind) -> Iterator[dict[str, Any] | BadRecord]:
        """The objects with an id in the root file `file`, repaired, each with its place under the
        key "place"; nothing if the file is not there.
        """
        entry = self._layout.find(file)
        if entry is None:
            return
        try:
            for element in iter_array(self._archive.stream(entry), self._max_record):
                place = f"{file}[{element.index}]"
                if element.code:
                    yield BadRecord(
                        kind=kind,
                        place=place,
                        code=element.code,
                        message=element.message,
                        raw=repair_text(element.raw),
                    )
                    continue
                value = repair_json(element.value)
                if isinstance(value, dict) and _id(value):
                    yield value | {"place": place}
                else:
                    yield _without_id(kind, place, value)
        except EntryError as error:
            yield BadRecord(kind=kind, place=file, code=error.code, message=error.message)


class _FolderFinder:
    """Which folder holds the messages of which room. Rooms are known by the order they were added
    in; of several with one name, the first has the folder.
    """

    def __init__(self, folders: list[str]) -> None:
        self._folders = folders
        self._names: dict[str, int] = {}
        self._ids: dict[str, int] = {}
        self._count = 0

    def add(self, room: RoomRecord) -> None:
        if room.name:
            self._names.setdefault(room.name, self._count)
        self._ids.setdefault(room.import_ids[0], self._count)
        self._count += 1

    def knows_id(self, import_id: str) -> bool:
        return import_id in self._ids

    def folders(self) -> dict[int, str]:
        """Room -> folder: by exact name, by id, by an id at the end of the folder's name, and by
        name whatever its case and form, in this order for all folders.
        """
        found: dict[int, str] = {}
        left = self._match(self._folders, found, self._names.get)
        left = self._match(left, found, self._ids.get)
        left = self._match(left, found, self._by_last_id)
        if left:
            folded: dict[str, int] = {}
            for name, number in self._names.items():
                folded.setdefault(fold(name), number)
            self._match(left, found, lambda folder: folded.get(fold(folder)))
        return found

    def _by_last_id(self, folder: str) -> int | None:
        match = _ENDS_WITH_ID.search(folder)
        return self._ids.get(match[1]) if match else None

    @staticmethod
    def _match(
        folders: list[str],
        found: dict[int, str],
        look_up: Callable[[str], int | None],
    ) -> list[str]:
        """Add to `found` what `look_up` finds; returns the folders that are left."""
        left = []
        for folder in folders:
            room = look_up(folder)
            if room is None or room in found:
                left.append(folder)
            else:
                found[room] = folder
        return left


def _user(member: dict[str, Any]) -> UserRecord:
    profile = _object(member, "profile")
    email = _string(profile, "email").strip()
    is_bot = member.get("is_bot") is True
    display_name = _string(profile, "display_name").strip()
    import_id = import_id_of(_id(member))
    name = (
        _string(profile, "real_name").strip()
        or _string(member, "real_name").strip()
        or display_name
    )
    username = (
        _string(member, "name").strip() or display_name or email.partition("@")[0] or import_id
    )
    return UserRecord(
        import_ids=[import_id],
        username=username[:NAME_LIMIT],
        name=name[:NAME_LIMIT],
        emails=[email] if "@" in email else [],
        type="bot" if is_bot else "user",
        avatar_url=_avatar(profile),
        status_text=_plain(_string(profile, "status_text")),
        bio=_plain(_string(profile, "title")),
        utc_offset=_utc_offset(member.get("tz_offset")),
        deleted=member.get("deleted") is True,
        roles=["bot"] if is_bot else [],
        place=member["place"],
    )


def _avatar(profile: dict[str, Any]) -> str:
    """The original, else the usual size, else the largest there is."""
    for key in ("image_original", "image_512"):
        if url := _string(profile, key):
            return url
    sizes = {int(m[1]): key for key in profile if (m := _AVATAR.fullmatch(key))}
    urls = (_string(profile, sizes[size]) for size in sorted(sizes, reverse=True))
    return next(filter(None, urls), "")


def _utc_offset(seconds: Any) -> float | None:
    if type(seconds) not in (int, float) or abs(seconds) > 86_400:
        return None
    return float(seconds / 3600)


def _room(room: dict[str, Any], file: str) -> RoomRecord:
    members = _members(room.get("members"))
    kind = _room_kind(room, file, len(members))
    import_id = _id(room)
    name = _string(room, "name")[:NAME_LIMIT]
    return RoomRecord(
        import_ids=[import_id],
        type=kind,
        name=name if kind == "d" else name or import_id,
        topic=_text_of(room.get("topic")),
        description=_text_of(room.get("purpose")),
        creator=import_id_of(_string(room, "creator")),
        members=members,
        created_at=_created_at(room.get("created")),
        archived=room.get("is_archived") is True,
        is_default=kind == "c" and room.get("is_general") is True,
        place=room["place"],
    )


def _room_kind(room: dict[str, Any], file: str, members: int) -> Literal["c", "p", "d"]:
    """By its file; other tools put all rooms into one, and tell by flags."""
    if file == DMS or room.get("is_im") is True:
        return "d"
    if file == MPIMS or room.get("is_mpim") is True:
        return "d" if 1 <= members <= DIRECT_LIMIT else "p"
    if file == GROUPS or room.get("is_private") is True or room.get("is_group") is True:
        return "p"
    return "c"


def _members(value: Any) -> list[str]:
    if not isinstance(value, list):
        return []
    ids = (import_id_of(item) for item in value if isinstance(item, str) and item)
    return list(dict.fromkeys(ids))


def _created_at(seconds: Any) -> int | None:
    if type(seconds) not in (int, float) or not 0 < abs(seconds) < 10**12:
        return None
    at = int(seconds * 1_000_000)
    return at if FIRST_TIME <= at <= LAST_TIME else None


def _text_of(value: Any) -> str:
    """A topic or purpose: `{"value": …}`, or the text itself."""
    return _plain(_string({"value": value} if isinstance(value, str) else value, "value"))


def _id(value: dict[str, Any]) -> str:
    return _string(value, "id").strip()[:IMPORT_ID_LIMIT]


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def _string(value: Any, key: str) -> str:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, str) else ""


def _without_id(kind: Kind, place: str, value: Any) -> BadRecord:
    noun = "member" if kind == "user" else "room"
    code = {
        "user": "importer-user-missing-import-id",
        "room": "importer-channel-missing-import-id",
    }[kind]
    what = "has no id" if isinstance(value, dict) else "is no JSON object"
    return BadRecord(
        kind=kind,
        place=place,
        code=code,
        message=f"This {noun} {what}, so nothing can refer to it.",
        raw=json.dumps(value, ensure_ascii=False)[:RAW_LIMIT],
    )
