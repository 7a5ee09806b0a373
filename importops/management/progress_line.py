"""How an import is going, on one line: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import IO, Any, Protocol, Self, cast

from django.core.management.base import OutputWrapper
from django.utils import timezone
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
)

from importops.engine.pace import pace_of
from importops.engine.progress import counts, paused, percent, read_bytes
from importops.models import ImportOperation, Phase, Status
from importops.models.operations import ENDED

MIB = 1024**2
LINE_EVERY = 5.0
"""Seconds between two lines of the same phase, where there is no bar."""


class ProgressLine(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def show(self, operation: ImportOperation) -> None:
        """Tell how `operation` is going; called about once a second."""


def progress_line(out: OutputWrapper) -> ProgressLine:
    """What suits `out`: a bar for a terminal, lines for a file or a pipe."""
    return ProgressBar(out) if out.isatty() else ProgressLines(out)


def doing(operation: ImportOperation) -> str:
    """The phase, for a person."""
    if operation.is_cancelling:
        return "cancelling"
    if paused(operation) is not None:
        return "waiting"
    if is_working(operation):
        return str(operation.get_phase_display())
    return str(operation.get_status_display())


def is_working(operation: ImportOperation) -> bool:
    """Whether there is something to wait for; not while a person has to choose."""
    return operation.status not in ENDED and operation.phase != Phase.NONE


def share_done(operation: ImportOperation) -> int | None:
    """Percent, where that says something."""
    if is_working(operation) or operation.status == Status.DONE:
        return percent(operation)
    return None


def duration(seconds: float) -> str:
    """`42s`, `3m07s`, `2h05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def particulars(operation: ImportOperation) -> str:
    """Rate, time to go, bytes, records dealt with, failures so far."""
    parts = []
    rate, eta = pace_of(operation, timezone.now())
    if rate is not None:
        parts.append(f"{rate:,.0f}/s" if operation.has_started else f"{rate / MIB:,.1f} MiB/s")
    if eta is not None:
        parts.append(f"{duration(eta)} left")
    size = read_bytes(operation)
    if is_working(operation) and size["total"] >= MIB:
        parts.append(f"{size['read'] / MIB:,.0f} of {size['total'] / MIB:,.0f} MiB")
    parts += [f"{number:,} {kind}" for kind, number in dealt_with(operation).items()]
    if failed := failures_so_far(operation):
        parts.append(f"{failed:,} failed")
    return ", ".join(parts)


def dealt_with(operation: ImportOperation) -> dict[str, int]:
    """Per kind, the records that were dealt with; while preparing, those that were found."""
    numbers = {}
    for kind, number in counts(operation).items():
        done = number["total"]
        if operation.has_started:
            done = sum(number.values()) - number["total"]
        if done and kind != "files":
            numbers[kind] = done
    return numbers


def failures_so_far(operation: ImportOperation) -> int:
    if not operation.has_started:
        return int(operation.tally.get("problems", 0))
    return sum(number["failed"] for number in counts(operation).values())


class ProgressLines:
    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._last = ""
        self._told_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def show(self, operation: ImportOperation) -> None:
        phase, now = paused(operation) or doing(operation), time.monotonic()
        if phase == self._last and now - self._told_at < LINE_EVERY:
            return
        done = share_done(operation)
        share = "" if done is None else f" {done}%"
        told = particulars(operation)
        self._out.write(f"{phase}{share}{f' ({told})' if told else ''}")
        self._out.flush()
        self._last, self._told_at = phase, now


class ProgressBar:
    def __init__(self, out: OutputWrapper) -> None:
        console = Console(file=cast("IO[str]", _AsWritten(out)), highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            console=console,
            refresh_per_second=4,
        )
        self._task: TaskID | None = None
        self._reason: str | None = None
        # The bar tells each moment itself; lines of the log would tear it. What is wrong stays.
        self._log = logging.getLogger("importops")
        self._level = self._log.level

    def __enter__(self) -> Self:
        self._log.setLevel(max(logging.WARNING, self._log.getEffectiveLevel()))
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._log.setLevel(self._level)

    def show(self, operation: ImportOperation) -> None:
        reason = paused(operation)
        if reason and reason != self._reason:
            # Above the bar, where the whole sentence has room.
            self._bar.console.print(reason, markup=False)
        self._reason = reason
        done = share_done(operation)
        shown: dict[str, Any] = {
            "description": doing(operation),
            "total": None if done is None else 100,
            "completed": done or 0,
            "told": particulars(operation),
        }
        if self._task is None:
            self._task = self._bar.add_task(**shown)
        else:
            self._bar.update(self._task, **shown)


class _AsWritten:
    """`out` without the line end that Django adds to each write."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self.encoding = getattr(out, "encoding", "utf-8")

    def write(self, text: str) -> None:
        self._out.write(text, ending="")

    def flush(self) -> None:
        self._out.flush()

    def isatty(self) -> bool:
        return bool(self._out.isatty())

    def fileno(self) -> int:
        return int(self._out.fileno())
