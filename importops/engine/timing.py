"""How long batches take, kept as sums in the tallies: a histogram that every process agrees on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds; what takes longer is in none of them, but in `batches`."""
COUNT = "batches"
MICROSECONDS = "batch_us"


def timing_of(seconds: float) -> dict[str, int]:
    """What a batch of `seconds` adds to its slice's tally."""
    added = {COUNT: 1, MICROSECONDS: max(1, round(seconds * 1_000_000))}
    bound = next((bound for bound in BUCKETS if seconds <= bound), None)
    if bound is not None:
        added[_key(bound)] = 1
    return added


def buckets_of(tally: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The histogram in a tally, as Prometheus wants it: upper bound, and how many took no longer."""
    so_far = 0
    for bound in BUCKETS:
        so_far += tally.get(_key(bound), 0)
        yield str(bound), so_far
    yield "+Inf", tally.get(COUNT, 0)


def _key(bound: float) -> str:
    return f"batch_seconds.le_{bound}"
