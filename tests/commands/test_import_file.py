from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from importops.models import ImportOperation, Message, Room, Status, User
from tests.commands.conftest import Run
from tests.factories import ImportOperationFactory, UserFactory


def test_it_imports_a_whole_export(run: Run, root: User, export: Path) -> None:
    ran = run("import_file", export)
    assert (ran.code, ran.err) == (0, "")
    assert list(Message.objects.order_by("sent_at").values_list("text", flat=True)) == [
        "one",
        "two",
        "three",
    ]
    assert "messages      3        3        0        0       0" in ran.out
    operation = ImportOperation.objects.get()
    assert f"{operation.public_id}: done in " in ran.out


def test_json_is_one_object_on_standard_output(run: Run, root: User, export: Path) -> None:
    ran = run("import_file", export, "--json")
    operation = ImportOperation.objects.get()
    body = ran.json
    assert list(body) == ["operation", "status", "counts", "seconds"]
    assert body["operation"] == operation.public_id
    assert body["status"] == "importer_done"
    assert body["counts"] == {
        "users": {"total": 2, "created": 2, "updated": 0, "skipped": 0, "failed": 0},
        "channels": {"total": 2, "created": 2, "updated": 0, "skipped": 0, "failed": 0},
        "messages": {"total": 3, "created": 3, "updated": 0, "skipped": 0, "failed": 0},
        "files": {"total": 0, "created": 0, "updated": 0, "skipped": 0, "failed": 0},
    }
    assert body["seconds"] >= 0
    assert "importing" in ran.err


def test_failed_records_make_the_exit_code_three(run: Run, root: User, flawed_export: Path) -> None:
    ran = run("import_file", flawed_export, "--json")
    assert ran.code == 3
    assert ran.json["counts"]["messages"]["created"] == 1
    assert ran.json["counts"]["messages"]["failed"] == 1
    assert f"import_failures {ran.json['operation']}" in ran.err


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--channels", "C1"], {"one", "two"}),
        (["--channels", "none"], set()),
        (["--users", "none"], {"one", "two", "three"}),
        (["--since", "2024-01-03"], {"two", "three"}),
        (["--until", "2024-01-03"], {"one", "two"}),
        (["--since", "2024-01-03", "--until", "2024-01-03"], {"two"}),
        (["--until", "2024-01-03T10:00:00"], {"one"}),
    ],
)
def test_what_is_imported_can_be_chosen(
    run: Run, root: User, export: Path, arguments: list[str], texts: set[str]
) -> None:
    assert run("import_file", export, *arguments).code == 0
    assert set(Message.objects.values_list("text", flat=True)) == texts


def test_users_are_chosen_by_their_import_ids(run: Run, root: User, export: Path) -> None:
    run("import_file", export, "--users", "U2")
    active = User.objects.filter(username__in=["ann", "bea"], is_placeholder=False)
    assert list(active.values_list("username", flat=True)) == ["bea"]


def test_a_mistyped_id_imports_nothing(run: Run, root: User, export: Path) -> None:
    ran = run("import_file", export, "--channels", "C1,C7")
    assert ran.code == 2
    assert "the export has no C7" in ran.err
    assert not Room.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--users", "U1,,U2"],
        ["--since", "yesterday"],
        ["--importer", "telegram"],
        ["--since", "2024-01-04", "--until", "2024-01-02"],
    ],
)
def test_nonsense_is_refused(run: Run, root: User, export: Path, arguments: list[str]) -> None:
    ran = run("import_file", export, *arguments)
    assert ran.code in (1, 2)
    assert ran.err
    assert not Room.objects.exists()


def test_a_source_keeps_two_workspaces_apart(run: Run, root: User, export: Path) -> None:
    run("import_file", export, "--source", "acme")
    assert ImportOperation.objects.get().source == "acme"


def test_a_dry_run_writes_nothing_and_leaves_it_ready(run: Run, root: User, export: Path) -> None:
    ran = run("import_file", export, "--dry-run")
    operation = ImportOperation.objects.get()
    assert ran.code == 0
    assert "Nothing was imported" in ran.out
    assert operation.status == Status.USER_SELECTION
    assert not Room.objects.exists()
    assert not Message.objects.exists()
    assert run("import_resume", operation.public_id, "--users", "all").code == 0


def test_a_dry_run_is_of_what_was_chosen(run: Run, root: User, export: Path) -> None:
    UserFactory.create(username="ann")
    ran = run("import_file", export, "--dry-run", "--channels", "C1", "--since", "2024-01-03")
    assert ran.code == 0
    assert "users.json[0]: ann: is the account ann, found by its username" in ran.out
    assert "messages skipped: deselected 1, outside-dates 1" in ran.out
    assert "Prepared in " in ran.out and "tried in " in ran.out
    arguments = ran.out.partition("To import: manage.py ")[2].split()
    assert arguments[2:] == ["--users", "all", "--channels", "C1", "--since", "2024-01-03"]
    assert run(*arguments).code == 0
    assert Message.objects.get().text == "two"


def test_a_dry_run_as_json_has_both_times_and_the_counts(
    run: Run, root: User, export: Path
) -> None:
    run("import_file", export)
    ran = run("import_file", export, "--dry-run", "--json")
    assert ran.code == 0
    assert ran.json["counts"]["messages"]["skipped"] == 3
    assert ran.json["skipped"]["messages"] == {"existing": 3}
    assert ran.json["seconds"] > 0 and ran.json["preparing_seconds"] > 0
    assert (ran.json["problems"], ran.json["conflicts"]) == ([], [])


def test_a_dry_run_with_a_mistyped_id_is_refused(run: Run, root: User, export: Path) -> None:
    assert run("import_file", export, "--dry-run", "--users", "U7").code == 2


def test_a_dry_run_shows_every_problem(run: Run, root: User, flawed_export: Path) -> None:
    ran = run("import_file", flawed_export, "--dry-run")
    assert ran.code == 3
    assert "general/2024-01-02.json[1]" in ran.out
    ran = run("import_file", flawed_export, "--dry-run", "--json")
    assert ran.code == 3
    assert ran.json["status"] == "importer_user_selection"
    (problem,) = ran.json["problems"]
    assert problem["kind"] == "messages"
    assert problem["place"] == "general/2024-01-02.json[1]"


def test_a_file_that_is_no_export_says_what_to_do(run: Run, root: User, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not an export")
    ran = run("import_file", path)
    assert ran.code == 2
    assert ran.err
    ran = run("import_file", path, "--importer", "slack")
    assert ran.code == 1
    assert "The import failed" in ran.err


def test_paths_that_cannot_be_read_are_wrong_usage(
    run: Run, root: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("import_file", tmp_path / "missing.zip")
    assert (ran.code, "There is no file" in ran.err) == (2, True)
    ran = run("import_file", tmp_path)
    assert (ran.code, "is a directory" in ran.err) == (2, True)
    ran = run("import_file", os.devnull)
    assert (ran.code, "ordinary file" in ran.err) == (2, True)
    locked = tmp_path / "locked.zip"
    locked.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    ran = run("import_file", locked)
    assert (ran.code, "may not read" in ran.err) == (2, True)
    assert not ImportOperation.objects.exists()


def test_without_an_administrator_it_asks_for_bootstrap(run: Run, db: None, export: Path) -> None:
    ran = run("import_file", export)
    assert ran.code == 2
    assert "run bootstrap first" in ran.err


def test_it_runs_in_the_name_of_a_user(
    run: Run, root: User, alice: User, charlie: User, export: Path
) -> None:
    assert run("import_file", export, "--user", "charlie").code == 2
    assert run("import_file", export, "--user", "ALICE").code == 0
    assert ImportOperation.objects.get().user == alice


def test_only_superusers_grant_roles(run: Run, root: User, alice: User, export: Path) -> None:
    ran = run("import_file", export, "--user", "alice", "--grant-roles")
    assert ran.code == 2
    assert "not a superuser" in ran.err
    assert run("import_file", export, "--grant-roles").code == 0
    assert ImportOperation.objects.get().selection["grantRoles"] is True


def test_a_running_import_is_not_disturbed(run: Run, root: User, export: Path) -> None:
    running = ImportOperationFactory.create(status=Status.IMPORTING_MESSAGES)
    ran = run("import_file", export)
    assert ran.code == 1
    assert running.public_id in ran.err


def test_a_second_run_says_that_nothing_is_new(run: Run, root: User, export: Path) -> None:
    run("import_file", export)
    ran = run("import_file", export)
    assert ran.code == 0
    assert "Nothing was created or changed" in ran.out


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_an_import_that_ends_badly_ends_with_one(
    run: Run, root: User, export: Path, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    def end(operation: ImportOperation, **_: Any) -> None:
        operation.status = status

    monkeypatch.setattr("importops.management.foreground.run_operation", end)
    ran = run("import_file", export)
    assert ran.code == 1
    assert "import_resume" in ran.err
