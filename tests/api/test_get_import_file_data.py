"""`GET getImportFileData`: what there is to choose from. It reads, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from importops.models import ImportOperation, StagedRecord, Status
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory, StagedRoomFactory, StagedUserFactory

FILE_DATA = "getImportFileData"


def staged_user(operation: ImportOperation, import_id: str, **data: Any) -> None:
    data = {"import_ids": [import_id, "other"], **data}
    StagedUserFactory.create(operation=operation, import_id=import_id, data=data)


def staged_room(operation: ImportOperation, import_id: str, **data: Any) -> None:
    data = {"import_ids": [import_id], **data}
    StagedRoomFactory.create(operation=operation, import_id=import_id, data=data)


def test_it_lists_users_and_rooms(alice_client: ApiClient) -> None:
    operation = ImportOperationFactory.create(tally={"messages.total": 12})
    staged_user(operation, "U1", username="ann", emails=["ann@x.org", "b@x.org"])
    staged_user(operation, "U2", deleted=True, type="bot")
    staged_room(operation, "C1", name="general")
    staged_room(operation, "G1", name="secret", type="p", archived=True)
    response = alice_client.get(FILE_DATA)
    assert (response.status_code, response.content) == (
        200,
        b'{"name":"Slack","users":['
        b'{"user_id":"U1","username":"ann","email":"ann@x.org","is_deleted":false,'
        b'"is_bot":false,"do_import":true,"is_email_taken":false},'
        b'{"user_id":"U2","is_deleted":true,"is_bot":true,"do_import":true,'
        b'"is_email_taken":false}],"channels":['
        b'{"channel_id":"C1","name":"general","is_archived":false,"do_import":true,'
        b'"is_private":false,"is_direct":false},'
        b'{"channel_id":"G1","name":"secret","is_archived":true,"do_import":true,'
        b'"is_private":true,"is_direct":false}],'
        b'"message_count":12,"contacts":[],"success":true}',
    )


def test_direct_rooms_are_one_entry_at_the_end(alice_client: ApiClient) -> None:
    operation = ImportOperationFactory.create()
    staged_room(operation, "D1", type="d")
    staged_room(operation, "C1", name="general")
    staged_room(operation, "D2", type="d")
    channels = alice_client.get(FILE_DATA).json()["channels"]
    assert [channel["channel_id"] for channel in channels] == ["C1", "__directMessages__"]
    assert channels[-1] == {
        "channel_id": "__directMessages__",
        "name": "Direct Messages",
        "is_archived": False,
        "do_import": True,
        "is_private": True,
        "is_direct": True,
    }


def test_authors_outside_the_member_list_are_not_listed(alice_client: ApiClient) -> None:
    operation = ImportOperationFactory.create()
    StagedUserFactory.create(operation=operation, kind=StagedRecord.Kind.AUTHOR)
    assert alice_client.get(FILE_DATA).json()["users"] == []


def test_rows_of_an_earlier_operation_are_hidden(alice_client: ApiClient) -> None:
    StagedUserFactory.create(operation=ImportOperationFactory.create(valid=False))
    ImportOperationFactory.create()
    assert alice_client.get(FILE_DATA).json()["users"] == []


@pytest.mark.parametrize(
    "status",
    [
        Status.UPLOADING,
        Status.DOWNLOADING_FILE,
        Status.FILE_LOADED,
        Status.PREPARING_STARTED,
        Status.PREPARING_USERS,
        Status.PREPARING_CHANNELS,
        Status.PREPARING_MESSAGES,
        Status.PREPARING_CONTACTS,
    ],
)
def test_while_the_file_is_read_it_says_wait(alice_client: ApiClient, status: Status) -> None:
    operation = ImportOperationFactory.create(status=status)
    assert alice_client.get(FILE_DATA).content == b'{"waiting":true,"success":true}'
    operation.valid = False
    operation.save()
    assert alice_client.get(FILE_DATA).json() == {
        "success": False,
        "error": "Invalid Import Operation [error-import-operation-invalid]",
        "errorType": "error-import-operation-invalid",
        "details": "getImportFileData",
    }


@pytest.mark.parametrize(
    "status",
    [
        Status.NEW,
        Status.USER_SELECTION,
        Status.IMPORTING_MESSAGES,
        Status.DONE,
        Status.CANCELLED,
        Status.FAILED,
    ],
)
def test_asking_changes_nothing(alice_client: ApiClient, status: Status) -> None:
    operation = ImportOperationFactory.create(status=status, started_at=timezone.now())
    StagedUserFactory.create(operation=operation)
    before = ImportOperation.objects.values().get()
    assert len(alice_client.get(FILE_DATA).json()["users"]) == 1
    assert ImportOperation.objects.values().get() == before


def test_a_file_that_could_not_be_read_is_an_error(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(
        status=Status.FAILED,
        error="The file is not a zip archive.",
        error_code="error-import-file-not-zip",
    )
    response = alice_client.get(FILE_DATA)
    assert (response.status_code, response.json()) == (
        400,
        {
            "success": False,
            "error": "The file is not a zip archive. [error-import-file-not-zip]",
            "errorType": "error-import-file-not-zip",
            "details": "getImportFileData",
        },
    )


def test_without_an_operation_it_is_an_error(alice_client: ApiClient) -> None:
    response = alice_client.get(FILE_DATA)
    assert (response.status_code, response.json()["details"]) == (400, "getImportFileData")
    assert response.json()["errorType"] == "error-operation-not-found"


def test_a_member_is_forbidden(bob_client: ApiClient) -> None:
    assert bob_client.get(FILE_DATA).status_code == 403
