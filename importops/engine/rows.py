"""Rows of the hot path, in the form that both databases take: tuples of numbers and text.

Nothing here knows Django, as rows are also made in a process without it (`reading.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

Row = tuple[Any, ...]
"""A `MessageRow` or `FileRow`, or a plain tuple like one: making the named kind takes time."""

EPOCH_DAY = date(1970, 1, 1).toordinal()


class MessageRow(NamedTuple):
    """One message with our keys, in the order of the insert's columns.

    Times are text (`moment_text`), and so is JSON: nothing is left to convert where each microsecond
    counts half a million times.
    """

    room_id: int
    author_id: int
    source_id: str
    sent_at: str
    text: str
    type: str
    alias: str
    thread_source_id: str
    edited_at: str | None
    edited_by: str
    reactions: str
    mentions: str
    attachments: str
    operation_id: int


class FileRow(NamedTuple):
    """One file of the message `(room_id, message_source_id)`, which is there already."""

    room_id: int
    message_source_id: str
    source_id: str
    name: str
    mime_type: str
    size: int
    url: str
    status: str
    external: bool
    problem: str


class _Days(dict[int, str]):
    """Day number since the epoch -> its date and a space; a workspace has a few thousand."""

    def __missing__(self, number: int) -> str:
        if len(self) > 20_000:
            self.clear()
        text = self[number] = f"{date.fromordinal(EPOCH_DAY + number)} "
        return text


_DAYS = _Days()
# Formatting a number costs five times a look-up.
_MINUTES = [f"{minute // 60:02d}:{minute % 60:02d}:" for minute in range(1440)]
_SECONDS = [f"{second:02d}" for second in range(60)]


def moment_text(at: int) -> str:
    """Microseconds since the epoch as text, UTC: such texts compare as the times do.

    Exactly what Django writes on SQLite, where comparisons are textual: no `.000000`.
    """
    seconds, micros = divmod(at, 1_000_000)
    minutes, second = divmod(seconds, 60)
    day, minute = divmod(minutes, 1440)
    if micros:
        return f"{_DAYS[day]}{_MINUTES[minute]}{_SECONDS[second]}.{micros:06d}"
    return f"{_DAYS[day]}{_MINUTES[minute]}{_SECONDS[second]}"


def reactions_json(reactions: Iterable[tuple[str, Iterable[str]]]) -> str:
    """`(":name:", usernames)` pairs in the one form that is stored: sorted, so equal means equal text."""
    return msgspec.json.encode(
        {
            name: {"usernames": sorted(usernames)}
            for name, usernames in sorted(reactions, key=itemgetter(0))
        }
    ).decode()
