"""`GET import.status`."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from importops.models import ApiToken, Status
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory

STATUS = "import.status"


def test_without_any_operation_the_state_is_none(alice_client: ApiClient) -> None:
    response = alice_client.get(STATUS)
    assert (response.status_code, response.content) == (
        200,
        b'{"state":"none","success":true}',
    )


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"status": Status.NEW}, "new"),
        ({"status": Status.FILE_LOADED}, "loading"),
        ({"status": Status.PREPARING_USERS}, "loading"),
        ({"status": Status.USER_SELECTION}, "ready"),
        ({"status": Status.IMPORTING_MESSAGES}, "importing"),
        ({"status": Status.FINISHING}, "importing"),
        ({"status": Status.DONE}, "done"),
        ({"status": Status.DONE, "valid": False}, "done"),
        ({"status": Status.FAILED}, "error"),
        ({"status": Status.CANCELLED}, "canceled"),
        ({"status": Status.CANCELLED, "valid": False}, "canceled"),
        ({"status": Status.USER_SELECTION, "valid": False}, "error"),
    ],
)
def test_the_state_sums_the_status_up(
    alice_client: ApiClient, fields: dict[str, Any], state: str
) -> None:
    ImportOperationFactory.create(**fields)
    body = alice_client.get(STATUS).json()
    operation = alice_client.get("getCurrentImportOperation").json()["operation"]
    assert body == {"state": state, "operation": operation, "success": True}
    assert list(body) == ["state", "operation", "success"]


def test_it_takes_two_statements(
    alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ImportOperationFactory.create()
    ApiToken.objects.update(last_used_at=timezone.now())
    with django_assert_num_queries(2):
        alice_client.get(STATUS)


def test_a_query_is_not_looked_at(alice_client: ApiClient) -> None:
    assert alice_client.get(f"{STATUS}?_=1699").status_code == 200


def test_a_member_is_forbidden(bob_client: ApiClient) -> None:
    assert bob_client.get(STATUS).status_code == 403
