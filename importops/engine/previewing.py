"""A dry run: what an import of this selection would do, with nothing written to the workspace.

1. The first slice decides about users and rooms as the import does (`imagining.py` stands for accounts
   that are not there), and about messages wherever preparing found out enough.
2. It makes slices for the stretches that have to be read again, heads only: of rooms that are here
   already, that dates cut through, or that may hold a message twice (`previewing_messages.py`).
3. `end_preview` adds it all up on the operation.

Its counts and failures are its own, until the import starts, or another dry run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

import msgspec
from django.utils import timezone

from importops.engine.imagining import ImaginedUsers
from importops.engine.importing_rooms import ROOMS_AT_ONCE, tally_key, writing_order
from importops.engine.importing_users import USERS_AT_ONCE, UserBatch
from importops.engine.previewing_messages import Reading, read_heads
from importops.engine.progress import Tally, sum_tallies
from importops.engine.resolve import UserMatch
from importops.engine.resolve_rooms import RoomMatch, RoomMatcher
from importops.engine.selecting import Choice, choice_of, deselected_room
from importops.engine.slices import Batch, Work, create_slices
from importops.errors import ImportopsError
from importops.models import (
    ImportOperation,
    ImportSlice,
    Membership,
    Phase,
    StagedRecord,
    User,
)
from importops.records import NAME_LIMIT, BadRecord, RoomRecord

RENEW_AFTER = 2.0
"""Seconds after which the first slice says that it is alive."""
MEMBERS_AT_ONCE = 900
FOUND_BY = {"email": "its e-mail address", "username": "its username"}


def preview(work: Work) -> None:
    """Do one slice of a dry run."""
    operation = work.operation
    operation.selection = operation.preview["selection"]
    choice = choice_of(operation.selection)
    if work.slice.start:
        read_heads(work, choice.dates)
    elif work.cursor is None:
        decide(work, choice)


def decide(work: Work, choice: Choice) -> None:
    """The first slice. It has no cursor half-way: who starts it again decides from the beginning."""
    decisions = Decisions(work)
    users = ImaginedUsers(work.operation)
    preview_users(decisions, choice, users)
    reading = preview_rooms(decisions, choice, users)
    parts = ImportSlice.objects.filter(operation=work.operation, phase=Phase.COUNTING)
    spans = reading.spans(list(parts.order_by("number")))
    work.made = decisions.finish(spans)


class Decisions:
    """What has been decided, on its way into the database: failures and notes soon, the sums at the end,
    so that whoever begins again counts nothing twice."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.operation = work.operation
        self.tally: Tally = Counter()
        self._failures: list[BadRecord] = []
        self._noted: list[StagedRecord] = []
        self._kept_at = monotonic()

    def take(self, batch: Batch, rows: Sequence[StagedRecord]) -> None:
        """What one batch of records came to; `rows` are those that a person should know more of."""
        self.tally.update(batch.tally)
        self._failures += batch.failures
        self._noted += rows
        if len(self._failures) + len(self._noted) >= 200 or self._is_late:
            with self.work.batch() as committed:
                self._keep(committed)

    @property
    def _is_late(self) -> bool:
        return monotonic() - self._kept_at > RENEW_AFTER

    def _keep(self, batch: Batch) -> None:
        # The slice before the notes: who starts the import takes both in this order, and would
        # otherwise run into us from the other side.
        mine = ImportSlice.objects.filter(pk=self.work.slice.pk)
        mine.select_for_update(no_key=True).order_by().first()
        # Not `fail`: they are in the sums.
        batch.failures += self._failures
        StagedRecord.objects.bulk_update(self._noted, ["note"], batch_size=100)
        self._failures, self._noted, self._kept_at = [], [], monotonic()

    def finish(self, spans: Sequence[tuple[Any, int, int]]) -> list[int]:
        """Keep the rest and the sums, and make slices of `spans`; their ids."""
        with self.work.batch() as batch:
            self._keep(batch)
            batch.tally.update(self.tally)
            batch.cursor = [1]
            made = create_slices(self.operation.pk, Phase.PREVIEWING, spans)
        return made


def preview_users(decisions: Decisions, choice: Choice, users: ImaginedUsers) -> None:
    operation = decisions.operation
    staged = StagedRecord.objects.users().filter(operation=operation).order_by("pk")
    last = 0
    while some := list(staged.filter(pk__gt=last)[:USERS_AT_ONCE]):
        last = some[-1].pk
        wanted = [row for row in some if choice.takes_user(row)]
        batch = Batch()
        batch.add("users.skipped.deselected", len(some) - len(wanted))
        decided = UserBatch(operation, wanted, batch, users.matcher)
        decided.decide()
        noted = []
        for row, match, user in decided.decided:
            if match.found_by:
                batch.add(f"users.found-by.{match.found_by}")
            row.note = user_note(match, user)
            if row.note:
                noted.append(row)
        users.learn(decided)
        batch.add("users.conflicts", len(noted))
        decisions.take(batch, noted)


def user_note(match: UserMatch, user: User) -> str:
    """What a person should know before it happens; '' for what is as expected."""
    found = FOUND_BY.get(match.found_by)
    told = f"is the account {user.username}, found by {found}" if found else ""
    return "; ".join(filter(None, (told, match.note)))[:NAME_LIMIT]


def preview_rooms(decisions: Decisions, choice: Choice, users: ImaginedUsers) -> Reading:
    """Decide about rooms, in the order in which they are imported; what of their messages has to be
    read."""
    operation = decisions.operation
    matcher = RoomMatcher(operation, users)
    reading = Reading(choice.dates)
    order = writing_order(StagedRecord.objects.rooms().filter(operation=operation))
    for start in range(0, len(order), ROOMS_AT_ONCE):
        keys = order[start : start + ROOMS_AT_ONCE]
        staged = StagedRecord.objects.in_bulk(keys)
        batch = Batch()
        rows = list(wanted_rooms((staged[pk] for pk in keys), choice, batch))
        for _, record in rows:
            if record.type == "d":
                users.let_in(record.members)
        matcher.load([record for _, record in rows])
        noted = []
        for row, record in rows:
            match = matcher.match(record)
            preview_room(match, matcher, batch)
            reading.add(row, match, batch)
            row.note = room_note(match)
            if row.note:
                noted.append(row)
        batch.add("channels.conflicts", len(noted))
        decisions.take(batch, noted)
    decisions.take(reading.settle(), [])
    return reading


def wanted_rooms(
    rows: Iterator[StagedRecord], choice: Choice, batch: Batch
) -> Iterator[tuple[StagedRecord, RoomRecord]]:
    for row in rows:
        record = msgspec.convert(row.data, RoomRecord)
        if choice.takes_room(row.import_id, record.type):
            yield row, record
        else:
            batch.tally.update(deselected_room(row.found))


def preview_room(match: RoomMatch, matcher: RoomMatcher, batch: Batch) -> None:
    if match.problem:
        batch.fail(match.problem)
        return
    record, outcome = match.record, match.outcome
    members = dict.fromkeys([*record.members, *filter(None, [record.creator])])
    joined = number_joining(match, set(matcher.joining(record, members)))
    batch.add("memberships", joined)
    if joined and outcome == StagedRecord.Status.SKIPPED:
        outcome = StagedRecord.Status.UPDATED
    if match.found_by:
        batch.add(f"channels.found-by.{match.found_by}")
    batch.add(tally_key(outcome))


def number_joining(match: RoomMatch, accounts: set[int]) -> int:
    """How many of `accounts` are not in the room yet."""
    here = [key for key in accounts if key > 0]
    there = 0
    if match.room.pk is not None:
        memberships = Membership.objects.filter(room=match.room)
        for start in range(0, len(here), MEMBERS_AT_ONCE):
            there += memberships.filter(user__in=here[start : start + MEMBERS_AT_ONCE]).count()
    return len(accounts) - there


def room_note(match: RoomMatch) -> str:
    if match.problem:
        return ""
    if match.found_by == "name":
        return f"joins {match.room.name}, a room that is here already, found by its name"
    return match.note


def end_preview(operation: ImportOperation) -> None:
    """Everything is decided: the sums go to the operation, which can be started as before."""
    operation.refresh_from_db()
    slices = ImportSlice.objects.filter(operation=operation)
    previewed = slices.filter(phase=Phase.PREVIEWING)
    tally = sum_tallies(operation.base_tally, slices.exclude(phase=Phase.PREVIEWING))
    tally.update(sum_tallies({}, previewed))
    close_preview(operation, state="done", tally=dict(tally))


def fail_preview(operation_id: int, error: ImportopsError) -> None:
    """A dry run that cannot go on ends; the operation waits for the selection as before."""
    operation = ImportOperation.objects.get(pk=operation_id)
    ended = ImportOperation.objects.filter(pk=operation_id, phase=Phase.PREVIEWING)
    if ended.update(phase=Phase.NONE):
        close_preview(operation, state="failed", error=error.message, code=error.code)


def close_preview(operation: ImportOperation, **found: Any) -> None:
    now = timezone.now()
    preview = {**operation.preview, **found, "finished_at": now.timestamp()}
    ImportOperation.objects.filter(pk=operation.pk).update(preview=preview, updated_at=now)


def preview_state(operation: ImportOperation) -> str:
    """`none`, `running`, `done`, `failed`, or `stopped`: cancelled, or overtaken by the import."""
    state: str = operation.preview.get("state", "none")
    if state == "running" and (
        operation.phase != Phase.PREVIEWING or operation.finished_at or not operation.valid
    ):
        return "stopped"
    return state


def preview_seconds(operation: ImportOperation) -> float | None:
    found = operation.preview
    if "started_at" not in found:
        return None
    ended = found.get("finished_at")
    if ended is None and preview_state(operation) != "running":
        return None
    seconds: float = (ended or timezone.now().timestamp()) - found["started_at"]
    return round(seconds, 3)
