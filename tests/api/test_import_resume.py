"""`POST import.resume`."""

from __future__ import annotations

from importops.models import Phase, Status
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory, ImportSliceFactory

RESUME = "import.resume"


def test_a_cancelled_operation_goes_on(alice_client: ApiClient) -> None:
    operation = ImportOperationFactory.create(status=Status.CANCELLED, phase=Phase.USERS)
    ImportSliceFactory.create(operation=operation, phase=Phase.USERS)
    response = alice_client.post(RESUME)
    assert (response.status_code, response.content) == (200, b'{"success":true}')
    operation.refresh_from_db()
    assert operation.status == Status.IMPORTING_USERS


def test_a_done_operation_cannot_be_resumed(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(status=Status.DONE)
    response = alice_client.post(RESUME)
    assert response.status_code == 400
    assert response.json()["errorType"] == "error-invalid-operation-status"
    assert response.json()["details"] == RESUME


def test_other_properties_are_refused(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(status=Status.CANCELLED)
    assert alice_client.post(RESUME, {"x": 1}).json()["errorType"] == "invalid-params"


def test_without_an_operation_it_is_an_error(alice_client: ApiClient) -> None:
    assert alice_client.post(RESUME).json()["errorType"] == "error-operation-not-found"


def test_a_member_is_forbidden(bob_client: ApiClient) -> None:
    assert bob_client.post(RESUME).status_code == 403
