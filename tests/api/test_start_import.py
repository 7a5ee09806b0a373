"""`POST startImport`: the selection in both of its forms, and when starting is refused."""

from __future__ import annotations

from typing import Any

import pytest

from importops.models import ImportOperation, Status, User
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory, StagedRoomFactory, StagedUserFactory

START = "startImport"


@pytest.fixture
def operation(alice: User) -> ImportOperation:
    """Ready to start, with users U1 and U2 and rooms C1 and C2."""
    operation = ImportOperationFactory.create()
    for number in (1, 2):
        StagedUserFactory.create(operation=operation, import_id=f"U{number}")
        StagedRoomFactory.create(operation=operation, import_id=f"C{number}")
    return operation


def chosen(operation: ImportOperation) -> list[str]:
    selected = operation.staged.filter(selected=True).order_by("import_id")
    return list(selected.values_list("import_id", flat=True))


def old_form(**ids: bool) -> dict[str, Any]:
    """Full objects with `do_import`, as older clients send them back."""
    users = [
        {
            "user_id": import_id,
            "username": "ann",
            "email": "a@x.org",
            "is_deleted": False,
            "is_bot": False,
            "do_import": wanted,
            "is_email_taken": False,
        }
        for import_id, wanted in ids.items()
        if import_id.startswith("U")
    ]
    channels = [
        {
            "channel_id": import_id,
            "name": "general",
            "is_archived": False,
            "do_import": wanted,
            "is_private": False,
            "is_direct": False,
        }
        for import_id, wanted in ids.items()
        if import_id.startswith("C")
    ]
    return {"users": users, "channels": channels}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"users": {"all": True}, "channels": {"all": True}}, ["C1", "C2", "U1", "U2"]),
        ({"users": {"list": ["U2"]}, "channels": {"list": ["C1", "none"]}}, ["C1", "U2"]),
        ({"users": {"all": "true"}, "channels": {}}, ["U1", "U2"]),
        ({"users": {"all": False, "list": []}}, []),
        ({}, []),
        (old_form(U1=True, U2=False, C1=False, C2=True), ["C2", "U1"]),
        ({"users": old_form(U1=True)["users"], "channels": {"all": True}}, ["C1", "C2", "U1"]),
        ({"users": [], "channels": []}, []),
        ({"users": {"all": True}, "contacts": {"all": True}, "other": 1}, ["U1", "U2"]),
    ],
)
def test_it_starts_with_what_was_chosen(
    alice_client: ApiClient,
    operation: ImportOperation,
    selection: dict[str, Any],
    expected: list[str],
) -> None:
    response = alice_client.post(START, {"input": selection})
    assert (response.status_code, response.content) == (200, b'{"success":true}')
    operation.refresh_from_db()
    assert operation.status == Status.IMPORTING_STARTED
    assert chosen(operation) == expected


def test_dates_are_kept(alice_client: ApiClient, operation: ImportOperation) -> None:
    dates = {"since": "2024-01-01", "until": "2024-01-31T12:00:00Z"}
    assert alice_client.post(START, {"input": dates}).status_code == 200
    operation.refresh_from_db()
    assert {name: operation.selection[name] for name in dates} == dates


def test_roles_are_granted_for_superusers_only(
    alice_client: ApiClient, alice: User, operation: ImportOperation
) -> None:
    alice_client.post(START, {"input": {"grantRoles": True}})
    operation.refresh_from_db()
    assert operation.selection["grantRoles"] is False
    ImportOperation.objects.update(status=Status.USER_SELECTION)
    operation.slices.all().delete()
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    alice_client.post(START, {"input": {"grantRoles": True}})
    operation.refresh_from_db()
    assert operation.selection["grantRoles"] is True


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "must have required property 'input'"),
        ({"other": 1}, "must have required property 'input'"),
        ({"input": {}, "other": 1}, "must NOT have additional properties"),
        ({"input": []}, "must be object"),
        ({"input": "{}"}, "must be object"),
        ([], "must be object"),
        ({"input": {"users": "all"}}, "must be object"),
        ({"input": {"users": None}}, "must be object"),
        ({"input": {"users": {"all": "yes"}}}, "must be boolean"),
        ({"input": {"users": {"list": "U1"}}}, "must be array"),
        ({"input": {"users": {"list": [{}]}}}, "must be string"),
        ({"input": {"users": [{"do_import": True}]}}, "must have required property 'user_id'"),
        ({"input": {"channels": [{"user_id": "x"}]}}, "must have required property 'channel_id'"),
        ({"input": {"users": ["U1"]}}, "must be object"),
        ({"input": {"since": []}}, "must be string"),
        ({"input": {"grantRoles": "x"}}, "must be boolean"),
    ],
)
def test_a_bad_selection_is_refused(
    alice_client: ApiClient, operation: ImportOperation, body: Any, message: str
) -> None:
    response = alice_client.post(START, body)
    assert (response.status_code, response.json()) == (
        400,
        {"success": False, "errorType": "invalid-params", "error": message},
    )
    operation.refresh_from_db()
    assert operation.status == Status.USER_SELECTION


def test_a_bad_date_is_refused(alice_client: ApiClient, operation: ImportOperation) -> None:
    response = alice_client.post(START, {"input": {"since": "yesterday"}})
    assert (response.status_code, response.json()) == (
        400,
        {
            "success": False,
            "error": "since: 'yesterday' is not a date such as 2024-01-31. "
            "[error-import-selection-invalid]",
            "errorType": "error-import-selection-invalid",
            "details": "startImport",
        },
    )


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
    response = alice_client.post(START, {"input": {}})
    assert response.status_code == 400
    assert response.json()["errorType"] == code
    assert response.json()["error"].endswith(f" [{code}]")
    assert response.json()["details"] == "startImport"


def test_a_second_call_is_refused(alice_client: ApiClient, operation: ImportOperation) -> None:
    assert alice_client.post(START, {"input": {}}).status_code == 200
    response = alice_client.post(START, {"input": {}})
    assert response.json()["errorType"] == "error-import-operation-in-progress"


def test_without_an_operation_it_is_an_error(alice_client: ApiClient) -> None:
    assert alice_client.post(START, {"input": {}}).json() == {
        "success": False,
        "error": "Import Operation Not Found [error-operation-not-found]",
        "errorType": "error-operation-not-found",
        "details": "startImport",
    }


def test_a_selection_of_many_thousands_is_taken(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    """More than Django's own limit for bodies in memory allows."""
    users = old_form(**{f"U{n}": True for n in range(80_000)})["users"]
    assert alice_client.post(START, {"input": {"users": users}}).status_code == 200
    assert chosen(operation) == ["U1", "U2"]


def test_nul_and_lone_surrogates_are_repaired(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    body = rb'{"input":{"users":{"list":["a\u0000b","\ud800"]}}}'
    assert alice_client.send(START, body).status_code == 200
    operation.refresh_from_db()
    assert operation.selection["users"] == {"list": ["a\ufffdb", "\ufffd"]}
