"""Messages, room by room, in stretches of about a batch.

There is no index by author or by operation (it would double the cost of an import), so whatever has to
find messages by them walks through the rooms along the index that each room has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil
from typing import NamedTuple

from django.db.models import QuerySet

from importops.models import Message, Room
from importops.records import Cursor

MOST_SLICES = 16
COST_OF_A_STRETCH = 20
"""In rows: what the statements for a stretch cost by themselves, so that tiny rooms do not pile up."""


class Stretch(NamedTuple):
    """Messages of one room, by source id: those after `after`, up to and including `until`."""

    room_id: int
    after: str | None
    until: str

    def messages(self) -> QuerySet[Message]:
        rows = Message.objects.filter(room=self.room_id, source_id__lte=self.until)
        return rows if self.after is None else rows.filter(source_id__gt=self.after)


def cut_rooms(rooms: QuerySet[Room]) -> list[tuple[Cursor, int, int]]:
    """Slices over `rooms`, as `create_slices` takes them: first key, last key, number of rooms."""
    keys = list(rooms.order_by("pk").values_list("pk", flat=True))
    size = max(1, ceil(len(keys) / MOST_SLICES))
    pieces = [keys[at : at + size] for at in range(0, len(keys), size)]
    return [([some[0]], some[-1], len(some)) for some in pieces] or [([0], 0, 0)]


def stretches(
    rooms: Iterable[int], size: int, *, at: int = 0, after: str | None = None
) -> Iterator[list[Stretch]]:
    """What is in `rooms` (ascending keys), about `size` messages at a time, from `after` in room `at` on."""
    some: list[Stretch] = []
    rows = 0
    for room_id in rooms:
        if room_id < at:
            continue
        last = after if room_id == at else None
        while ids := _next_ids(room_id, last, max(1, size - rows)):
            some.append(Stretch(room_id, last, ids[-1]))
            rows += len(ids) + COST_OF_A_STRETCH
            last = ids[-1]
            if rows >= size:
                yield some
                some, rows = [], 0
    if some:
        yield some


def _next_ids(room_id: int, after: str | None, size: int) -> list[str]:
    rows = Message.objects.filter(room=room_id)
    if after is not None:
        rows = rows.filter(source_id__gt=after)
    return list(rows.order_by("source_id").values_list("source_id", flat=True)[:size])
