from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from importops.models import Phase, Status, User
from tests.commands.conftest import Run
from tests.factories import ImportOperationFactory, ImportSliceFactory

RUNNING = {"status": Status.IMPORTING_MESSAGES, "phase": Phase.MESSAGES}


def test_an_import_that_nobody_works_on_is_cancelled_at_once(run: Run, root: User) -> None:
    operation = ImportOperationFactory.create(**RUNNING)
    ran = run("import_cancel")
    operation.refresh_from_db()
    assert ran.code == 0
    assert operation.status == Status.CANCELLED
    assert f"{operation.public_id} is cancelled" in ran.out
    assert f"import_resume {operation.public_id}" in ran.out


def test_one_that_is_worked_on_stops_after_its_batch(run: Run, root: User) -> None:
    operation = ImportOperationFactory.create(**RUNNING)
    lease = timezone.now() + timedelta(minutes=1)
    ImportSliceFactory.create(operation=operation, status="running", lease_until=lease)
    ran = run("import_cancel", operation.public_id)
    operation.refresh_from_db()
    assert ran.code == 0
    assert operation.is_cancelling
    assert "stops after the batch at hand" in ran.out


def test_one_that_has_ended_cannot_be_cancelled(run: Run, root: User) -> None:
    ImportOperationFactory.create(status=Status.DONE)
    ran = run("import_cancel")
    assert ran.code == 1
    assert "nothing to cancel" in ran.err


def test_without_an_operation_it_is_wrong_usage(run: Run, db: None) -> None:
    assert run("import_cancel").code == 2
    assert run("import_cancel", "nosuchid").code == 2
