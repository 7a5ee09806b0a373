"""Kill an undo, or a merge, anywhere: it goes on from its last batch and ends with the same workspace.

Each piece of work runs in a process of its own that is really killed (`kill -9`).
"""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connections
from pytest_django import Settings

from importops.actions.operations import resume_operation
from importops.actions.undoing import merge_users, rollback_operation
from importops.engine.progress import counts
from importops.engine.running import run_operation
from importops.errors import ImportopsError
from importops.models import File, ImportOperation, Message, Status, User
from tests.acceptance.test_killed import in_a_process
from tests.benchmarks.generate import build
from tests.canonical import canonical_dump
from tests.factories import MessageFactory, RoomFactory
from tests.journeys import adds_up, import_all

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork()"),
]


@pytest.fixture(autouse=True)
def _many_small_batches(settings: Settings) -> None:
    settings.IMPORTOPS = replace(settings.IMPORTOPS, batch_rows=40)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    build(path, messages=2000, seed=3, users=60)
    return path


def run_with_kills(operation: ImportOperation, kills: int, seed: int) -> int:
    """How often it was killed before it was done."""
    moment = random.Random(seed)
    killed = 0
    while killed < kills:
        in_a_process(partial(run_operation, operation), moment.uniform(0.005, 0.08))
        operation.refresh_from_db()
        if operation.status == Status.DONE:
            return killed
        killed += 1
        resume_operation(operation, queue=False)
    in_a_process(lambda: run_operation(operation))
    operation.refresh_from_db()
    return killed


def test_an_undo_that_is_killed_at_random_moments_ends_alike(
    export: Path, alice: User, bob: User
) -> None:
    MessageFactory.create(room=RoomFactory.create(name="general"), author=bob)
    before = canonical_dump()
    target = import_all(export, alice)
    stored = []
    for file in File.objects.all()[:20]:
        file.content.save("report.pdf", ContentFile(b"%PDF"))
        stored.append(file.content.name)
    made = counts(target)
    operation = rollback_operation(target, alice, queue=False)
    killed = run_with_kills(operation, kills=15, seed=8)

    assert killed > 3
    assert operation.status == Status.DONE
    assert canonical_dump() == before
    assert adds_up(operation)
    numbers = counts(operation)
    assert numbers["messages"]["removed"] == made["messages"]["created"]
    assert numbers["files"]["removed"] == made["files"]["created"]
    assert not any(kind["skipped"] for kind in numbers.values())
    assert not any(default_storage.exists(name) for name in stored)


def test_a_merge_that_is_killed_at_random_moments_ends_alike(export: Path, alice: User) -> None:
    def merged(kills: int) -> list[str]:
        target = import_all(export, alice)
        authors = Message.objects.filter(author__operation=target).values("author")
        first, second = User.objects.filter(pk__in=authors, type="user").order_by("username")[:2]
        operation = merge_users(first, second, alice, move_emails=True, queue=False)
        assert run_with_kills(operation, kills, seed=9) >= min(kills, 3)
        assert operation.status == Status.DONE
        assert adds_up(operation)
        assert len(operation.notes) == 1
        dump = canonical_dump()
        undo = rollback_operation(target, alice, queue=False)
        run_operation(undo)
        return dump

    empty = canonical_dump()
    undisturbed = merged(kills=0)
    assert canonical_dump() == empty
    assert merged(kills=12) == undisturbed


def test_of_two_undos_at_once_one_is_refused(export: Path, alice: User) -> None:
    target = import_all(export, alice)
    outcomes: list[str] = []
    gate = threading.Barrier(2)

    def ask() -> None:
        gate.wait()
        try:
            rollback_operation(target, alice, queue=False)
        except ImportopsError as error:
            outcomes.append(error.code)
        else:
            outcomes.append("begun")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count("begun") == 1
    assert set(outcomes) - {"begun"} <= {
        "error-import-operation-in-progress",
        "error-import-undo-unfinished",
    }
    assert target.undone_by.count() == 1
