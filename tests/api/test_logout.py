from __future__ import annotations

import pytest

from importops.models import ApiToken, User
from tests.clients import ApiClient
from tests.factories import ApiTokenFactory, secret_of


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", [ApiToken.Kind.LOGIN, ApiToken.Kind.PERSONAL])
def test_it_ends_the_presented_token_and_no_other(bob: User, method: str, kind: str) -> None:
    used = ApiTokenFactory.create(user=bob, kind=kind, name="laptop")
    other = ApiTokenFactory.create(user=bob, kind=kind, name="phone")
    client = ApiClient(bob.public_id, secret_of(used))
    response = client.get("logout") if method == "GET" else client.post("logout")
    assert (response.status_code, response.json()) == (
        200,
        {"status": "success", "data": {"message": "You've been logged out!"}},
    )
    assert list(bob.tokens.all()) == [other]
    assert client.get("logout").status_code == 401


@pytest.mark.parametrize("body", [b"", b"{}", b'{"anything": 1}'])
def test_the_body_does_not_matter(bob_client: ApiClient, body: bytes) -> None:
    assert bob_client.send("logout", body).status_code == 200
