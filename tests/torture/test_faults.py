"""The short form of `make torture`: every fault strikes one import, and the workspace is the undisturbed one.

The seed is another one on each day, so that CI sees other moments; a failure prints it. TORTURE_SEED
repeats one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from importops.conf import Conf
from importops.engine.pausing import LONGEST_WAIT as LONGEST_PAUSE
from importops.engine.slices import QUEUE_GRACE
from importops.tasks.supervisor import LOOK_EVERY
from importops.tasks.worker import LONGEST_WAIT, POLL_SECONDS
from tests.torture.faults import FAULTS, Fault
from tests.torture.rounds import Bench, torture
from tests.torture.site import TAKEN_UP_WITHIN

SEED = os.environ.get("TORTURE_SEED") or date.today().isoformat()
STARTING = 4.0
"""Seconds in which a worker process starts on a machine that is not out of breath."""

pytestmark = [
    pytest.mark.process,
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bench]]:
    made: dict[str, Bench] = {}
    yield made
    for bench in made.values():
        bench.remove()


def cases() -> Iterator[Any]:
    for fault in FAULTS:
        for kind in fault.databases:
            marks = [getattr(pytest.mark, kind)]
            yield pytest.param(fault, kind, marks=marks, id=f"{fault.name}, {kind}")


@pytest.mark.parametrize(("fault", "kind"), list(cases()))
def test_the_workspace_is_that_of_an_undisturbed_import(
    fault: Fault,
    kind: str,
    benches: dict[str, Bench],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    reason = Bench.why_not(kind, fault)
    if reason:
        pytest.skip(reason)
    if kind not in benches:
        benches[kind] = Bench(tmp_path_factory.mktemp("torture"), kind)
    outcome = torture(benches[kind], fault, f"{SEED}:1:{fault.name}:{kind}")

    assert outcome.recovered < TAKEN_UP_WITHIN


def test_with_the_defaults_what_was_lost_is_taken_up_within_half_a_minute() -> None:
    """The torture runs with a short lease; this is what its proof means for the real one."""
    found_after = Conf.__dataclass_fields__["sweep_seconds"].default
    lease = Conf.__dataclass_fields__["lease_seconds"].default
    worker = LOOK_EVERY + POLL_SECONDS + STARTING

    assert lease + found_after + worker <= 30  # its worker was killed
    assert QUEUE_GRACE.total_seconds() + found_after + worker <= 30  # its task was lost
    assert max(LONGEST_PAUSE, LONGEST_WAIT) <= 30
