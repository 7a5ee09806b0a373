"""Counting messages, for preparing: how many in each room, from when to when, by whom.

Counts whole batches at a time: it runs once for every message, beside decoding, and may cost next to
nothing.
"""

from __future__ import annotations

from collections.abc import Container

from importops.importers.slack_authors import author_id, author_record
from importops.importers.slack_days import Batch
from importops.importers.slack_files import count_files
from importops.importers.slack_messages import skip_reason
from importops.importers.slack_schema import SlackHead, microseconds
from importops.records import SYSTEM_BOT, AuthorRecord, RoomScan, Scan

__all__ = ["Counter"]

SCAN_MESSAGES = 40_000
SCAN_ENTRIES = 4_000
SCAN_FAILURES = 200


class Counter:
    """Counts batches into `Scan`s. `known_users` are import ids of users that are on the list."""

    def __init__(self, known_users: Container[str]) -> None:
        self._known_users = known_users
        self._known: set[str | None] = set()
        """Users met that are on the list."""
        self._messages = self._entries = 0

    def add(self, batch: Batch[SlackHead], room: str, scan: Scan) -> None:
        """Count `batch`, of `room`, into `scan`."""
        messages = batch.messages
        counts = scan.rooms.get(room)
        if counts is None:
            counts = scan.rooms[room] = RoomScan()
        counts.messages += len(messages) + len(batch.failures)
        for message in messages:
            if message.files or message.file:
                counts.files += count_files(message)
        if messages:
            times = [message.ts for message in messages]
            if batch.usual_times:  # as text they sort like the times that they are
                times = [min(times), max(times)]
            _widen(counts, times)
            known = self._known
            strangers = [m for m in messages if m.user not in known]
            if strangers:
                self._meet(strangers, scan.authors)
        scan.failures += batch.failures
        scan.read += batch.read
        scan.cursor = batch.next
        self._messages += len(messages)
        self._entries += 1

    def is_enough(self, scan: Scan) -> bool:
        """Whether it is time to give `scan` away, and to begin another one."""
        if (
            self._messages < SCAN_MESSAGES
            and self._entries < SCAN_ENTRIES
            and len(scan.failures) < SCAN_FAILURES
        ):
            return False
        self._messages = self._entries = 0
        return True

    def _meet(self, messages: list[SlackHead], authors: dict[str, AuthorRecord]) -> None:
        """Messages of users not met before, and of those without a user."""
        for message in messages:
            author = author_id(message)
            if author == SYSTEM_BOT or author in self._known_users:
                if message.user:
                    self._known.add(message.user)
            elif not skip_reason(message):
                known = authors.get(author)
                if known is None or not (known.name and known.username):
                    authors[author] = _merged(known, author_record(message))


def _merged(known: AuthorRecord | None, more: AuthorRecord) -> AuthorRecord:
    if known is None:
        return more
    known.name = known.name or more.name
    known.username = known.username or more.username
    return known


def _widen(counts: RoomScan, times: list[str]) -> None:
    """Let `counts` reach from the first to the last of `times`."""
    found = [at for at in map(microseconds, times) if at is not None]
    first, last = min(found), max(found)
    if counts.first_at is None or first < counts.first_at:
        counts.first_at = first
    if counts.last_at is None or last > counts.last_at:
        counts.last_at = last
