"""`GET import.report`."""

from __future__ import annotations

from pathlib import Path

from importops.actions.operations import cancel_operation
from importops.models import Status, User
from tests.clients import ApiClient
from tests.exports import slack_messages, slack_room, slack_zip
from tests.factories import ImportFailureFactory, ImportOperationFactory
from tests.journeys import prepare

REPORT = "import.report"


def test_counts_add_up_per_kind(alice_client: ApiClient) -> None:
    operation = ImportOperationFactory.create(
        status=Status.DONE,
        tally={
            "messages.total": 10,
            "messages.created": 6,
            "messages.updated": 1,
            "messages.failed": 1,
            "messages.skipped.deselected": 2,
        },
    )
    ImportFailureFactory.create(operation=operation)
    body = alice_client.get(REPORT).json()
    assert body["success"] is True
    assert body["state"] == "done"
    assert body["counts"]["messages"] == {
        "total": 10,
        "created": 6,
        "updated": 1,
        "skipped": 2,
        "failed": 1,
    }
    assert body["skipped"]["messages"] == {"deselected": 2}
    assert body["failures"] == {"importer-message-invalid-timestamp": 1}
    assert body["percent"] == 100
    assert body["operation"]["_id"] == operation.public_id


def test_without_an_operation_it_is_an_error(alice_client: ApiClient) -> None:
    response = alice_client.get(REPORT)
    assert (response.status_code, response.json()["details"]) == (400, REPORT)


def test_a_member_is_forbidden(bob_client: ApiClient) -> None:
    assert bob_client.get(REPORT).status_code == 403


def test_one_cancelled_before_it_started_has_no_percent(
    alice_client: ApiClient, alice: User, tmp_path: Path
) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        messages={"general": {"2024-01-02": slack_messages(3)}},
    )
    cancel_operation(prepare(path, alice))
    body = alice_client.get("import.report").json()

    assert (body["state"], body["percent"]) == ("canceled", None)
