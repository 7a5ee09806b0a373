"""`GET getImportProgress`."""

from __future__ import annotations

from importops.models import Status
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory

PROGRESS = "getImportProgress"


def test_it_tells_importer_step_and_counts(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(
        status=Status.IMPORTING_MESSAGES,
        tally={"messages.total": 10, "messages.created": 4, "messages.failed": 1},
    )
    response = alice_client.get(PROGRESS)
    assert (response.status_code, response.content) == (
        200,
        b'{"key":"slack","name":"Slack","step":"importer_importing_messages",'
        b'"count":{"completed":4,"total":10,"error":1},"success":true}',
    )


def test_counts_are_zero_while_there_are_none(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(status=Status.FILE_LOADED)
    count = alice_client.get(PROGRESS).json()["count"]
    assert count == {"completed": 0, "total": 0, "error": 0}


def test_without_an_operation_it_is_an_error(alice_client: ApiClient) -> None:
    response = alice_client.get(PROGRESS)
    assert (response.status_code, response.content) == (
        400,
        b'{"success":false,"error":"Import Operation Not Found [error-operation-not-found]",'
        b'"errorType":"error-operation-not-found","details":"getImportProgress"}',
    )


def test_an_importer_that_is_gone_is_an_error(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(importer_key="gone")
    response = alice_client.get(PROGRESS)
    assert (response.status_code, response.json()) == (
        400,
        {
            "success": False,
            "error": "The importer (gone) has no import class defined. "
            "[error-importer-not-defined]",
            "errorType": "error-importer-not-defined",
            "details": "getImportProgress",
        },
    )


def test_a_member_is_forbidden(bob_client: ApiClient) -> None:
    assert bob_client.get(PROGRESS).status_code == 403


def test_what_was_skipped_counts_as_dealt_with(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(
        status=Status.DONE, tally={"messages.total": 10, "messages.skipped.unchanged": 10}
    )
    count = alice_client.get(PROGRESS).json()["count"]
    assert count == {"completed": 10, "total": 10, "error": 0}
