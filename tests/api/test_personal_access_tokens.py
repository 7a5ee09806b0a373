"""The four endpoints of personal access tokens: made, made anew, removed, listed."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.utils import timezone
from pytest_django import Settings

from importops.hashers import password_digest
from importops.models import ApiToken, User
from importops.tokens import hash_token
from tests.clients import ApiClient
from tests.confs import with_conf
from tests.factories import PASSWORD, ApiTokenFactory, UserFactory, secret_of

GENERATE = "users.generatePersonalAccessToken"
REGENERATE = "users.regeneratePersonalAccessToken"
REMOVE = "users.removePersonalAccessToken"
LIST = "users.getPersonalAccessTokens"
CHANGING = [GENERATE, REGENERATE, REMOVE]
METHOD_OF = {GENERATE: "generateToken", REGENERATE: "regenerateToken", REMOVE: "removeToken"}
DIGEST = password_digest(PASSWORD)
TOTP_REQUIRED = {
    "success": False,
    "error": "TOTP Required [totp-required]",
    "errorType": "totp-required",
    "details": {"method": "password", "codeGenerated": False, "availableMethods": []},
}
TOTP_INVALID = {
    "success": False,
    "error": "TOTP Invalid [totp-invalid]",
    "errorType": "totp-invalid",
    "details": {"method": "password"},
}


def confirmed(client: ApiClient, code: str, method: str = "password") -> ApiClient:
    client.headers |= {"x-2fa-code": code, "x-2fa-method": method}
    return client


def test_a_generated_token_is_told_once_lets_in_and_never_expires(
    bob: User, bob_client: ApiClient
) -> None:
    response = bob_client.post(GENERATE, {"tokenName": "ci"})
    assert response.status_code == 200
    body = response.json()
    assert body.keys() == {"token", "success"}
    text = body["token"]
    assert len(text) == 43
    assert ApiClient(bob.public_id, text).get("me").json()["_id"] == bob.public_id
    token = ApiToken.objects.get(name="ci")
    assert (token.kind, token.expires_at, token.token_hash) == ("personal", None, hash_token(text))
    assert text not in bob_client.get(LIST).content.decode()


def test_the_list_is_of_ones_own_personal_ones(bob: User, bob_client: ApiClient) -> None:
    moment = timezone.now().replace(2024, 1, 31, 12, 30, 15, 123456)
    ApiTokenFactory.create(
        user=bob,
        kind="personal",
        name="ci",
        created_at=moment,
        bypass_two_factor=True,
        secret="x" * 37 + "abcdef",
    )
    ApiTokenFactory.create(kind="personal", name="somebody else's")
    response = bob_client.get(LIST)
    assert (response.status_code, response.json()) == (
        200,
        {
            "tokens": [
                {
                    "name": "ci",
                    "createdAt": "2024-01-31T12:30:15.123Z",
                    "lastTokenPart": "abcdef",
                    "bypassTwoFactor": True,
                }
            ],
            "success": True,
        },
    )


@pytest.mark.parametrize(
    ("sent", "kept"), [(True, True), ("true", True), (0, False), (None, False)]
)
def test_the_wish_to_bypass_is_kept(bob_client: ApiClient, sent: Any, kept: bool) -> None:
    bob_client.post(GENERATE, {"tokenName": "ci", "bypassTwoFactor": sent})
    assert bob_client.get(LIST).json()["tokens"][0]["bypassTwoFactor"] is kept


def test_a_name_can_be_used_once(bob_client: ApiClient) -> None:
    bob_client.post(GENERATE, {"tokenName": "ci"})
    response = bob_client.post(GENERATE, {"tokenName": "ci"})
    assert (response.status_code, response.json()) == (
        400,
        {
            "success": False,
            "error": "A token with this name already exists [error-token-already-exists]",
            "errorType": "error-token-already-exists",
            "details": {"method": "personalAccessTokens:generateToken"},
        },
    )


def test_others_may_use_the_same_name(bob_client: ApiClient, alice_client: ApiClient) -> None:
    for client in (bob_client, alice_client):
        assert client.post(GENERATE, {"tokenName": "ci"}).status_code == 200


def test_regenerating_ends_the_old_text(bob: User, bob_client: ApiClient) -> None:
    past = timezone.now().replace(year=2020)
    old = ApiTokenFactory.create(
        user=bob, kind="personal", name="ci", created_at=past, expires_at=past
    )
    response = bob_client.post(REGENERATE, {"tokenName": "ci"})
    assert response.json().keys() == {"token", "success"}
    text = response.json()["token"]
    assert ApiClient(bob.public_id, text).get("me").status_code == 200
    assert ApiClient(bob.public_id, secret_of(old)).get("me").status_code == 401
    new = ApiToken.objects.get(name="ci")
    assert (new.pk, new.last_part) == (old.pk, text[-6:])
    assert new.created_at > past


def test_a_removed_token_lets_nobody_in(bob: User, bob_client: ApiClient) -> None:
    token = ApiTokenFactory.create(user=bob, kind="personal", name="ci")
    response = bob_client.post(REMOVE, {"tokenName": "ci"})
    assert (response.status_code, response.json()) == (200, {"success": True})
    assert ApiClient(bob.public_id, secret_of(token)).get("me").status_code == 401


@pytest.mark.parametrize("endpoint", [REGENERATE, REMOVE])
@pytest.mark.parametrize("of", ["nobody", "another user", "a login"])
def test_what_does_not_exist_cannot_be_changed(
    bob: User, bob_client: ApiClient, endpoint: str, of: str
) -> None:
    if of == "another user":
        ApiTokenFactory.create(kind="personal", name="ci")
    elif of == "a login":
        ApiTokenFactory.create(user=bob, kind="login", name="ci")
    response = bob_client.post(endpoint, {"tokenName": "ci"})
    assert (response.status_code, response.json()) == (
        400,
        {
            "success": False,
            "error": "Token does not exist [error-token-does-not-exists]",
            "errorType": "error-token-does-not-exists",
            "details": {"method": f"personalAccessTokens:{METHOD_OF[endpoint]}"},
        },
    )


@pytest.mark.parametrize("endpoint", CHANGING)
@pytest.mark.parametrize(
    "body", [{}, {"tokenName": ""}, {"tokenName": None}, {"tokenName": " "}, {"name": "ci"}]
)
def test_a_name_is_needed(bob_client: ApiClient, endpoint: str, body: Any) -> None:
    response = bob_client.post(endpoint, body)
    assert (response.status_code, response.json()) == (
        400,
        {"success": False, "error": "The 'tokenName' param is required"},
    )


@pytest.mark.parametrize("endpoint", CHANGING)
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"tokenName": ["ci"]}, "must be string"),
        ({"tokenName": {}}, "must be string"),
        ({"tokenName": "x" * 256}, "must NOT have more than 255 characters"),
        ({"tokenName": "ci", "bypassTwoFactor": "yes"}, "must be boolean"),
        ([], "must be object"),
    ],
)
def test_wrong_types_are_refused(
    bob_client: ApiClient, endpoint: str, body: Any, error: str
) -> None:
    response = bob_client.send(endpoint, json.dumps(body).encode())
    assert (response.status_code, response.json()) == (
        400,
        {"success": False, "errorType": "invalid-params", "error": error},
    )


@pytest.mark.parametrize("name", ["x" * 255, "Ünïcode ✓", "a\x00b", "' OR 1=1", "\ud800", 42])
def test_odd_names_work_all_the_way(bob_client: ApiClient, name: Any) -> None:
    body = {"tokenName": name}
    for endpoint in CHANGING:
        assert bob_client.post(endpoint, body).status_code == 200, endpoint
    assert bob_client.get(LIST).json()["tokens"] == []


def test_without_the_permission_nothing_works(bob: User, bob_client: ApiClient) -> None:
    bob.groups.remove(Group.objects.get(name="user"))
    for endpoint, method in METHOD_OF.items():
        response = bob_client.post(endpoint, {"tokenName": "ci"})
        assert (response.status_code, response.json()) == (
            400,
            {
                "success": False,
                "error": "Not Authorized [not-authorized]",
                "errorType": "not-authorized",
                "details": {"method": f"personalAccessTokens:{method}"},
            },
        )
    response = bob_client.get(LIST)
    assert (response.status_code, response.json()["errorType"]) == (400, "not-authorized")


@pytest.mark.parametrize("endpoint", CHANGING)
def test_a_password_that_is_sent_is_checked(
    bob: User, bob_client: ApiClient, endpoint: str
) -> None:
    ApiTokenFactory.create(user=bob, kind="personal", name="old")
    name = "new" if endpoint == GENERATE else "old"
    confirmed(bob_client, "0" * 64)
    response = bob_client.post(endpoint, {"tokenName": name})
    assert (response.status_code, response.json()) == (400, TOTP_INVALID)
    confirmed(bob_client, DIGEST)
    assert bob_client.post(endpoint, {"tokenName": name}).status_code == 200


def test_codes_of_other_methods_do_not_matter_where_nothing_is_asked(
    bob_client: ApiClient,
) -> None:
    confirmed(bob_client, "123456", "totp")
    assert bob_client.post(GENERATE, {"tokenName": "ci"}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"x-2fa-code": "1"}, {"x-2fa-method": "password"}])
@pytest.mark.parametrize("endpoint", CHANGING)
def test_where_the_password_is_asked_for_it_is_needed(
    bob: User, bob_client: ApiClient, settings: Settings, endpoint: str, headers: dict[str, str]
) -> None:
    with_conf(settings, ask_password_for_tokens=True)
    ApiTokenFactory.create(user=bob, kind="personal", name="old")
    bob_client.headers |= headers
    name = "new" if endpoint == GENERATE else "old"
    response = bob_client.post(endpoint, {"tokenName": name})
    assert (response.status_code, response.json()) == (400, TOTP_REQUIRED)
    confirmed(bob_client, DIGEST)
    assert bob_client.post(endpoint, {"tokenName": name}).status_code == 200


def test_listing_never_asks(bob_client: ApiClient, settings: Settings) -> None:
    with_conf(settings, ask_password_for_tokens=True)
    assert bob_client.get(LIST).status_code == 200


def test_a_token_that_may_bypass_is_not_asked(bob: User, settings: Settings) -> None:
    with_conf(settings, ask_password_for_tokens=True)
    token = ApiTokenFactory.create(user=bob, kind="personal", name="a", bypass_two_factor=True)
    client = ApiClient(bob.public_id, secret_of(token))
    assert client.post(GENERATE, {"tokenName": "b"}).status_code == 200


def test_who_has_no_password_is_not_asked(settings: Settings, db: None) -> None:
    with_conf(settings, ask_password_for_tokens=True)
    user = UserFactory.create(password="!", groups=["user"])
    client = ApiClient(user.public_id, secret_of(ApiTokenFactory.create(user=user)))
    assert client.post(GENERATE, {"tokenName": "ci"}).status_code == 200


def test_a_stolen_token_is_no_way_to_try_passwords(bob_client: ApiClient) -> None:
    confirmed(bob_client, "0" * 64)
    for _ in range(5):
        assert bob_client.post(GENERATE, {"tokenName": "ci"}).json() == TOTP_INVALID
    confirmed(bob_client, DIGEST)
    response = bob_client.post(GENERATE, {"tokenName": "ci"})
    assert response.status_code == 429
    assert int(response["Retry-After"]) > 800


@pytest.mark.django_db(transaction=True)
def test_of_fifty_tokens_of_one_name_one_is_made(bob: User, bob_client: ApiClient) -> None:
    answers: list[Any] = []
    start = threading.Barrier(10)

    def ask() -> None:
        client = ApiClient()
        client.headers = bob_client.headers
        start.wait()
        for _ in range(5):
            answers.append(client.post(GENERATE, {"tokenName": "ci"}))
        connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    codes = [answer.status_code for answer in answers]
    assert sorted(codes) == [200, *[400] * 49], connection.vendor
    refusals = {answer.json()["errorType"] for answer in answers if answer.status_code == 400}
    assert refusals == {"error-token-already-exists"}
    assert bob.tokens.filter(name="ci").count() == 1
