"""`POST import.rollback`."""

from __future__ import annotations

from pathlib import Path

from importops.engine.running import run_operation
from importops.models import ImportOperation, Message, Status, User
from tests.clients import ApiClient
from tests.exports import slack_messages, slack_room, slack_user, slack_zip
from tests.factories import ImportOperationFactory
from tests.journeys import import_all

ROLLBACK = "import.rollback"


def imported(path: Path, user: User) -> ImportOperation:
    export = slack_zip(
        path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": slack_messages(2)}},
    )
    return import_all(export, user)


def test_the_current_import_is_taken_back(
    alice_client: ApiClient, alice: User, tmp_path: Path
) -> None:
    target = imported(tmp_path, alice)
    response = alice_client.post(ROLLBACK)
    assert response.status_code == 200
    body = response.json()
    assert body["success"] is True
    assert body["operation"]["importerKey"] == "rollback"
    assert body["operation"]["type"] == "Rollback"
    assert body["operation"]["status"] == "importer_importing_started"

    operation = ImportOperation.objects.get(public_id=body["operation"]["_id"])
    run_operation(operation)
    assert not Message.objects.exists()
    report = alice_client.get("import.report").json()
    assert report["undo"]["operation"] == target.public_id
    assert report["undo"]["messages"] == {
        "total": 2,
        "removed": 2,
        "kept": 0,
        "failed": 0,
        "reasons": {},
    }
    progress = alice_client.get("getImportProgress").json()
    assert (progress["key"], progress["name"]) == ("rollback", "Rollback")
    assert progress["count"] == {"completed": 4, "total": 4, "error": 0}
    assert alice_client.get("getImportFileData").json()["users"] == []


def test_another_one_can_be_named(alice_client: ApiClient, alice: User, tmp_path: Path) -> None:
    target = imported(tmp_path, alice)
    ImportOperationFactory.create()
    assert alice_client.post(ROLLBACK, {"operationId": target.public_id}).status_code == 200
    assert target.undone_by.get().status == Status.IMPORTING_STARTED


def test_what_cannot_be_taken_back_is_an_error_with_a_code(
    alice_client: ApiClient, alice: User, tmp_path: Path
) -> None:
    target = imported(tmp_path, alice)
    alice_client.post(ROLLBACK)
    again = alice_client.post(ROLLBACK, {"operationId": target.public_id})
    assert again.status_code == 400
    assert again.json()["errorType"] == "error-import-undo-unfinished"
    assert again.json()["details"] == ROLLBACK
    of_itself = alice_client.post(ROLLBACK)
    assert of_itself.json()["errorType"] == "error-import-nothing-to-undo"
    run_operation(target.undone_by.get())
    done = alice_client.post(ROLLBACK, {"operationId": target.public_id})
    assert done.json()["errorType"] == "error-import-already-undone"


def test_one_that_does_not_exist_is_an_error(alice_client: ApiClient) -> None:
    assert alice_client.post(ROLLBACK).json()["errorType"] == "error-operation-not-found"
    named = alice_client.post(ROLLBACK, {"operationId": "nosuchid"})
    assert named.json()["errorType"] == "error-operation-not-found"


def test_other_properties_are_refused(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(status=Status.DONE)
    assert alice_client.post(ROLLBACK, {"x": 1}).json()["errorType"] == "invalid-params"


def test_a_member_is_forbidden(bob_client: ApiClient) -> None:
    assert bob_client.post(ROLLBACK).status_code == 403
