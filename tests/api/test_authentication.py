"""Who gets in: both headers, belonging together, and a permission that counts at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from importops.actions.accounts import revoke_token
from importops.api.urls import ENDPOINTS
from importops.models import ApiToken, User
from tests.clients import ApiClient
from tests.factories import ApiTokenFactory, secret_of

UNAUTHORIZED = b'{"success":false,"error":"unauthorized"}'
FORBIDDEN = (
    b'{"success":false,"error":"User does not have the permissions required for this action '
    b'[error-unauthorized]"}'
)
SEED = "getCurrentImportOperation"


def assert_unauthorized(client: ApiClient) -> None:
    response = client.get(SEED)
    assert (response.status_code, response.content) == (401, UNAUTHORIZED)
    assert response["WWW-Authenticate"]
    assert response["Cache-Control"] == "no-store"


def test_both_headers_let_in(alice_client: ApiClient) -> None:
    assert alice_client.get(SEED).status_code == 200


def test_the_case_of_header_names_does_not_matter(alice_client: ApiClient) -> None:
    alice_client.headers = {k.lower(): v for k, v in alice_client.headers.items()}
    assert alice_client.get(SEED).status_code == 200


def test_no_headers_are_unauthorized(nobody_client: ApiClient) -> None:
    assert_unauthorized(nobody_client)


@pytest.mark.parametrize("missing", ["X-User-Id", "X-Auth-Token"])
def test_half_a_pair_is_unauthorized(alice_client: ApiClient, missing: str) -> None:
    del alice_client.headers[missing]
    assert_unauthorized(alice_client)


@pytest.mark.parametrize("name", ["X-User-Id", "X-Auth-Token"])
@pytest.mark.parametrize(
    "value", ["", "x", "x" * 10_000, "\xff\xfe", "a\x00b", "' OR 1=1 --", "%s"]
)
def test_odd_values_are_unauthorized(alice_client: ApiClient, name: str, value: str) -> None:
    alice_client.headers[name] = value
    assert_unauthorized(alice_client)


def test_another_users_token_is_unauthorized(
    alice_client: ApiClient, bob_client: ApiClient
) -> None:
    alice_client.headers["X-User-Id"] = bob_client.headers["X-User-Id"]
    assert_unauthorized(alice_client)


def test_an_inactive_user_is_unauthorized(charlie_client: ApiClient) -> None:
    assert_unauthorized(charlie_client)


def test_deactivation_counts_at_the_next_request(alice: User, alice_client: ApiClient) -> None:
    assert alice_client.get(SEED).status_code == 200
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert_unauthorized(alice_client)


def test_an_expired_token_is_unauthorized(alice: User) -> None:
    past = timezone.now() - timedelta(seconds=1)
    token = ApiTokenFactory.create(user=alice, expires_at=past)
    assert_unauthorized(ApiClient(alice.public_id, secret_of(token)))


def test_a_token_without_an_end_does_not_expire(alice: User) -> None:
    token = ApiTokenFactory.create(user=alice, expires_at=None)
    assert ApiClient(alice.public_id, secret_of(token)).get(SEED).status_code == 200


def test_a_revoked_token_is_unauthorized(alice_client: ApiClient, alice_token: ApiToken) -> None:
    revoke_token(alice_token)
    assert_unauthorized(alice_client)


def test_the_stored_hash_is_no_token(alice: User, alice_token: ApiToken) -> None:
    assert_unauthorized(ApiClient(alice.public_id, alice_token.token_hash))


def test_a_session_is_not_looked_at(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    response = client.get(f"/api/v1/{SEED}")
    assert (response.status_code, response.content) == (401, UNAUTHORIZED)


@pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if name != "login"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_session_lets_in_nowhere(alice: User, endpoint: str, method: str) -> None:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    response = getattr(client, method)(f"/api/v1/{endpoint}")
    assert (response.status_code, response.content) == (401, UNAUTHORIZED)
    assert not response.cookies


def test_a_query_string_is_no_credential(alice: User, alice_token: ApiToken) -> None:
    query = f"X-User-Id={alice.public_id}&X-Auth-Token={secret_of(alice_token)}"
    assert Client().get(f"/api/v1/{SEED}?{query}").status_code == 401


def test_a_member_without_the_permission_is_forbidden(bob_client: ApiClient) -> None:
    response = bob_client.get(SEED)
    assert (response.status_code, response.content) == (403, FORBIDDEN)


def test_a_revoked_permission_counts_at_once(
    alice_client: ApiClient, alice: User, admins: Group
) -> None:
    assert alice_client.get(SEED).status_code == 200
    alice.groups.remove(admins)
    assert alice_client.get(SEED).content == FORBIDDEN


def test_the_permission_alone_suffices(bob: User, bob_client: ApiClient, admins: Group) -> None:
    bob.user_permissions.add(admins.permissions.get(codename="run_import"))
    assert bob_client.get(SEED).status_code == 200


def test_a_superuser_may_run_imports(bob: User, bob_client: ApiClient) -> None:
    User.objects.filter(pk=bob.pk).update(is_superuser=True)
    assert bob_client.get(SEED).status_code == 200


def test_the_token_remembers_that_it_was_used(
    alice_client: ApiClient, alice_token: ApiToken
) -> None:
    alice_client.get(SEED)
    alice_token.refresh_from_db()
    assert alice_token.last_used_at is not None


def test_authentication_comes_before_the_body(nobody_client: ApiClient) -> None:
    response = nobody_client.send("startImport", b"{")
    assert (response.status_code, response.content) == (401, UNAUTHORIZED)


def test_permission_comes_before_the_body(bob_client: ApiClient) -> None:
    response = bob_client.post("startImport", {"nonsense": 1})
    assert (response.status_code, response.content) == (403, FORBIDDEN)
