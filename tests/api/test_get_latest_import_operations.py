"""`GET getLatestImportOperations`: the last twenty, as a bare array, under a permission of its own."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import Group
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from importops.models import ApiToken, User
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory

LATEST = "getLatestImportOperations"


def test_without_any_it_is_an_empty_array(alice_client: ApiClient) -> None:
    response = alice_client.get(LATEST)
    assert (response.status_code, response.content) == (200, b"[]")


def test_each_looks_as_it_does_alone(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(content_type="application/zip", file="x.zip")
    alone = alice_client.get("getCurrentImportOperation").json()["operation"]
    assert alice_client.get(LATEST).json() == [alone]


def test_twenty_are_shown_the_last_changed_first(alice_client: ApiClient, alice: User) -> None:
    now = timezone.now()
    made = [
        ImportOperationFactory.create(user=alice, updated_at=now - timedelta(hours=n))
        for n in range(22)
    ]
    shown = [operation["_id"] for operation in alice_client.get(LATEST).json()]
    assert shown == [operation.public_id for operation in made[:20]]


def test_it_needs_the_permission_to_view(bob: User, bob_client: ApiClient, admins: Group) -> None:
    bob.user_permissions.add(admins.permissions.get(codename="run_import"))
    assert bob_client.get(LATEST).status_code == 403
    bob.user_permissions.set([admins.permissions.get(codename="view_importoperation")])
    assert bob_client.get(LATEST).status_code == 200
    assert bob_client.get("getCurrentImportOperation").status_code == 403


def test_it_takes_no_query(alice_client: ApiClient) -> None:
    assert alice_client.get(f"{LATEST}?count=5").json() == {
        "success": False,
        "errorType": "error-invalid-params",
        "error": "must NOT have additional properties",
    }


def test_its_statements_do_not_grow_with_the_operations(
    alice_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ImportOperationFactory.create_batch(5)
    ApiToken.objects.update(last_used_at=timezone.now())
    # The token; whether the user may view, by group and by name; the operations.
    with django_assert_num_queries(4):
        alice_client.get(LATEST)
