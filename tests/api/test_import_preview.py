"""`import.preview`: what an import would do, asked and told over the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from importops.engine.running import run_operation
from importops.models import ImportOperation, Message, Room, Status, User
from tests.clients import ApiClient
from tests.exports import slack_message, slack_room, slack_user, slack_zip
from tests.factories import ImportOperationFactory, UserEmailFactory, UserFactory
from tests.journeys import prepare, start

PREVIEW = "import.preview"
EVERYTHING = {"users": {"all": True}, "channels": {"all": True}}


@pytest.fixture
def operation(tmp_path: Path, alice: User) -> ImportOperation:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "general", ["U1", "U2"]), slack_room("C2", "plans", ["U1"])],
        messages={
            "general": {"2024-01-02": [slack_message(), slack_message("bad", "soon")]},
            "plans": {"2024-01-02": [slack_message("other", "1704189601.000100")]},
        },
    )
    return prepare(path, alice)


def ask(client: ApiClient, selection: dict[str, Any], operation: ImportOperation) -> Any:
    response = client.post(PREVIEW, {"input": selection})
    assert (response.status_code, response.content) == (200, b'{"success":true}')
    run_operation(operation)
    return client.get(PREVIEW).json()


def test_it_tells_counts_and_problems(alice_client: ApiClient, operation: ImportOperation) -> None:
    body = ask(alice_client, EVERYTHING, operation)

    assert body.pop("seconds") > 0
    zero = {"created": 0, "updated": 0, "skipped": 0, "failed": 0}
    assert body == {
        "state": "done",
        "operation": operation.public_id,
        "selection": {**EVERYTHING, "grantRoles": False},
        "percent": None,
        "counts": {
            "users": {**zero, "total": 2, "created": 2},
            "channels": {**zero, "total": 2, "created": 2},
            "messages": {**zero, "total": 3, "created": 2, "failed": 1},
            "files": {**zero, "total": 0},
        },
        "skipped": {"users": {}, "channels": {}, "messages": {}, "files": {}},
        "foundBy": {"users": {}, "channels": {}},
        "memberships": 3,
        "problems": {"importer-message-invalid-timestamp": 1},
        "notes": [],
        "error": None,
        "conflicts": [],
        "count": 0,
        "offset": 0,
        "total": 0,
        "success": True,
    }
    assert not Room.objects.exists() and not Message.objects.exists()
    operation.refresh_from_db()
    assert operation.status == Status.USER_SELECTION


def test_the_older_form_of_the_selection_is_taken(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    chosen = {"channels": [{"channel_id": "C2", "do_import": True}], "users": []}
    body = ask(alice_client, chosen, operation)
    assert body["counts"]["messages"]["created"] == 1
    assert body["skipped"]["messages"] == {"deselected": 2}
    assert body["skipped"]["users"] == {"deselected": 2}


def test_it_tells_what_a_person_should_know_before(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    UserEmailFactory.create(user=UserFactory.create(username="Annie"), address="ann@example.com")
    UserEmailFactory.create(user=UserFactory.create(username="ben"), address="b@example.com")
    body = ask(alice_client, EVERYTHING, operation)

    assert body["foundBy"]["users"] == {"email": 1}
    assert body["conflicts"] == [
        {
            "kind": "users",
            "importId": "U1",
            "name": "ann",
            "place": "users.json[0]",
            "message": "is the account Annie, found by its e-mail address",
        },
        {
            "kind": "users",
            "importId": "U2",
            "name": "ben",
            "place": "users.json[1]",
            "message": "named ben-1: ben is taken",
        },
    ]
    page = alice_client.get(f"{PREVIEW}?offset=1&count=1").json()
    assert [row["importId"] for row in page["conflicts"]] == ["U2"]
    assert (page["count"], page["offset"], page["total"]) == (1, 1, 2)


def test_it_tells_how_it_stands(alice_client: ApiClient, operation: ImportOperation) -> None:
    assert alice_client.get(PREVIEW).json()["state"] == "none"
    alice_client.post(PREVIEW, {"input": EVERYTHING})
    body = alice_client.get(PREVIEW).json()
    assert (body["state"], body["counts"]) == ("running", None)
    assert alice_client.get("import.status").json()["state"] == "ready"
    start(operation)
    body = alice_client.get(PREVIEW).json()
    assert (body["state"], body["seconds"]) == ("stopped", None)


def test_after_the_import_there_are_no_conflicts_to_show(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    UserFactory.create(username="ben")
    assert ask(alice_client, EVERYTHING, operation)["total"] == 1
    start(operation)
    body = alice_client.get(PREVIEW).json()
    assert (body["state"], body["conflicts"], body["problems"]) == ("done", [], {})


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": Status.FILE_LOADED}, "error-invalid-operation-status"),
        ({"status": Status.DONE}, "error-invalid-operation-status"),
        ({"status": Status.IMPORTING_USERS}, "error-import-operation-in-progress"),
        ({"valid": False}, "error-import-operation-invalid"),
    ],
)
def test_an_operation_that_is_not_ready_is_refused(
    alice_client: ApiClient, fields: dict[str, Any], code: str
) -> None:
    ImportOperationFactory.create(**fields)
    response = alice_client.post(PREVIEW, {"input": {}})
    assert (response.status_code, response.json()["errorType"]) == (400, code)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "must have required property 'input'"),
        ({"input": {}, "other": 1}, "must NOT have additional properties"),
        ({"input": {"users": "all"}}, "must be object"),
    ],
)
def test_a_bad_body_is_refused(
    alice_client: ApiClient, operation: ImportOperation, body: Any, message: str
) -> None:
    response = alice_client.post(PREVIEW, body)
    assert (response.status_code, response.json()["error"]) == (400, message)


def test_a_bad_date_is_refused_at_once(alice_client: ApiClient, operation: ImportOperation) -> None:
    response = alice_client.post(PREVIEW, {"input": {"since": "yesterday"}})
    assert response.json()["errorType"] == "error-import-selection-invalid"
    assert alice_client.get(PREVIEW).json()["state"] == "none"
