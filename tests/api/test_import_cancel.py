"""`POST import.cancel`."""

from __future__ import annotations

import pytest

from importops.models import Status
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory

CANCEL = "import.cancel"


def test_a_waiting_operation_is_cancelled_at_once(alice_client: ApiClient) -> None:
    operation = ImportOperationFactory.create()
    response = alice_client.post(CANCEL)
    assert (response.status_code, response.content) == (200, b'{"success":true}')
    operation.refresh_from_db()
    assert operation.status == Status.CANCELLED
    assert alice_client.get("import.status").json()["state"] == "canceled"


def test_no_body_is_needed(alice_client: ApiClient) -> None:
    ImportOperationFactory.create()
    assert alice_client.send(CANCEL, b"", "").status_code == 200


@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED, Status.CANCELLED])
def test_an_ended_operation_cannot_be_cancelled(alice_client: ApiClient, status: Status) -> None:
    ImportOperationFactory.create(status=status)
    response = alice_client.post(CANCEL)
    assert response.status_code == 400
    assert response.json()["errorType"] == "error-invalid-operation-status"
    assert response.json()["details"] == CANCEL


def test_naming_an_operation_is_refused_rather_than_passed_over(
    alice_client: ApiClient,
) -> None:
    operation = ImportOperationFactory.create()
    response = alice_client.post(CANCEL, {"operationId": "other"})
    assert response.json() == {
        "success": False,
        "errorType": "invalid-params",
        "error": "must NOT have additional properties",
    }
    operation.refresh_from_db()
    assert operation.status == Status.USER_SELECTION


def test_without_an_operation_it_is_an_error(alice_client: ApiClient) -> None:
    response = alice_client.post(CANCEL)
    assert (response.status_code, response.json()["details"]) == (400, CANCEL)


def test_a_member_is_forbidden(bob_client: ApiClient) -> None:
    assert bob_client.post(CANCEL).status_code == 403
