"""Counting messages, for preparing: how many in each room, from when to when, by whom.

Counts whole batches at a time: it runs once for every message, beside decoding, and may cost next to
nothing.
"""

from __future__ import annotations

from collections.abc import Container

from importops.importers.slack_authors import author_id, author_record
from importops.importers.slack_days import Batch
from importops.importers.slack_files import count_files, files_of
from importops.importers.slack_messages import skip_reason
from importops.importers.slack_schema import SlackHead, microseconds
from importops.records import SYSTEM_BOT, AuthorRecord, Chunk, MessageRecord, RoomScan, Scan

__all__ = ["Counter", "add_heads"]

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
            counts = scan.rooms[room] = RoomScan(exact=True)
        counts.read += batch.read
        counts.messages += len(messages) + len(batch.failures)
        counts.failed += len(batch.failures)
        for message in messages:
            if message.files or message.file:
                counts.files += count_files(message)
            if message.subtype or (message.type is not None and message.type != "message"):
                _leave_out(message, counts)
        if messages:
            times = [message.ts for message in messages]
            if len(set(times)) < len(times):
                counts.exact = False
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


def _leave_out(message: SlackHead, counts: RoomScan) -> None:
    if reason := skip_reason(message):
        counts.skipped[reason] = counts.skipped.get(reason, 0) + 1
        counts.skipped_files += count_files(message)


def add_heads(batch: Batch[SlackHead], chunk: Chunk) -> None:
    """Append to `chunk` what `Converter.add` would, of records no more than their heads."""
    usual, records = batch.usual_times, chunk.records
    for message in batch.messages:
        odd = message.subtype or (message.type is not None and message.type != "message")
        if odd and (reason := skip_reason(message)):
            chunk.skipped[reason] = chunk.skipped.get(reason, 0) + 1
            chunk.skipped_files += count_files(message)
            continue
        ts = message.ts
        sent_at = int(ts.replace(".", "")) if usual else microseconds(ts) or 0
        record = MessageRecord(ts, sent_at, "", "")
        if message.files or message.file:
            record.files = files_of(message)
        records.append(record)
    chunk.failures += batch.failures
    chunk.read += batch.read
    chunk.cursor = batch.next


def _widen(counts: RoomScan, times: list[str]) -> None:
    """Let `counts` reach from the first to the last of `times`. Two stretches that lie over each other
    may have messages in common."""
    found = [at for at in map(microseconds, times) if at is not None]
    first, last = min(found), max(found)
    if counts.last_at is not None and first <= counts.last_at:
        counts.exact = False
    if counts.first_at is None or first < counts.first_at:
        counts.first_at = first
    if counts.last_at is None or last > counts.last_at:
        counts.last_at = last
