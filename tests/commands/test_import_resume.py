from __future__ import annotations

from pathlib import Path

import pytest

from importops.models import ImportOperation, Message, Room, Status, User
from tests.commands.conftest import Run
from tests.factories import ImportOperationFactory
from tests.journeys import prepare


def test_a_prepared_import_is_never_started_on_a_guess(run: Run, root: User, export: Path) -> None:
    prepare(export, root)
    ran = run("import_resume")
    assert ran.code == 2
    assert "--users all --channels all" in ran.err
    assert not Room.objects.exists()


def test_a_prepared_import_is_started_with_what_is_chosen(
    run: Run, root: User, export: Path
) -> None:
    operation = prepare(export, root)
    ran = run("import_resume", operation.public_id, "--channels", "C2", "--json")
    assert ran.code == 0
    assert list(ran.json) == ["operation", "status", "counts", "seconds"]
    assert Message.objects.get().text == "three"


def test_a_choice_cannot_be_changed_later(run: Run, root: User, export: Path) -> None:
    run("import_file", export)
    ImportOperation.objects.update(status=Status.CANCELLED)
    ran = run("import_resume", "--users", "all")
    assert ran.code == 2
    assert "cannot be changed" in ran.err


def test_a_cancelled_one_that_waits_can_be_started(run: Run, root: User, export: Path) -> None:
    prepare(export, root)
    run("import_cancel")
    assert run("import_resume", "--users", "all").code == 0
    assert Message.objects.count() == 3


def test_one_that_is_done_has_nothing_to_resume(run: Run, root: User, export: Path) -> None:
    run("import_file", export)
    ran = run("import_resume")
    assert ran.code == 1
    assert "nothing to resume" in ran.err


def test_a_file_that_changed_is_noticed(run: Run, root: User, export: Path) -> None:
    operation = prepare(export, root)
    export.write_bytes(b"something else")
    ran = run("import_resume", operation.public_id, "--users", "all", "--channels", "all")
    assert ran.code == 1
    assert "has changed" in ran.err


@pytest.mark.parametrize("arguments", [[], ["nosuchid"]])
def test_without_an_operation_it_is_wrong_usage(run: Run, db: None, arguments: list[str]) -> None:
    assert run("import_resume", *arguments).code == 2


def test_only_what_is_unfinished_stands_in_the_way(run: Run, root: User, export: Path) -> None:
    older = prepare(export, root)
    ImportOperationFactory.create(status=Status.IMPORTING_MESSAGES, user=root)
    ran = run("import_resume", older.public_id, "--users", "all")
    assert ran.code == 1
