"""So many calls of one endpoint from one address in a window, for whoever has no bypass."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from importops.api.rate_limit import POLLED
from importops.api.urls import ENDPOINTS
from importops.models import ApiToken, User
from tests.clients import ApiClient
from tests.confs import with_conf
from tests.factories import PASSWORD, ImportOperationFactory
from tests.tasks.installation import Installation

NOON = 1_706_702_400  # a whole minute
HEADERS = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]


@pytest.fixture
def three_a_minute(settings: Settings) -> None:
    with_conf(settings, rate_limit_calls=3, rate_limit_seconds=60)


def headers_of(response: Any) -> list[int]:
    return [int(response[name]) for name in HEADERS]


def test_every_answer_tells_what_is_left(bob_client: ApiClient, three_a_minute: None) -> None:
    with time_machine.travel(NOON + 10, tick=False):
        left = [headers_of(bob_client.get("me")) for _ in range(3)]
    assert left == [
        [3, 2, (NOON + 60) * 1000],
        [3, 1, (NOON + 60) * 1000],
        [3, 0, (NOON + 60) * 1000],
    ]


def test_one_too_many_is_429_until_the_window_ends(
    bob_client: ApiClient, three_a_minute: None
) -> None:
    with time_machine.travel(NOON + 10, tick=False) as clock:
        for _ in range(3):
            assert bob_client.get("me").status_code == 200
        response = bob_client.get("me")
        assert (response.status_code, response.json()) == (
            429,
            {
                "success": False,
                "error": "Error, too many requests. Please slow down. You must wait 50 seconds "
                "before trying this endpoint again. [error-too-many-requests]",
            },
        )
        assert response["Retry-After"] == "50"
        assert headers_of(response) == [3, 0, (NOON + 60) * 1000]
        clock.move_to(NOON + 60)
        assert headers_of(bob_client.get("me")) == [3, 2, (NOON + 120) * 1000]


def test_errors_count_and_tell_too(bob_client: ApiClient, three_a_minute: None) -> None:
    response = bob_client.get("users.info")
    assert (response.status_code, headers_of(response)[1]) == (400, 2)


def test_endpoints_methods_and_addresses_are_counted_apart(
    bob_client: ApiClient, three_a_minute: None
) -> None:
    with time_machine.travel(NOON, tick=False):
        for _ in range(3):
            bob_client.get("me")
        assert headers_of(bob_client.get("users.getPersonalAccessTokens"))[1] == 2
        assert headers_of(bob_client.request("POST", "me"))[1] == 2
        elsewhere = bob_client.get("me", REMOTE_ADDR="203.0.113.9")
        assert headers_of(elsewhere)[1] == 2


def test_it_comes_before_the_permission(bob_client: ApiClient, three_a_minute: None) -> None:
    codes = [bob_client.get("getLatestImportOperations").status_code for _ in range(4)]
    assert codes == [403, 403, 403, 429]


def test_who_is_not_let_in_is_not_counted(nobody_client: ApiClient, three_a_minute: None) -> None:
    for _ in range(5):
        response = nobody_client.get("me")
    assert response.status_code == 401
    assert not response.has_header("X-RateLimit-Limit")


def test_holders_of_the_bypass_are_not_limited(
    bob: User, bob_client: ApiClient, three_a_minute: None
) -> None:
    bob.user_permissions.add(Permission.objects.get(codename="bypass_rate_limit"))
    for _ in range(5):
        response = bob_client.get("me")
    assert response.status_code == 200
    assert not any(response.has_header(name) for name in HEADERS)


def test_it_can_be_switched_off(
    bob_client: ApiClient, three_a_minute: None, settings: Settings
) -> None:
    with_conf(settings, rate_limit=False)
    for _ in range(5):
        response = bob_client.get("me")
    assert response.status_code == 200
    assert not any(response.has_header(name) for name in HEADERS)


def test_logins_are_limited_by_address(
    bob: User, nobody_client: ApiClient, three_a_minute: None
) -> None:
    body = {"user": "bob", "password": PASSWORD}
    with time_machine.travel(NOON + 10, tick=False):
        for left in (2, 1, 0):
            assert headers_of(nobody_client.post("login", body))[1] == left
        response = nobody_client.post("login", body)
    assert response.status_code == 429
    assert response.json()["status"] == "error"
    assert response["Retry-After"] == "50"


@pytest.mark.parametrize("endpoint", sorted(POLLED))
def test_what_is_polled_is_not_limited(
    bob: User, bob_client: ApiClient, three_a_minute: None, endpoint: str
) -> None:
    assert endpoint in ENDPOINTS
    bob.user_permissions.add(Permission.objects.get(codename="run_import"))
    ImportOperationFactory.create()
    for _ in range(5):
        response = bob_client.get(endpoint)
    assert response.status_code == 200
    assert not any(response.has_header(name) for name in HEADERS)


def test_the_seed_endpoint_still_takes_two_statements(
    bob: User, bob_client: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    bob.user_permissions.add(Permission.objects.get(codename="run_import"))
    ImportOperationFactory.create()
    ApiToken.objects.update(last_used_at=timezone.now())
    with django_assert_num_queries(2):
        assert bob_client.get("getCurrentImportOperation").status_code == 200


def test_a_counter_that_was_thrown_out_begins_anew(
    bob_client: ApiClient, three_a_minute: None, settings: Settings
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert headers_of(bob_client.get("me"))[1] == 2
    assert time.time() * 1000 < headers_of(bob_client.get("me"))[2]


CALL = """
import django
django.setup()
from django.test import Client
from importops.actions.accounts import issue_token
from importops.models import User
bob, _ = User.objects.get_or_create(username_key="bob", defaults={"username": "bob"})
headers = {"X-User-Id": bob.public_id, "X-Auth-Token": issue_token(bob)[1]}
response = Client(SERVER_NAME="localhost").get("/api/v1/me", headers=headers)
print(response["X-RateLimit-Remaining"])
"""


@pytest.mark.process
def test_processes_count_together(tmp_path: Path) -> None:
    installation = Installation(tmp_path, rate_limit_calls="9", rate_limit_seconds="86400")
    installation.manage("migrate", "-v0")
    assert [installation.run("-c", CALL).strip() for _ in range(3)] == ["8", "7", "6"]
