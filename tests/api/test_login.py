"""`POST login`: a name or an address and the password, in every form that clients send."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from importops.hashers import DigestArgon2PasswordHasher, password_digest
from importops.models import ApiToken, User
from tests.clients import ApiClient
from tests.factories import PASSWORD, ApiTokenFactory, UserEmailFactory, UserFactory, secret_of

DIGEST = password_digest(PASSWORD)
UNAUTHORIZED = {
    "success": False,
    "status": "error",
    "error": "Unauthorized",
    "message": "Unauthorized",
}


@pytest.fixture
def ann(db: None) -> User:
    ann = UserFactory.create(username="Ann", name="Ann", groups=["user"])
    UserEmailFactory.create(user=ann, address="ann.old@example.com", verified=False)
    UserEmailFactory.create(user=ann, address="Ann@example.com")
    return ann


def log_in(client: ApiClient, body: Any) -> Any:
    return client.post("login", body)


def test_it_gives_a_token_that_lets_in(nobody_client: ApiClient, ann: User) -> None:
    response = log_in(nobody_client, {"user": "Ann", "password": PASSWORD})
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    body = response.json()
    assert body.keys() == {"status", "data", "success"}
    assert (body["status"], body["success"]) == ("success", True)
    data = body["data"]
    assert data.keys() == {"userId", "authToken", "me"}
    assert data["userId"] == data["me"]["_id"] == ann.public_id
    assert len(data["authToken"]) == 43
    assert "success" not in data["me"]
    me = ApiClient(data["userId"], data["authToken"]).get("me").json()
    assert me == {**data["me"], "success": True}


@pytest.mark.parametrize(
    "who",
    [
        {"user": "ann"},
        {"user": "ＡＮＮ"},
        {"user": "ann@example.com"},
        {"user": "ANN.OLD@EXAMPLE.COM"},
        {"user": {"username": "ann"}},
        {"user": {"email": "ann@example.com"}},
        {"username": "aNN"},
        {"email": "ann@example.com"},
        {"user": None, "username": "ann"},
        {"user": "ann", "username": "somebody else"},
        {"user": "ann", "code": "123456", "ldap": True},
    ],
)
def test_every_way_of_naming_somebody(nobody_client: ApiClient, ann: User, who: Any) -> None:
    response = log_in(nobody_client, {**who, "password": PASSWORD})
    assert (response.status_code, response.json()["data"]["userId"]) == (200, ann.public_id)


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        {"digest": DIGEST, "algorithm": "sha-256"},
        {"digest": DIGEST.upper(), "algorithm": "sha-256"},
        {"hashed": DIGEST},
    ],
)
def test_every_way_of_giving_the_password(
    nobody_client: ApiClient, ann: User, password: Any
) -> None:
    assert log_in(nobody_client, {"user": "ann", "password": password}).status_code == 200


def test_a_form_is_as_good_as_json(nobody_client: ApiClient, ann: User) -> None:
    form = urlencode({"user": "ann@example.com", "password": PASSWORD}).encode()
    response = nobody_client.send("login", form, "application/x-www-form-urlencoded")
    assert (response.status_code, response.json()["data"]["userId"]) == (200, ann.public_id)


@pytest.mark.parametrize("written", ["straße", "STRASSE", "Strasse", "STRAẞE"])
def test_names_are_folded_in_every_script(nobody_client: ApiClient, db: None, written: str) -> None:
    user = UserFactory.create(username="Straße")
    response = log_in(nobody_client, {"username": written, "password": PASSWORD})
    assert response.json()["data"]["userId"] == user.public_id


def test_a_number_is_text_too(nobody_client: ApiClient, db: None) -> None:
    user = UserFactory.create(username="42")
    user.set_password("1234")
    user.save()
    response = log_in(nobody_client, {"username": 42, "password": 1234})
    assert response.json()["data"]["userId"] == user.public_id


@pytest.mark.parametrize(
    "body",
    [
        {"user": "ann", "password": "wrong"},
        {"user": "ann", "password": ""},
        {"user": "ann", "password": None},
        {"user": "ann", "password": DIGEST},
        {"user": "ann", "password": "x" * 60_000},
        {"user": "ann", "password": PASSWORD + "\x00"},
        {"user": "ann", "password": {"digest": "", "algorithm": "sha-256"}},
        {"user": "ann", "password": {"digest": "ä", "algorithm": "sha-256"}},
        {"user": "ann", "password": {"digest": PASSWORD, "algorithm": "sha-256"}},
        {"user": "nobody", "password": PASSWORD},
        {"user": "nobody@example.com", "password": PASSWORD},
        {"user": "ann@example.com", "username": "ann", "password": "wrong"},
        {"user": "", "password": PASSWORD},
        {"user": "@", "password": PASSWORD},
        {"user": "a\x00nn", "password": PASSWORD},
        {"user": "\ud800", "password": "\ud800"},
        {"user": "x" * 50_000, "password": PASSWORD},
        {"user": "ﷺ" * 250, "password": PASSWORD},
        {"username": "ann' OR 1=1 --", "password": PASSWORD},
        {"email": "ann", "password": PASSWORD},
        {"username": "rocket.cat", "password": "built-in"},
        {"resume": "x"},
        {"resume": "x" * 50_000},
        {"resume": ""},
    ],
)
def test_whatever_is_wrong_the_answer_is_the_same(
    nobody_client: ApiClient, ann: User, body: Any
) -> None:
    response = log_in(nobody_client, body)
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    assert response["WWW-Authenticate"]
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "must have required property 'password'"),
        ({"user": "ann"}, "must have required property 'password'"),
        ({"password": PASSWORD}, "must have required property 'user'"),
        ({"user": {}, "password": PASSWORD}, "must have required property 'user'"),
        ({"user": ["ann"], "password": PASSWORD}, "must be string"),
        ({"user": {"username": ["ann"]}, "password": PASSWORD}, "must be string"),
        ({"user": "ann", "password": [PASSWORD]}, "must be string"),
        ({"user": "ann", "password": {}}, "must have required property 'digest'"),
        ({"user": "ann", "password": {"digest": DIGEST}}, "algorithm must be sha-256"),
        (
            {"user": "ann", "password": {"digest": DIGEST, "algorithm": "md5"}},
            "algorithm must be sha-256",
        ),
        ({"resume": ["x"]}, "must be string"),
        ([], "must be object"),
        ("ann", "must be object"),
    ],
)
def test_what_is_no_login_is_refused_with_the_reason(
    nobody_client: ApiClient, ann: User, body: Any, message: str
) -> None:
    response = nobody_client.send("login", json.dumps(body).encode())
    assert response.status_code == 401
    assert response.json() == {
        "success": False,
        "status": "error",
        "error": "invalid-params",
        "message": message,
    }


def test_inactive_accounts_stay_outside(nobody_client: ApiClient, charlie: User) -> None:
    response = log_in(nobody_client, {"user": "charlie", "password": PASSWORD})
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    token = secret_of(ApiTokenFactory.create(user=charlie))
    assert log_in(nobody_client, {"resume": token}).json() == UNAUTHORIZED


@pytest.mark.parametrize("who", ["ann", "nobody", "charlie", "unset", "ann@example.com", "x@y"])
@pytest.mark.parametrize("given", ["wrong", {"digest": "wrong", "algorithm": "sha-256"}])
def test_the_same_work_is_done_for_everybody(
    nobody_client: ApiClient, ann: User, charlie: User, who: str, given: Any
) -> None:
    """One password is verified, at the same cost, whether there is such a user or not."""
    UserFactory.create(username="unset", password="!")
    log_in(nobody_client, {"user": "warm-up", "password": "x"})
    verify = DigestArgon2PasswordHasher.verify_digest
    with patch.object(DigestArgon2PasswordHasher, "verify_digest", autospec=True) as spy:
        spy.side_effect = verify
        assert log_in(nobody_client, {"user": who, "password": given}).status_code == 401
    (call,) = spy.call_args_list
    assert call.args[2].startswith("argon2_digest$argon2id$v=19$m=19456,t=2,p=1$")


def test_resume_answers_with_the_token_it_was_given(nobody_client: ApiClient, ann: User) -> None:
    token = secret_of(ApiTokenFactory.create(user=ann))
    data = log_in(nobody_client, {"resume": token}).json()["data"]
    assert (data["userId"], data["authToken"]) == (ann.public_id, token)
    assert ApiToken.objects.count() == 1


def test_an_expired_token_resumes_nothing(nobody_client: ApiClient, ann: User) -> None:
    past = timezone.now() - timedelta(seconds=1)
    token = secret_of(ApiTokenFactory.create(user=ann, expires_at=past))
    assert log_in(nobody_client, {"resume": token}).json() == UNAUTHORIZED


def test_the_stored_hash_resumes_nothing(nobody_client: ApiClient, ann: User) -> None:
    token = ApiTokenFactory.create(user=ann)
    assert log_in(nobody_client, {"resume": token.token_hash}).json() == UNAUTHORIZED


def test_a_login_lasts_ninety_days_and_is_kept_as_a_hash(
    nobody_client: ApiClient, ann: User
) -> None:
    text = log_in(nobody_client, {"user": "ann", "password": PASSWORD}).json()["data"]["authToken"]
    token = ApiToken.objects.get()
    assert token.kind == ApiToken.Kind.LOGIN
    assert token.expires_at is not None
    assert timedelta(days=89.9) < token.expires_at - timezone.now() <= timedelta(days=90)
    assert text not in json.dumps(list(ApiToken.objects.values()), default=str)


def test_expired_tokens_of_the_user_are_swept_up(nobody_client: ApiClient, ann: User) -> None:
    past = timezone.now() - timedelta(days=1)
    ApiTokenFactory.create(user=ann, expires_at=past)
    others = ApiTokenFactory.create(expires_at=past)
    log_in(nobody_client, {"user": "ann", "password": PASSWORD})
    assert ann.tokens.count() == 1
    assert ApiToken.objects.contains(others)


@pytest.mark.parametrize("resuming", [True, False])
def test_it_notes_the_login_and_nothing_else_does(
    nobody_client: ApiClient, ann: User, resuming: bool
) -> None:
    token = secret_of(ApiTokenFactory.create(user=ann))
    before = User.objects.values().get(pk=ann.pk)
    ApiClient(ann.public_id, token).get("me")
    assert User.objects.values().get(pk=ann.pk) == before
    body = {"resume": token} if resuming else {"user": "ann", "password": PASSWORD}
    assert log_in(nobody_client, body).json()["data"]["me"]["lastLogin"]
    after = User.objects.values().get(pk=ann.pk)
    assert after.pop("last_login") is not None
    assert before.pop("last_login") is None
    assert after == before


def test_a_token_that_comes_along_is_not_looked_at(nobody_client: ApiClient, ann: User) -> None:
    nobody_client.headers |= {"X-User-Id": "nonsense", "X-Auth-Token": "nonsense"}
    assert log_in(nobody_client, {"user": "ann", "password": PASSWORD}).status_code == 200


def test_it_sets_no_cookie(nobody_client: ApiClient, ann: User) -> None:
    response = log_in(nobody_client, {"user": "ann", "password": PASSWORD})
    assert not response.cookies


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_405(nobody_client: ApiClient, db: None, method: str) -> None:
    response = nobody_client.request(method, "login")
    assert response.status_code == 405
    assert response.json()["status"] == "error"


def test_a_body_that_cannot_be_read_is_400(nobody_client: ApiClient, db: None) -> None:
    response = nobody_client.send("login", b"{")
    assert response.status_code == 400
    body = response.json()
    assert (body["success"], body["status"]) == (False, "error")
    assert body["error"] == body["message"]


def test_a_large_body_is_not_read(nobody_client: ApiClient, db: None) -> None:
    response = nobody_client.send("login", b"x" * (64 * 1024 + 1))
    assert response.status_code == 413
    assert response.json()["error"] == "The request body is larger than 64 KiB."
