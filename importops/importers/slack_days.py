"""Day files -> batches of messages. Counting and importing both read through here, so that both see
the same messages and the same failures.

1. A file of usual size is unpacked and decoded as a whole.
2. One that is larger, or holds anything unlike what Slack writes, is taken apart element by element,
   in flat memory.
3. Every message leaves here with a time that can be imported, or as a failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from importops.errors import EntryError
from importops.importers.archive import Archive
from importops.importers.json_stream import RAW_LIMIT, iter_array
from importops.importers.slack_layout import Day
from importops.importers.slack_schema import (
    SlackHead,
    SlackMessage,
    are_usual,
    loads,
    microseconds,
    to_message,
)
from importops.limits import Limits
from importops.records import BadRecord, Cursor, repair_text

__all__ = ["Batch", "DayReader"]

BATCH_ELEMENTS = 1000
BATCH_BYTES = 8 * 1024**2
BATCH_FAILURES = 200
"""Failures carry what failed, so many of them are a lot of memory."""


M = TypeVar("M", bound=SlackHead)


class Batch(msgspec.Struct, Generic[M]):
    """Neighbouring elements of one day file."""

    day: Day
    next: Cursor
    """Where to go on after this batch."""
    messages: list[M]
    indexes: Sequence[int]
    """Of the messages, in the file."""
    failures: list[BadRecord]
    read: int
    """Bytes read, unpacked."""
    usual_times: bool = False
    """Every `ts` is of the usual form (`are_usual`)."""


class _Elements(msgspec.Struct, Generic[M]):
    """Elements being gathered into a batch."""

    messages: list[M] = []
    indexes: list[int] = []
    failures: list[BadRecord] = []
    size: int = 0

    @property
    def full(self) -> bool:
        return (
            len(self.messages) + len(self.failures) >= BATCH_ELEMENTS
            or len(self.failures) >= BATCH_FAILURES
            or self.size >= BATCH_BYTES
        )


class DayReader(Generic[M]):
    """Reads day files of `archive`."""

    def __init__(
        self, archive: Archive, limits: Limits, decode: Callable[[bytes], list[M] | None]
    ) -> None:
        self._decode = decode
        self._archive = archive
        self._max_record = limits.max_record_bytes
        # Whole files are not measured record by record, so none may be larger than a record.
        self._max_whole = min(limits.whole_entry_bytes, limits.max_record_bytes)

    def batches(self, day: Day, start: int = 0) -> Iterator[Batch[M]]:
        """Elements of `day` from number `start` on. A file that cannot be read, wholly or from
        some point on, has one failure for that. Gives at least one batch.
        """
        entry = day.entry
        if entry.size > self._max_whole:
            return self._taken_apart(day, self._archive.stream(entry), start)
        try:
            data = self._archive.read(entry)
        except EntryError as error:
            failures = [_unreadable(day, error, 0)] if not start else []
            return iter([_last_batch(day, [], failures, 0)])
        messages = self._decode(data)
        if messages is None:
            return self._taken_apart(day, [data], start)
        if start or len(messages) > BATCH_ELEMENTS:
            return self._cut(day, data, messages, start)
        if are_usual([message.ts for message in messages]):
            return iter([_last_batch(day, messages, [], entry.size, True)])
        return self._cut(day, data, messages, start)

    def _cut(self, day: Day, data: bytes, messages: list[M], start: int) -> Iterator[Batch[M]]:
        """Batches of a file that was decoded as a whole."""
        raws: list[msgspec.Raw] = []
        elements: _Elements[M] = _Elements()
        number = day.entry.number
        for index in range(start, len(messages)):
            if elements.full:
                yield _batch(day, [number, index], elements, 0)
                elements = _Elements()
            message = messages[index]
            if _check_time(message):
                elements.messages.append(message)
                elements.indexes.append(index)
            else:
                raws = raws or msgspec.json.decode(data, type=list[msgspec.Raw])
                elements.failures.append(_bad_time(day, index, loads(raws[index])))
        yield _batch(day, [number + 1, 0], elements, day.entry.size)

    def _taken_apart(self, day: Day, chunks: Iterable[bytes], start: int) -> Iterator[Batch[M]]:
        """Batches of a file that is read element by element."""
        counter = _CountedChunks(chunks)
        elements: _Elements[Any] = _Elements()
        number, begins, index = day.entry.number, -1, start - 1
        try:
            for element in iter_array(counter, self._max_record, start):
                if elements.full:
                    yield _batch(day, [number, element.index], elements, counter.take())
                    elements = _Elements()
                index = element.index
                if begins >= 0:
                    elements.size += element.at - begins
                elif start:
                    counter.take()  # what is before `start` was reported when it was read
                begins = element.at
                if element.code:
                    elements.failures.append(
                        BadRecord(
                            kind="message",
                            place=f"{day.name}[{index}]",
                            code=element.code,
                            message=element.message,
                            raw=repair_text(element.raw),
                        )
                    )
                    continue
                message = _checked(day, index, element.value)
                if isinstance(message, BadRecord):
                    elements.failures.append(message)
                else:
                    elements.messages.append(message)
                    elements.indexes.append(index)
        except EntryError as error:
            elements.failures.append(_unreadable(day, error, index + 1))
        yield _batch(day, [number + 1, 0], elements, counter.take())


class _CountedChunks:
    """Passes chunks on, and knows how many bytes went by since it was last asked."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._bytes += len(chunk)
            yield chunk

    def take(self) -> int:
        count, self._bytes = self._bytes, 0
        return count


def _batch(day: Day, cursor: Cursor, elements: _Elements[M], read: int) -> Batch[M]:
    return Batch(day, cursor, elements.messages, elements.indexes, elements.failures, read)


def _last_batch(
    day: Day,
    messages: list[M],
    failures: list[BadRecord],
    read: int,
    usual_times: bool = False,
) -> Batch[M]:
    cursor, indexes = [day.entry.number + 1, 0], range(len(messages))
    return Batch(day, cursor, messages, indexes, failures, read, usual_times)


def _checked(day: Day, index: int, value: Any) -> SlackMessage | BadRecord:
    if not isinstance(value, dict):
        return BadRecord(
            kind="message",
            place=f"{day.name}[{index}]",
            code="importer-message-invalid",
            message=f"This is {_kind(value)}, and a message is a JSON object.",
            raw=_raw(value),
        )
    message = to_message(value)
    return message if _check_time(message) else _bad_time(day, index, value)


def _check_time(message: SlackHead) -> bool:
    """Whether the message's `ts` can be imported; space around it is taken off."""
    message.ts = message.ts.strip()
    return microseconds(message.ts) is not None


def _bad_time(day: Day, index: int, value: Any) -> BadRecord:
    ts = value.get("ts") if isinstance(value, dict) else None
    if ts is None:
        message = "The message has no time (ts)."
    else:
        shown = repair_text(json.dumps(ts, ensure_ascii=False)[:80])
        message = f"The message's time (ts) is {shown}, which is no time it could have."
    return BadRecord(
        kind="message",
        place=f"{day.name}[{index}]",
        code="importer-message-invalid-timestamp",
        message=message,
        raw=_raw(value),
    )


def _unreadable(day: Day, error: EntryError, first: int) -> BadRecord:
    """A file that cannot be read from element `first` on: `general/2024-01-02.json[17:]`."""
    place = f"{day.name}[{first}:]" if first else day.name
    return BadRecord(kind="message", place=place, code=error.code, message=error.message)


def _raw(value: Any) -> str:
    return repair_text(json.dumps(value, ensure_ascii=False)[:RAW_LIMIT])


def _kind(value: Any) -> str:
    kinds = {str: "text", list: "a list", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
