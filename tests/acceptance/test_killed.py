"""Kill it anywhere: the import goes on from its last batch and ends with the same workspace.

Each piece of work runs in a process of its own that is really killed (`kill -9`).
"""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pytest_django import Settings

from importops.actions.operations import (
    create_operation_in_place,
    resume_operation,
    start_operation,
)
from importops.engine.progress import counts
from importops.engine.running import run_operation
from importops.engine.sources import index_path
from importops.models import (
    ImportOperation,
    Message,
    Status,
    User,
)
from tests.acceptance.processes import empty_workspace, in_a_process
from tests.benchmarks.generate import build
from tests.canonical import canonical_hash
from tests.journeys import EVERYTHING, adds_up

KILLS = 20
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork()"),
]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    build(path, messages=4000, seed=3, users=120)
    return path


@pytest.fixture
def many_small_batches(settings: Settings) -> None:
    settings.IMPORTOPS = replace(settings.IMPORTOPS, batch_rows=40)


@pytest.mark.usefixtures("many_small_batches")
def test_twenty_kills_at_random_moments_change_nothing(export: Path, alice: User) -> None:
    undisturbed = start(export, alice)
    in_a_process(lambda: run_operation(undisturbed))
    expected = canonical_hash()
    undisturbed.refresh_from_db()
    assert undisturbed.status == Status.DONE
    total = counts(undisturbed)
    empty_workspace()

    moment = random.Random(20)
    killed = 0
    operation = start(export, alice)
    while killed < KILLS:
        in_a_process(partial(run_operation, operation), moment.uniform(0.005, 0.12))
        operation.refresh_from_db()
        if operation.status == Status.DONE:
            # Faster than the kills: what is left of them strikes a new import.
            assert canonical_hash() == expected
            empty_workspace()
            operation = start(export, alice)
            continue
        killed += 1
        resume_operation(operation, queue=False)
    in_a_process(lambda: run_operation(operation))

    operation.refresh_from_db()
    assert operation.status == Status.DONE
    assert canonical_hash() == expected
    assert counts(operation) == total
    assert adds_up(operation)


def test_a_kill_while_the_export_is_read_is_survived_too(export: Path, alice: User) -> None:
    moment = random.Random(4)
    operation = create_operation_in_place(user=alice, importer_key="slack", path=export)
    for _ in range(8):
        in_a_process(partial(run_operation, operation), moment.uniform(0.005, 0.1))
        operation.refresh_from_db()
        if operation.status == Status.USER_SELECTION:
            break
        resume_operation(operation, queue=False)
    in_a_process(lambda: run_operation(operation))
    operation.refresh_from_db()

    assert operation.status == Status.USER_SELECTION
    assert operation.tally["messages.total"] == 4000
    assert operation.staged.users().count() == 120


def test_a_lost_index_is_made_anew(export: Path, alice: User) -> None:
    operation = start(export, alice)
    index_path(operation).unlink()
    run_operation(operation)

    assert operation.status == Status.DONE
    assert Message.objects.count() == 4000


def test_an_export_that_changed_under_the_import_fails_it_with_a_sentence(
    export: Path, alice: User, tmp_path: Path
) -> None:
    operation = start(export, alice)
    other = tmp_path / "other.zip"
    build(other, messages=50, seed=9, users=50)
    shutil.copy(other, export)
    run_operation(operation)

    assert operation.status == Status.FAILED
    assert "has changed" in operation.error


def start(export: Path, user: User) -> ImportOperation:
    """An operation whose import has been started, with nothing done yet."""
    operation = create_operation_in_place(user=user, importer_key="slack", path=export)
    run_operation(operation)
    start_operation(operation, EVERYTHING, user, queue=False)
    return operation
