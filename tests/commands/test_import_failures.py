from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from pytest_django import Settings

from importops.models import ImportFailure, Message, User
from tests.commands.conftest import Run
from tests.exports import slack_message, slack_zip
from tests.factories import ImportFailureFactory, ImportOperationFactory


@pytest.fixture
def failure(db: None) -> ImportFailure:
    return ImportFailureFactory.create(
        place="general/2024-01-02.json[17]",
        message="The message has no time.",
        raw='{"text": "see https://files.slack.com/a?t=xoxe-1-2"}',
    )


def test_each_is_shown_with_place_and_reason(run: Run, failure: ImportFailure) -> None:
    ran = run("import_failures")
    assert ran.code == 0
    assert "general/2024-01-02.json[17]  message  The message has no time." in ran.out
    assert "1 failed: importer-message-invalid-timestamp 1" in ran.out


def test_of_another_operation_they_are_not(run: Run, failure: ImportFailure) -> None:
    other = ImportOperationFactory.create()
    assert f"Nothing failed in {other.public_id}." in run("import_failures").out
    assert "[17]" in run("import_failures", failure.operation.public_id).out


def test_csv_holds_everything_but_secrets(run: Run, failure: ImportFailure) -> None:
    ran = run("import_failures", "--csv", "-")
    (row,) = csv.DictReader(StringIO(ran.out, newline=""))
    assert row["kind"] == "messages"
    assert row["place"] == failure.place
    assert row["message"] == failure.message
    assert row["retryable"] == "no"
    assert row["record"] == '{"text": "see https://files.slack.com/a?t=xox-REDACTED"}'


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("http://evil")',
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "＝1",
    ],
)
def test_csv_cells_are_no_formulas(run: Run, failure: ImportFailure, text: str) -> None:
    ImportFailure.objects.update(message=text)
    ran = run("import_failures", "--csv", "-")
    (row,) = csv.DictReader(StringIO(ran.out, newline=""))
    assert row["message"] == f"'{text}"


def test_csv_goes_to_a_file_that_spreadsheets_read_as_utf8(
    run: Run, failure: ImportFailure, tmp_path: Path
) -> None:
    ImportFailure.objects.update(place="zprávy/1.json[0]")
    path = tmp_path / "failed.csv"
    ran = run("import_failures", "--csv", path)
    assert f"1 failed records written to {path}" in ran.out
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    (row,) = csv.DictReader(StringIO(path.read_text("utf-8-sig"), newline=""))
    assert row["place"] == "zprávy/1.json[0]"


def test_a_path_that_cannot_be_written_is_said(
    run: Run, failure: ImportFailure, tmp_path: Path
) -> None:
    ran = run("import_failures", "--csv", tmp_path / "missing" / "failed.csv")
    assert ran.code == 1
    assert "cannot be written" in ran.err


def test_a_record_found_bad_twice_is_one_failure(run: Run, root: User, flawed_export: Path) -> None:
    run("import_file", flawed_export)
    ran = run("import_failures")
    assert ran.out.count("general/2024-01-02.json[1]") == 1


def test_without_an_operation_it_is_wrong_usage(run: Run, db: None) -> None:
    assert run("import_failures").code == 2


def test_retry_brings_in_what_failed(
    run: Run, root: User, tmp_path: Path, settings: Settings
) -> None:
    day = [slack_message("x" * 5000), slack_message("bad", "never")]
    path = slack_zip(tmp_path / "export.zip", messages={"general": {"2024-01-02": day}})
    usual = settings.IMPORTOPS
    settings.IMPORTOPS = replace(usual, max_record_bytes=2048)
    assert run("import_file", path).code == 3
    ran = run("import_failures", "--retry")
    assert (ran.code, Message.objects.exists()) == (3, False)
    settings.IMPORTOPS = usual
    ran = run("import_failures", "--retry")
    assert (ran.code, Message.objects.count()) == (3, 1)
    assert "trying 2 failed records again" in ran.out
    assert "1 failed: importer-message-invalid-timestamp 1" in run("import_failures").out


def test_retry_without_failures_says_so(run: Run, root: User, export: Path) -> None:
    assert run("import_file", export).code == 0
    ran = run("import_failures", "--retry")
    assert ran.code == 1
    assert "Nothing failed in this import" in ran.err
    assert run("import_failures", "--retry", "--csv", "-").code == 2
