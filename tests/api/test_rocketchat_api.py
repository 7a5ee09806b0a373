"""The Python package rocketchat_API, as it is, against a real server."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from rocketchat_API.APIExceptions.RocketExceptions import (
    RocketApiException,
    RocketAuthenticationException,
)
from rocketchat_API.rocketchat import RocketChat

from tests.tasks.installation import Installation, until

PASSWORD = "correct horse"
pytestmark = pytest.mark.process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("installation")
    installation = Installation(folder, worker_processes="1")
    installation.manage("bootstrap", "--password", PASSWORD)
    port = free_port()
    with installation.running("serve", "--port", port):

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(answers, 60, "the server answers")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def rocket(server: str) -> Any:
    return RocketChat("admin", PASSWORD, server_url=server)


def test_it_logs_in_and_knows_who_it_is(rocket: Any) -> None:
    me = rocket.me()
    assert (me["success"], me["username"], me["_id"]) == (
        True,
        "admin",
        rocket.headers["X-User-Id"],
    )
    assert me["roles"] == ["admin"]


def test_a_wrong_password_is_its_own_kind_of_error(server: str) -> None:
    with pytest.raises(RocketAuthenticationException):
        RocketChat("admin", "wrong", server_url=server)


def test_it_finds_users(rocket: Any) -> None:
    by_id = rocket.users_info(user_id=rocket.headers["X-User-Id"])["user"]
    by_name = rocket.users_info(username="ADMIN", includeUserRooms="true")["user"]
    assert by_name == {**by_id, "rooms": []}
    for query in ({"import_id": "U0"}, {"email": "x@example.com"}, {"username": "ä ö?#"}):
        with pytest.raises(RocketApiException) as refused:
            rocket.users_info(**query)
        assert (refused.value.status_code, refused.value.error) == (400, "User not found.")


def test_it_makes_and_uses_personal_tokens(rocket: Any, server: str) -> None:
    made = rocket.call_api_post("users.generatePersonalAccessToken", tokenName="ci")
    assert re.fullmatch(r"[\w-]{43}", made["token"])
    user_id = rocket.headers["X-User-Id"]
    other = RocketChat(user_id=user_id, auth_token=made["token"], server_url=server)
    assert other.me()["_id"] == user_id
    listed = rocket.call_api_get("users.getPersonalAccessTokens")["tokens"]
    assert "ci" in [token["name"] for token in listed]
    with pytest.raises(RocketApiException) as refused:
        rocket.call_api_post("users.generatePersonalAccessToken", tokenName="ci")
    assert refused.value.error_type == "error-token-already-exists"
    again = rocket.call_api_post("users.regeneratePersonalAccessToken", tokenName="ci")
    with pytest.raises(RocketApiException) as refused:
        other.me()
    assert (refused.value.status_code, refused.value.error) == (401, "unauthorized")
    other = RocketChat(user_id=user_id, auth_token=again["token"], server_url=server)
    assert other.call_api_post("users.removePersonalAccessToken", tokenName="ci")["success"]
    with pytest.raises(RocketApiException):
        other.me()


def test_it_logs_out(server: str) -> None:
    client: Any = RocketChat("admin", PASSWORD, server_url=server)
    assert client.logout()["data"]["message"] == "You've been logged out!"
    with pytest.raises(RocketApiException):
        client.me()
