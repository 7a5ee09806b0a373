"""What the person chose, applied to what was staged.

A selection is `{"users": {"all": true} | {"list": [import ids]}, "channels": …, "since", "until",
"grantRoles"}`; an absent kind is none of it. Direct rooms are chosen together, under one name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from importops.engine.reading import DateRange
from importops.errors import InvalidSelection
from importops.models import ImportOperation, StagedRecord

DIRECT_MESSAGES = "__directMessages__"
DESELECTED = "deselected"
AT_ONCE = 500


def date_range(selection: dict[str, Any]) -> DateRange:
    """The range that `since` and `until` ask for. Raises `InvalidSelection`."""
    return DateRange(
        since=_moment(selection.get("since"), "since"),
        until=_moment(selection.get("until"), "until", end_of_day=True),
    )


def _moment(value: Any, name: str, *, end_of_day: bool = False) -> int | None:
    if value in (None, ""):
        return None
    try:
        if len(str(value)) == len("2024-01-31"):
            # A day means all of it, so until 31 January includes that day's evening.
            day = date.fromisoformat(value) + timedelta(days=int(end_of_day))
            moment = datetime.combine(day, time(), tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        raise InvalidSelection(f"{name}: {value!r} is not a date such as 2024-01-31.") from None
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Choice:
    """A selection, understood. Of users and rooms it has the import ids, None for all."""

    users: frozenset[str] | None
    rooms: frozenset[str] | None
    dates: DateRange

    @property
    def direct_rooms(self) -> bool:
        """Direct rooms have no names a list could show; one entry stands for all of them."""
        return self.rooms is None or DIRECT_MESSAGES in self.rooms

    def takes_user(self, row: StagedRecord) -> bool:
        return self.users is None or row.import_id in self.users

    def takes_room(self, import_id: str, type_of_room: str) -> bool:
        if self.rooms is None or (type_of_room == "d" and self.direct_rooms):
            return True
        return import_id in self.rooms


def choice_of(selection: dict[str, Any]) -> Choice:
    """Raises `InvalidSelection`."""
    wanted = date_range(selection)
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise InvalidSelection("since lies after until; no message could be imported.")
    return Choice(_ids(selection, "users"), _ids(selection, "channels"), wanted)


def apply_selection(operation: ImportOperation, selection: dict[str, Any]) -> Counter[str]:
    """Mark what is wanted; the tally of what is not, counted at once as skipped.

    Runs in the transaction that starts the operation. Raises `InvalidSelection`.
    """
    choice = choice_of(selection)
    staged = StagedRecord.objects.filter(operation=operation)
    tally: Counter[str] = Counter()
    _choose(staged.users(), choice.users)
    _choose(staged.rooms(), choice.rooms)
    if choice.direct_rooms:
        staged.rooms().filter(data__type="d").update(selected=True)
    tally["users.skipped.deselected"] = staged.users().filter(selected=False).count()
    for found in staged.rooms().filter(selected=False).values_list("found", flat=True).iterator():
        tally.update(deselected_room(found))
        tally["bytes.deselected"] += found.get("read", 0)
    staged.filter(selected=False, kind__in=[StagedRecord.Kind.USER, StagedRecord.Kind.ROOM]).update(
        status=StagedRecord.Status.SKIPPED, note=DESELECTED
    )
    return +tally


def deselected_room(found: Mapping[str, Any]) -> Counter[str]:
    """What is skipped with a room that is not wanted: itself, and what preparing found in it."""
    return Counter(
        {
            "channels.skipped.deselected": 1,
            "messages.skipped.deselected": found.get("messages", 0),
            "files.skipped.deselected": found.get("files", 0),
        }
    )


def _ids(selection: dict[str, Any], kind: str) -> frozenset[str] | None:
    """The import ids chosen, None for all."""
    selector = selection.get(kind) or {}
    if not isinstance(selector, dict):
        raise InvalidSelection(f'{kind} must be {{"all": true}} or {{"list": [ids]}}.')
    if selector.get("all") is True:
        return None
    ids = selector.get("list") or []
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise InvalidSelection(f"{kind}.list must be a list of import ids.")
    return frozenset(ids)


def _choose(staged: Any, ids: frozenset[str] | None) -> None:
    staged.update(selected=ids is None)
    for some in _pieces(sorted(ids or ())):
        staged.filter(import_id__in=some).update(selected=True)


def _pieces(ids: list[str]) -> Iterable[list[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
