from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from importops.models import ApiToken, User
from tests.clients import ApiClient
from tests.factories import ApiTokenFactory, UserEmailFactory, UserFactory, secret_of

MOMENT = datetime(2024, 1, 31, 12, 30, 15, 123456, tzinfo=UTC)


def client_of(user: User) -> ApiClient:
    return ApiClient(user.public_id, secret_of(ApiTokenFactory.create(user=user)))


def test_it_tells_everything_about_the_caller(db: None) -> None:
    user = UserFactory.create(
        public_id="d26x6zSkaPSe5gCyy",
        username="ann b",
        name="Ann",
        bio="Likes tests.",
        status_text="away",
        utc_offset=5.5,
        groups=["user", "admin"],
        created_at=MOMENT,
        last_login=MOMENT,
    )
    User.objects.filter(pk=user.pk).update(updated_at=MOMENT)
    UserEmailFactory.create(user=user, address="a@example.com", verified=False)
    UserEmailFactory.create(user=user, address="b@example.com")
    response = client_of(user).get("me")
    assert (response.status_code, response.json()) == (
        200,
        {
            "_id": "d26x6zSkaPSe5gCyy",
            "name": "Ann",
            "username": "ann b",
            "type": "user",
            "status": "offline",
            "statusConnection": "offline",
            "statusText": "away",
            "bio": "Likes tests.",
            "utcOffset": 5.5,
            "active": True,
            "emails": [
                {"address": "a@example.com", "verified": False},
                {"address": "b@example.com", "verified": True},
            ],
            "email": "b@example.com",
            "roles": ["admin", "user"],
            "createdAt": "2024-01-31T12:30:15.123Z",
            "lastLogin": "2024-01-31T12:30:15.123Z",
            "_updatedAt": "2024-01-31T12:30:15.123Z",
            "avatarUrl": "http://testserver/avatar/ann%20b",
            "isOAuthUser": False,
            "settings": {"profile": {}, "preferences": {}},
            "services": {"password": {"exists": True}},
            "success": True,
        },
    )


def test_what_has_no_value_is_left_out(db: None) -> None:
    user = UserFactory.create(username="ann", name="", password="!")
    assert client_of(user).get("me").json().keys() == {
        "_id",
        "username",
        "type",
        "status",
        "statusConnection",
        "active",
        "roles",
        "createdAt",
        "_updatedAt",
        "avatarUrl",
        "isOAuthUser",
        "settings",
        "services",
        "success",
    }


def test_no_secret_is_in_it(alice: User) -> None:
    token = ApiTokenFactory.create(user=alice)
    text = ApiClient(alice.public_id, secret_of(token)).get("me").content.decode()
    for secret in (alice.password, "argon2", token.token_hash, token.last_part):
        assert secret not in text


def test_an_offset_of_zero_is_a_value(db: None) -> None:
    user = UserFactory.create(utc_offset=0)
    assert client_of(user).get("me").json()["utcOffset"] == 0


@pytest.mark.parametrize("query", ["?", "?_=1", '?fields={"name":1}'])
def test_the_query_string_is_not_looked_at(bob_client: ApiClient, query: str) -> None:
    assert bob_client.get(f"me{query}").status_code == 200


def test_the_number_of_statements_does_not_grow(
    bob: User, bob_client: ApiClient, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(5):
        UserEmailFactory.create(user=bob)
    ApiToken.objects.update(last_used_at=timezone.now())
    with django_assert_max_num_queries(6):
        bob_client.get("me")
