from __future__ import annotations

from pathlib import Path

from django.utils import timezone

from importops.models import ImportOperation, Message, Status, User
from tests.canonical import canonical_dump
from tests.commands.conftest import Run
from tests.factories import ImportOperationFactory


def test_it_takes_an_import_back_and_tells(run: Run, root: User, export: Path) -> None:
    before = canonical_dump()
    run("import_file", export)
    target = ImportOperation.objects.get()
    ran = run("import_rollback", target.public_id)

    assert ran.code == 0, ran.err
    assert canonical_dump() == before
    assert "messages      3        3     0       0" in ran.out
    assert "memberships: removed 3, kept 0" in ran.out


def test_what_is_kept_is_told_and_listed(run: Run, root: User, export: Path) -> None:
    run("import_file", export)
    target = ImportOperation.objects.get()
    User.objects.filter(username="ann").update(last_login=timezone.now())
    ran = run("import_rollback", target.public_id, "--json")

    assert ran.code == 0
    assert ran.json["undo"]["users"]["reasons"] == {"kept-signed-in": 1}
    assert ran.json["counts"]["users"]["removed"] == 1
    listed = run("import_failures", ran.json["operation"]).out
    assert "user ann" in listed
    assert "Somebody has signed in" in listed
    assert "1 kept or failed: kept-signed-in 1" in listed
    assert "taken back on" in run("import_status", target.public_id).out
    status = run("import_status", ran.json["operation"])
    assert status.code == 0
    assert "users kept: kept-signed-in 1" in status.out


def test_what_cannot_be_taken_back_is_wrong_usage(run: Run, root: User, export: Path) -> None:
    assert run("import_rollback").code == 2
    run("import_file", export)
    target = ImportOperation.objects.get()
    run("import_rollback", target.public_id)
    again = run("import_rollback", target.public_id)
    assert again.code == 2
    assert "has been taken back" in again.err
    of_itself = run("import_rollback", target.undone_by.get().public_id)
    assert of_itself.code == 2
    assert "brought nothing" in of_itself.err


def test_a_cancelled_one_goes_on_with_import_resume(run: Run, root: User, export: Path) -> None:
    run("import_file", export)
    target = ImportOperation.objects.get()
    operation = ImportOperationFactory.create(
        importer_key="rollback",
        type="Rollback",
        target=target,
        phase="undo_messages",
        status=Status.IMPORTING_STARTED,
        started_at=timezone.now(),
    )
    operation.slices.create(phase="undo_messages", number=1, start=[0], stop=1 << 40)
    assert run("import_cancel", operation.public_id).code == 0
    ran = run("import_resume", operation.public_id)

    assert ran.code == 0, ran.err
    assert not Message.objects.exists()
