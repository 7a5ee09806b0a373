"""Several workers on one import: the same workspace as one alone, whoever meets what first."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from django.db import connection, connections

from importops.actions.operations import create_operation_in_place, start_operation
from importops.engine.progress import counts
from importops.engine.running import run_operation, run_slice
from importops.importers import slack
from importops.models import ImportOperation, ImportSlice, Status, User
from tests.acceptance.processes import empty_workspace, start_process
from tests.canonical import canonical_hash
from tests.exports import slack_message, slack_room, slack_user, slack_zip
from tests.journeys import EVERYTHING, adds_up, import_all

WORKERS = 3
ROOMS, DAYS = 8, 6
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.process]


@pytest.fixture(autouse=True)
def many_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "SPAN_ENTRIES", 2)


def export(path: Path) -> Path:
    """Everybody speaks everywhere: two members, and strangers who all go by the same few names."""
    chance = random.Random(7)
    strangers = [f"U9{number:02d}" for number in range(30)]
    messages: dict[str, dict[str, list[dict[str, object]]]] = {}
    for room in range(ROOMS):
        for day in range(DAYS):
            some = []
            for number in range(20):
                author = chance.choice(["U1", "U2", *strangers])
                text = f"<@{chance.choice(strangers)}> said <@{chance.choice(strangers)}>"
                profile = {"name": f"ghost{int(author[1:]) % 3}", "real_name": f"{room} {day}"}
                ts = f"{1704189600 + day * 86400 + number}.{room:06d}"
                some.append(slack_message(text, ts, author, user_profile=profile))
            messages.setdefault(f"room{room}", {})[f"2024-01-{day + 2:02d}"] = some
    channels = [slack_room(f"C{room}", f"room{room}", ["U1", "U2"]) for room in range(ROOMS)]
    users = [slack_user("U1", "ann"), slack_user("U2", "ghost1")]
    return slack_zip(path, users=users, channels=channels, messages=messages)


@pytest.fixture
def expected(alice: User, tmp_path: Path) -> tuple[Path, str]:
    """The export, and the hash of the workspace that one worker makes of it."""
    path = export(tmp_path / "export.zip")
    operation = import_all(path, alice)
    assert operation.status == Status.DONE
    assert operation.slices.filter(phase="messages").count() > 2 * WORKERS
    found = canonical_hash()
    empty_workspace()
    return path, found


def test_workers_side_by_side_make_the_same_workspace(
    expected: tuple[Path, str], alice: User
) -> None:
    path, undisturbed = expected
    operation = create_operation_in_place(user=alice, importer_key="slack", path=path)
    together(operation)
    operation.refresh_from_db()
    assert operation.status == Status.USER_SELECTION
    start_operation(operation, EVERYTHING, alice, queue=False)
    together(operation)
    operation.refresh_from_db()

    assert operation.status == Status.DONE
    assert canonical_hash() == undisturbed
    assert adds_up(operation)
    assert counts(operation)["messages"]["created"] == ROOMS * DAYS * 20
    # Nobody ran into anybody: no try was lost to a conflict or a deadlock.
    again = operation.slices.filter(attempt__gt=1)
    assert list(again.values_list("phase", "number", "attempt")) == []
    workers = set(operation.slices.filter(phase="messages").values_list("worker", flat=True))
    if connection.vendor == "postgresql":
        assert len(workers) > 1, "only one of them did all the work"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_slices_changes_nothing(
    expected: tuple[Path, str], alice: User, seed: int
) -> None:
    path, undisturbed = expected
    chance = random.Random(seed)
    operation = create_operation_in_place(user=alice, importer_key="slack", path=path)
    run_in_any_order(operation, chance)
    start_operation(operation, EVERYTHING, alice, queue=False)
    run_in_any_order(operation, chance)
    operation.refresh_from_db()

    assert operation.status == Status.DONE
    assert canonical_hash() == undisturbed


def run_in_any_order(operation: ImportOperation, chance: random.Random) -> None:
    while ready := list(
        ImportSlice.objects.filter(operation=operation, status=ImportSlice.Status.READY)
        .of_active_operations()
        .values_list("pk", flat=True)
    ):
        run_slice(chance.choice(ready))


def together(operation: ImportOperation) -> None:
    """Run what the operation has to do now in several processes at once."""
    connections.close_all()
    workers = [start_process(lambda: run_operation(operation)) for _ in range(WORKERS)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
