"""Rate and time to go: of the last seconds, in what the work costs, and nothing that is not so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from importops.engine.pace import Amount, measure, pace_of
from importops.models import ImportOperation, Phase, Status
from tests.factories import ImportOperationFactory

START = datetime(2026, 1, 1, tzinfo=UTC)
TOTAL = Amount(100_000, 100_000)
Progress = dict[str, Any]


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def running(
    moments: list[tuple[float, int]], last: Progress | None = None, kind: str = "importing"
) -> Progress:
    """What is kept after the sums of these moments: (second, records done)."""
    progress = last or {}
    for second, done in moments:
        progress = measure(progress, kind, Amount(done, done), TOTAL, after(second))
    return progress


def test_one_look_knows_no_rate() -> None:
    assert "rate" not in running([(0, 0)])


def test_the_rate_is_of_the_last_ten_seconds_and_not_since_the_start() -> None:
    slow = [(second, 100 * second) for second in range(60)]
    quick = [(60 + second, 6_000 + 1_000 * second) for second in range(11)]
    progress = running(slow + quick)

    assert progress["rate"] == pytest.approx(1_000, rel=0.01)
    assert progress["eta"] == pytest.approx((100_000 - 16_000) / 1_000, rel=0.01)


def test_what_is_kept_stays_small_however_often_it_is_looked_at() -> None:
    progress = running([(second / 50, second) for second in range(3_000)])

    assert len(progress["samples"]) <= 13
    assert progress["rate"] == pytest.approx(50, rel=0.1)


def test_after_a_pause_the_rate_is_that_of_the_work_and_not_of_the_pause() -> None:
    before = running([(second, 1_000 * second) for second in range(10)])
    progress = running([(300 + second, 9_000 + 500 * second) for second in range(3)], before)

    assert progress["rate"] == 500


def test_batches_that_are_slower_than_the_window_still_make_a_rate() -> None:
    assert running([(0, 0), (20, 1_000), (40, 2_000)])["rate"] == 50


def test_a_sum_that_fell_and_another_kind_of_work_begin_anew() -> None:
    before = running([(0, 0), (1, 1_000)])

    assert "rate" not in running([(2, 10)], before)
    assert "rate" not in running([(2, 2_000)], before, kind="preparing")


def test_time_to_go_counts_a_user_for_what_it_costs() -> None:
    """A hundred users a second, then a thousand messages a second, is not what was measured first."""
    total = Amount(101_000, 1_000 * 8 + 100_000)
    first = measure({}, "importing", Amount(0, 0), total, after(0))
    progress = measure(first, "importing", Amount(500, 4_000), total, after(1))

    assert progress["rate"] == 500
    assert progress["eta"] == pytest.approx(26, abs=0.1)


def importing(**fields: Any) -> ImportOperation:
    values = {
        "status": Status.IMPORTING_MESSAGES,
        "phase": Phase.MESSAGES,
        "started_at": START,
        "progress": {"at": START.timestamp(), "rate": 12.5, "eta": 60.0},
    }
    return ImportOperationFactory.build(**values | fields)


def test_a_fresh_measure_is_told_as_it_is() -> None:
    assert pace_of(importing(), after(2)) == (12.5, 60.0)


def test_what_should_get_on_and_does_not_has_a_rate_of_nothing_and_no_end() -> None:
    assert pace_of(importing(), after(20)) == (0.0, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": Status.DONE, "phase": Phase.NONE},
        {"status": Status.CANCELLED},
        {"status": Status.FAILED},
        {"status": Status.USER_SELECTION, "phase": Phase.NONE},
        {"cancel_requested_at": START},
    ],
    ids=["done", "cancelled", "failed", "ready", "cancelling"],
)
def test_what_is_at_rest_has_neither(fields: dict[str, Any]) -> None:
    assert pace_of(importing(**fields), after(1)) == (None, None)
