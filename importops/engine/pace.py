"""How fast an operation gets on, and how long the rest will take.

What is kept in `ImportOperation.progress` is a handful of samples, (time, records, effort) each, of
the last seconds: the rate is that of a real window and not since the start, so after a pause or a
restart it tells within a second or two how it goes now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from importops.models import ImportOperation, Phase
from importops.models.operations import ENDED

WINDOW = 10.0
"""Seconds that the rate is taken over."""
SAMPLE_EVERY = 0.9
"""Seconds between two samples that are kept."""
STILL = 15.0
"""Seconds without a committed batch after which nothing is getting on; a lease is a little longer."""
LONGEST_GAP = 60.0
"""Seconds that slow batches may lie apart and still make a rate together."""

EFFORT = {"users": 8, "channels": 8, "messages": 1}
"""What a record costs, measured in messages: without it the first users would promise hours."""


class Amount(NamedTuple):
    """Something done or to be done: as a person counts it, and as it costs time."""

    records: int
    effort: int


class Pace(NamedTuple):
    """Records (while preparing bytes) a second, and seconds to go; None: not known."""

    rate: float | None
    eta: float | None


def measure(
    last: Mapping[str, Any], kind: str, done: Amount, total: Amount, now: datetime
) -> dict[str, Any]:
    """What to keep as `progress`, from what was kept before; of another `kind` nothing is taken over."""
    at = now.timestamp()
    samples = _recent(last, kind, done, at)
    progress: dict[str, Any] = {"at": at, "of": kind, "samples": [*samples, [at, *done]]}
    if not samples:
        return progress
    since, records, effort = samples[0]
    progress["rate"] = round((done.records - records) / (at - since), 1)
    if (speed := (done.effort - effort) / (at - since)) > 0:
        progress["eta"] = round(max(0, total.effort - done.effort) / speed, 1)
    return progress


def _recent(last: Mapping[str, Any], kind: str, done: Amount, at: float) -> list[list[float]]:
    samples: list[list[float]] = last.get("samples", [])
    if last.get("of") != kind or not samples:
        return []
    latest = samples[-1]
    if latest[0] >= at or latest[1] > done.records or latest[2] > done.effort:
        return []  # a sum that fell, or a clock that was set back
    within = [sample for sample in samples if at - sample[0] <= WINDOW]
    if not within and at - latest[0] <= LONGEST_GAP:
        return [latest]
    # Forced refreshes may follow each other at once; the window's ends are what matters.
    return within[:1] + [
        later for earlier, later in pairwise(within) if later[0] - earlier[0] >= SAMPLE_EVERY
    ]


def pace_of(operation: ImportOperation, now: datetime) -> Pace:
    """How it gets on now. Nothing, when nothing is going on; 0 when it should and does not."""
    if operation.status in ENDED or operation.phase == Phase.NONE or operation.is_cancelling:
        return Pace(None, None)
    progress = operation.progress
    if now.timestamp() - progress.get("at", now.timestamp()) > STILL:
        return Pace(0.0, None)
    return Pace(progress.get("rate"), progress.get("eta"))
