"""An export that is read where it lies, by workers of which some do not have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from importops.actions.operations import create_operation_in_place, start_operation
from importops.engine.running import advance, run_operation, run_slice
from importops.errors import MustWait
from importops.models import ImportOperation, ImportSlice, Status, User
from importops.tasks.jobs import work_on_slice
from tests.benchmarks.generate import build
from tests.journeys import EVERYTHING

pytestmark = pytest.mark.django_db


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    build(path, messages=200, seed=3, users=20)
    return path


@pytest.fixture
def away(export: Path, tmp_path: Path) -> Path:
    return tmp_path / "of-another-machine.zip"


@pytest.mark.postgresql
def test_a_worker_without_the_file_leaves_the_slice_to_others(
    export: Path, away: Path, alice: User
) -> None:
    operation = create_operation_in_place(user=alice, importer_key="slack", path=export)
    export.rename(away)
    piece = operation.slices.get()
    with pytest.raises(MustWait, match="is not on this machine"):
        run_slice(piece.pk)
    work_on_slice.func(piece.pk)

    piece.refresh_from_db()
    operation.refresh_from_db()
    assert (piece.status, piece.attempt, piece.stalled) == (ImportSlice.Status.READY, 0, 0)
    assert operation.status == Status.FILE_LOADED
    assert f"{export} is not on this machine" in operation.paused_because

    away.rename(export)
    run_operation(operation)
    assert operation.status == Status.USER_SELECTION
    assert operation.paused_because == ""


@pytest.mark.postgresql
def test_a_sweeper_without_the_file_does_not_fail_the_operation(
    export: Path, away: Path, alice: User
) -> None:
    operation = create_operation_in_place(user=alice, importer_key="slack", path=export)
    # As if the process had been killed between its last batch and the next phase.
    listing = operation.slices.get()
    run_slice(listing.pk)
    operation.slices.exclude(pk=listing.pk).delete()
    ImportOperation.objects.filter(pk=operation.pk).update(phase="listing")
    export.rename(away)

    with pytest.raises(MustWait):
        advance(operation.pk)
    operation.refresh_from_db()
    assert operation.status != Status.FAILED
    assert "is not on this machine" in operation.paused_because

    away.rename(export)
    assert advance(operation.pk) != []


@pytest.mark.postgresql
def test_a_worker_without_the_file_does_the_phases_that_need_none(
    export: Path, away: Path, alice: User
) -> None:
    operation = create_operation_in_place(user=alice, importer_key="slack", path=export)
    run_operation(operation)
    start_operation(operation, EVERYTHING, alice, queue=False)
    export.rename(away)
    users = operation.slices.get(phase="users")
    (rooms,) = run_slice(users.pk)
    (messages,) = run_slice(rooms)
    with pytest.raises(MustWait):
        run_slice(messages)

    operation.refresh_from_db()
    assert operation.status == Status.IMPORTING_CHANNELS
    assert User.objects.filter(operation=operation).count() >= 20
