"""What importers hand to the engine: typed records, their places, and the rules every source shares.

Ids in records are the source's own ("import ids"); turning them into ours is `engine/resolve.py`'s work.
Times are integers of microseconds since the epoch, UTC.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from operator import itemgetter
from typing import Any, Literal

import msgspec

NAME_LIMIT = 255
"""Characters of a username, room name or display name that are kept."""
KEY_LIMIT = 1024
"""Characters of a case-folded key; NFKC may lengthen what it folds."""
TEXT_LIMIT = 1_000_000
"""Characters of a message's text. Slack itself stops at 40,000."""
IMPORT_ID_LIMIT = 255
PLACE_LIMIT = 1024

SYSTEM_BOT = "rocket.cat"
"""Import id, and public id, of the built-in bot: the author of what no account wrote."""

FIRST_TIME = -62_135_596_800_000_000
LAST_TIME = 253_402_300_799_999_999
"""Bounds of `sent_at`: the years 1 to 9999, which is what both databases and Python can hold."""

Cursor = list[int]
"""Where to go on in a slice. Opaque to the engine; made and read by the importer."""

_BROKEN = re.compile("[\x00\ud800-\udfff]")


def repair_text(text: str) -> str:
    """`text` with NUL and lone surrogates replaced by U+FFFD; the same object when it has none.

    PostgreSQL stores neither, and SQLite hands them back broken. A caller that counts repairs
    compares identity: `repaired is not text`.
    """
    if "\x00" not in text:
        if text.isascii():
            return text
        try:  # finds surrogates ten times as fast as an expression
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _BROKEN.sub("\ufffd", text)


def repair_json(value: Any) -> Any:
    """`value`, a decoded JSON value, with every string in it repaired (keys too)."""
    if isinstance(value, str):
        return repair_text(value)
    if isinstance(value, list):
        return [repair_json(item) for item in value]
    if isinstance(value, dict):
        return {repair_text(k): repair_json(v) for k, v in value.items()}
    return value


def short_place(place: str) -> str:
    """`place` within `PLACE_LIMIT`: the middle goes, since the end tells one record from the next."""
    if len(place) <= PLACE_LIMIT:
        return place
    return f"{place[: PLACE_LIMIT - 301]}…{place[-300:]}"


def fold(name: str) -> str:
    """The key under which a name is looked up: NFKC and casefold, in Python, on every database.

    (`LOWER()` folds ASCII only on SQLite, so the database cannot be asked.)
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded)[:KEY_LIMIT]


class BadRecord(msgspec.Struct, frozen=True):
    """A record, or a whole entry, of the source that cannot be imported, and why."""

    kind: Literal["user", "room", "message", "file"]
    place: str
    """Where in the export: `users.json[3]`, `general/2024-01-02.json[17]`."""
    code: str
    """Stable, for programs: `importer-message-invalid-timestamp`."""
    message: str
    """A sentence, for a person."""
    import_id: str = ""
    raw: str = ""
    """The record as it stood in the export; cut to the configured size when stored."""
    retryable: bool = False


class UserRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A member of the source workspace. `import_ids[0]` is the key used in selections and references."""

    import_ids: list[str]
    username: str = ""
    name: str = ""
    emails: list[str] = []
    type: Literal["user", "bot"] = "user"
    avatar_url: str = ""
    status_text: str = ""
    bio: str = ""
    utc_offset: float | None = None
    """Hours east of UTC; fractions kept."""
    deleted: bool = False
    roles: list[str] = []
    place: str = ""


class AuthorRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Someone who wrote messages but is not in the member list, as far as the messages tell."""

    import_id: str
    username: str = ""
    name: str = ""
    type: Literal["user", "bot"] = "user"


class RoomRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A room of the source workspace; `members` and `creator` are import ids of users."""

    import_ids: list[str]
    type: Literal["c", "p", "d"] = "c"
    name: str = ""
    topic: str = ""
    description: str = ""
    creator: str = ""
    members: list[str] = []
    created_at: int | None = None
    archived: bool = False
    is_default: bool = False
    folder: str = ""
    """Where its messages are in the export; what `Directory.folders` is keyed by."""
    place: str = ""


class FileRecord(msgspec.Struct, gc=False):
    """A file that a message carries. `url` is empty when the source no longer has it."""

    source_id: str
    name: str = ""
    size: int = 0
    mime_type: str = ""
    url: str = ""
    external: bool = False
    """Hosted elsewhere: the link is all there is, nothing is to be fetched."""
    problem: str = ""
    """Why there is nothing to fetch, e.g. `deleted in Slack`."""


class MessageRecord(msgspec.Struct, gc=False):
    """One message. Text is final (markup converted, names put in); ids are still the source's.

    Importers keep text within `TEXT_LIMIT`, and ids and names within `NAME_LIMIT`.
    """

    source_id: str
    sent_at: int
    author: str
    text: str
    type: str = ""
    """A system message's type (`uj`, `ul`, `r`, `room_changed_topic`, …); empty for an ordinary one."""
    alias: str = ""
    thread_source_id: str = ""
    edited_at: int | None = None
    edited_by: str = ""
    reactions: list[tuple[str, list[str]]] | None = None
    """(`:name:`, import ids of users) per emoji."""
    mentions: list[str] | None = None
    """Import ids of users, and the words `all` and `here`."""
    attachments: list[dict[str, Any]] | None = None
    files: list[FileRecord] | None = None


class RoomScan(msgspec.Struct):
    """What counting found for one room in one stretch."""

    messages: int = 0
    """Every record, importable or not: what `total` is made of."""
    files: int = 0
    first_at: int | None = None
    last_at: int | None = None
    failed: int = 0
    """Of the messages: those that cannot be imported."""
    skipped: dict[str, int] = {}
    """Of the messages: those left out on purpose, by reason."""
    skipped_files: int = 0
    """Of the files: those of messages left out on purpose."""
    exact: bool = False
    """Whether the numbers above tell what an empty room would get: that none is in it twice is certain.
    A dry run reads the others again."""
    read: int = 0
    """Bytes, unpacked."""


class Scan(msgspec.Struct):
    """What counting one stretch of a slice found (preparing, second pass)."""

    cursor: Cursor
    rooms: dict[str, RoomScan]
    """By import id of the room."""
    authors: dict[str, AuthorRecord]
    """By import id: those who are not known as users."""
    failures: list[BadRecord]
    read: int = 0
    """Bytes read, unpacked."""


class Chunk(msgspec.Struct):
    """The messages of one stretch of a slice, all of one room, in the order of the source."""

    room: str
    """Import id of the room."""
    cursor: Cursor
    """Where to go on after this chunk."""
    records: list[MessageRecord]
    places: list[tuple[int, str, int]] = []
    """Where records come from, for failures found later: from the record at the first number on,
    they are neighbours in that entry, beginning with that element. Ask `place()`."""
    failures: list[BadRecord] = []
    skipped: dict[str, int] = {}
    """Records left out on purpose, by reason (`subtype:bot_add`)."""
    skipped_files: int = 0
    """Files that records left out on purpose carried."""
    left_out: list[tuple[str, int, str, int]] = []
    """Each of these: entry, element, reason, files. For a retry, which has to know which they are."""
    repaired: int = 0
    """Texts in which NUL or lone surrogates were replaced."""
    read: int = 0
    """Bytes read, unpacked."""

    def place(self, position: int) -> str:
        """Where `records[position]` stands in the source: `general/2024-01-02.json[17]`."""
        return "{}[{}]".format(*self.element(position))

    def element(self, position: int) -> tuple[str, int]:
        """The entry that `records[position]` is in, and its number there."""
        run = bisect_right(self.places, position, key=itemgetter(0)) - 1
        first, name, element = self.places[run]
        return name, element + position - first
