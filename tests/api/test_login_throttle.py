"""Wrong passwords lock a name and an address together, through both doors, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
import time_machine
from axes.models import AccessAttempt
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from importops.hashers import password_digest
from importops.models import User
from tests.clients import ApiClient
from tests.confs import with_conf
from tests.factories import PASSWORD, UserEmailFactory, UserFactory

NOON = 1_706_702_400
RIGHT = {"user": "bob", "password": PASSWORD}
WRONG = {"user": "bob", "password": "wrong"}
HERE = "203.0.113.1"
ELSEWHERE = "203.0.113.2"


def log_in(body: Any, address: str = HERE, **environ: Any) -> Any:
    client = Client()
    return client.post("/api/v1/login", body, "application/json", REMOTE_ADDR=address, **environ)


def fail(times: int, body: Any = WRONG, **environ: Any) -> list[int]:
    return [log_in(body, **environ).status_code for _ in range(times)]


def sign_in_to_admin(name: str, password: str, address: str = HERE) -> Any:
    fields = {"username": name, "password": password}
    return Client().post(reverse("admin:login"), fields, REMOTE_ADDR=address)


def test_after_five_failures_the_right_password_is_refused_too(bob: User) -> None:
    with time_machine.travel(NOON, tick=False):
        assert fail(5) == [401] * 5
        response = log_in(RIGHT)
    assert response.status_code == 429
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert response["Retry-After"] == "900"
    text = (
        "Error, too many requests. Please slow down. You must wait 900 seconds before trying "
        "this endpoint again. [error-too-many-requests]"
    )
    assert response.json() == {"success": False, "status": "error", "error": text, "message": text}


def test_it_ends_when_it_said_so_and_trying_does_not_prolong_it(bob: User) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        fail(5)
        clock.shift(600)
        response = log_in(WRONG)
        assert (response.status_code, response["Retry-After"]) == (429, "300")
        clock.shift(299)
        assert log_in(RIGHT).status_code == 429
        clock.shift(2)
        assert log_in(RIGHT).status_code == 200


def test_other_addresses_and_other_names_are_not_locked(bob: User, alice: User) -> None:
    fail(5)
    assert log_in(RIGHT, ELSEWHERE).status_code == 200
    assert log_in({"user": "alice", "password": PASSWORD}).status_code == 200


def test_no_way_of_writing_a_name_gives_more_tries(db: None) -> None:
    UserFactory.create(username="Straße")
    for name in ("Straße", "STRASSE", "strasse", "ｓｔｒａｓｓｅ", "straẞe"):
        assert fail(1, {"username": name, "password": "x"}) == [401]
    assert fail(1, {"user": {"username": "straße"}, "password": "x"}) == [429]


def test_nor_does_another_user_agent(bob: User) -> None:
    for number in range(5):
        assert fail(1, HTTP_USER_AGENT=f"agent {number}") == [401]
    assert log_in(RIGHT).status_code == 429


def test_a_digest_counts_as_a_password_does(bob: User) -> None:
    digest = {"digest": password_digest("wrong"), "algorithm": "sha-256"}
    assert fail(6, {"user": "bob", "password": digest}) == [401] * 5 + [429]


@pytest.mark.parametrize("who", ["nobody", "nobody@example.com", "charlie"])
def test_who_has_no_account_is_locked_like_who_has(charlie: User, who: str) -> None:
    assert fail(6, {"user": who, "password": "x"}) == [401] * 5 + [429]


def test_name_and_address_are_counted_apart(bob: User) -> None:
    """Else a lock would tell a stranger whose e-mail address that is."""
    UserEmailFactory.create(user=bob, address="bob@example.com")
    fail(5)
    assert fail(1, {"user": "bob@example.com", "password": "x"}) == [401]


@pytest.mark.parametrize("who", ["bob", "BOB@example.com"])
def test_getting_in_forgets_the_failures(bob: User, who: str) -> None:
    UserEmailFactory.create(user=bob, address="bob@example.com")
    wrong, right = {"user": who, "password": "x"}, {"user": who, "password": PASSWORD}
    for _ in range(2):
        assert fail(4, wrong) == [401] * 4
        assert log_in(right).status_code == 200
    assert not AccessAttempt.objects.exists()


def test_the_admin_and_the_api_count_together(bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    for _ in range(3):
        assert sign_in_to_admin("Bob", "wrong").status_code == 200
    assert fail(2) == [401] * 2
    assert log_in(RIGHT).status_code == 429
    response = sign_in_to_admin("bob", PASSWORD)
    assert response.status_code == 429
    assert response["Content-Type"].startswith("text/plain")
    assert 0 < int(response["Retry-After"]) <= 900
    assert not response.has_header("Access-Control-Allow-Origin")


def test_knocking_at_the_admin_does_not_prolong_it_either(bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    with time_machine.travel(NOON, tick=False) as clock:
        for _ in range(5):
            sign_in_to_admin("bob", "wrong")
        clock.shift(600)
        assert sign_in_to_admin("bob", "wrong").status_code == 429
        clock.shift(301)
        assert sign_in_to_admin("bob", PASSWORD).status_code == 302


def test_behind_a_proxy_the_client_is_locked_and_not_the_proxy(
    bob: User, settings: Settings
) -> None:
    with_conf(settings, trusted_proxies=("10.0.0.0/8",))
    for number in range(5):
        forged = f"198.51.100.{number}, {HERE}"
        assert fail(1, address="10.0.0.1", HTTP_X_FORWARDED_FOR=forged) == [401]
    through = {"address": "10.0.0.1"}
    assert log_in(RIGHT, HTTP_X_FORWARDED_FOR=HERE, **through).status_code == 429
    assert log_in(RIGHT, HTTP_X_FORWARDED_FOR=ELSEWHERE, **through).status_code == 200


def test_without_a_trusted_proxy_the_header_changes_nothing(bob: User) -> None:
    for number in range(5):
        assert fail(1, HTTP_X_FORWARDED_FOR=f"198.51.100.{number}") == [401]
    assert log_in(RIGHT, HTTP_X_FORWARDED_FOR="198.51.100.9").status_code == 429


def test_through_a_socket_without_an_address_names_are_still_locked(bob: User) -> None:
    assert fail(6, address="") == [401] * 5 + [429]


@pytest.mark.parametrize(
    "body",
    [
        {"user": "x" * 5000, "password": "x"},
        {"user": "a\x00b", "password": "x"},
        {"user": "ﷺ" * 255, "password": "x"},
    ],
)
def test_hostile_names_are_locked_as_well(db: None, body: Any) -> None:
    assert fail(6, body, HTTP_USER_AGENT="a\x00b" * 1000) == [401] * 5 + [429]


def test_nothing_that_was_sent_is_stored(db: None) -> None:
    Client().post(
        "/api/v1/login?secret=s3cret",
        "user=bob&password=s3cret&code=s3cret",
        "application/x-www-form-urlencoded",
    )
    assert "s3cret" not in str(list(AccessAttempt.objects.values()))
    assert AccessAttempt.objects.get().username == "bob"


def test_a_wrong_token_to_resume_locks_nobody(bob: User) -> None:
    assert fail(6, {"resume": "x"}) == [401] * 6
    assert ApiClient().post("login", RIGHT).status_code == 200
