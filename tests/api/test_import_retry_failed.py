"""`POST import.retryFailed`: the failed records of the current operation, again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from importops.engine.progress import counts
from importops.engine.running import run_operation
from importops.models import ImportOperation, Message, Status, User
from tests.clients import ApiClient
from tests.exports import slack_message, slack_room, slack_zip
from tests.factories import ImportOperationFactory
from tests.journeys import import_all

RETRY = "import.retryFailed"


@pytest.fixture
def operation(tmp_path: Path, alice: User, settings: Settings) -> ImportOperation:
    """Done, with one message that was too large and would not be any more, and one without a time."""
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        messages={"general": {"2024-01-02": [slack_message("x" * 5000), slack_message(ts="soon")]}},
    )
    usual = settings.IMPORTOPS
    settings.IMPORTOPS = replace(usual, max_record_bytes=2048)
    operation = import_all(path, alice)
    settings.IMPORTOPS = usual
    return operation


def test_it_tries_them_in_the_background(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    response = alice_client.post(RETRY)
    assert (response.status_code, response.content) == (200, b'{"retrying":2,"success":true}')
    assert alice_client.get("import.status").json()["state"] == "importing"
    run_operation(operation)
    assert counts(operation)["messages"]["created"] == Message.objects.count() == 1
    failures = alice_client.get("import.failures").json()["failures"]
    assert [failure["place"] for failure in failures] == ["general/2024-01-02.json[1]"]


def test_it_tries_those_of_a_kind_or_code(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    code = "importer-record-too-large"
    response = alice_client.post(RETRY, {"kind": "messages", "code": code})
    assert response.json() == {"retrying": 1, "success": True}


@pytest.mark.parametrize("body", [{"kind": "users"}, {"code": "importer-other"}])
def test_when_nothing_such_failed_it_says_so(
    alice_client: ApiClient, operation: ImportOperation, body: Any
) -> None:
    response = alice_client.post(RETRY, body)
    assert (response.status_code, response.json()) == (
        400,
        {
            "success": False,
            "error": "Nothing of that kind, with that code, failed in this import. "
            "[error-import-nothing-failed]",
            "errorType": "error-import-nothing-failed",
            "details": RETRY,
        },
    )
    operation.refresh_from_db()
    assert operation.status == Status.DONE


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.CANCELLED, "error-invalid-operation-status"),
        (Status.USER_SELECTION, "error-invalid-operation-status"),
        (Status.IMPORTING_CHANNELS, "error-import-operation-in-progress"),
    ],
)
def test_an_import_that_is_not_done_is_refused(
    alice_client: ApiClient, status: Status, code: str
) -> None:
    ImportOperationFactory.create(status=status)
    response = alice_client.post(RETRY)
    assert (response.status_code, response.json()["errorType"]) == (400, code)


@pytest.mark.parametrize("body", [{"kind": "rooms"}, {"kind": 1}, {"other": "x"}])
def test_a_bad_body_is_refused(
    alice_client: ApiClient, operation: ImportOperation, body: Any
) -> None:
    assert alice_client.post(RETRY, body).json()["errorType"] == "invalid-params"
