"""What the person chose, applied to what was staged.

A selection is `{"users": {"all": true} | {"list": [import ids]}, "channels": …, "since", "until",
"grantRoles"}`; an absent kind is none of it. Direct rooms are chosen together, under one name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from importops.errors import InvalidSelection
from importops.models import ImportOperation, StagedRecord

DIRECT_MESSAGES = "__directMessages__"
DESELECTED = "deselected"
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class DateRange:
    """Which messages are wanted, in microseconds since the epoch; `until` is not included."""

    since: int | None
    until: int | None

    def __bool__(self) -> bool:
        return self.since is not None or self.until is not None

    def holds(self, sent_at: int) -> bool:
        return (self.since is None or sent_at >= self.since) and (
            self.until is None or sent_at < self.until
        )


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


def apply_selection(operation: ImportOperation, selection: dict[str, Any]) -> Counter[str]:
    """Mark what is wanted; the tally of what is not, counted at once as skipped.

    Runs in the transaction that starts the operation. Raises `InvalidSelection`.
    """
    wanted = date_range(selection)
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise InvalidSelection("since lies after until; no message could be imported.")
    staged = StagedRecord.objects.filter(operation=operation)
    tally: Counter[str] = Counter()
    _choose(staged.users(), _ids(selection, "users"))
    _choose_rooms(staged.rooms(), _ids(selection, "channels"))
    tally["users.skipped.deselected"] = staged.users().filter(selected=False).count()
    for found in staged.rooms().filter(selected=False).values_list("found", flat=True).iterator():
        tally["channels.skipped.deselected"] += 1
        tally["messages.skipped.deselected"] += found.get("messages", 0)
        tally["files.skipped.deselected"] += found.get("files", 0)
    staged.filter(selected=False, kind__in=[StagedRecord.Kind.USER, StagedRecord.Kind.ROOM]).update(
        status=StagedRecord.Status.SKIPPED, note=DESELECTED
    )
    return +tally


def _ids(selection: dict[str, Any], kind: str) -> list[str] | None:
    """The import ids chosen, None for all."""
    selector = selection.get(kind) or {}
    if not isinstance(selector, dict):
        raise InvalidSelection(f'{kind} must be {{"all": true}} or {{"list": [ids]}}.')
    if selector.get("all") is True:
        return None
    ids = selector.get("list") or []
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise InvalidSelection(f"{kind}.list must be a list of import ids.")
    return ids


def _choose(staged: Any, ids: list[str] | None) -> None:
    staged.update(selected=ids is None)
    for some in _pieces(ids or []):
        staged.filter(import_id__in=some).update(selected=True)


def _choose_rooms(staged: Any, ids: list[str] | None) -> None:
    direct = staged.filter(data__type="d")
    _choose(staged, ids)
    if ids is not None and DIRECT_MESSAGES in ids:
        # Direct rooms have no names a list could show; one entry stands for all of them.
        direct.update(selected=True)


def _pieces(ids: list[str]) -> Iterable[list[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
