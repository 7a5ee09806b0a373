from __future__ import annotations

import re

from importops.models import ApiToken, User
from importops.tokens import hash_token
from tests.commands.conftest import Run


def test_it_prints_the_two_headers_and_nothing_else(run: Run, bob: User) -> None:
    ran = run("create_token", "BOB")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0] == f"X-User-Id: {bob.public_id}"
    header = re.fullmatch(r"X-Auth-Token: ([\w-]{43})", lines[1])
    assert header
    assert len(lines) == 2
    assert ApiToken.objects.get(user=bob).token_hash == hash_token(header[1])


def test_a_name_makes_it_a_personal_token_that_lasts(run: Run, bob: User) -> None:
    run("create_token", "bob", "--name", "ci")
    run("create_token", "bob")
    personal, login = ApiToken.objects.order_by("pk")
    assert (personal.kind, personal.name, personal.expires_at) == ("personal", "ci", None)
    assert login.kind == "login"
    assert login.expires_at is not None


def test_a_name_that_is_taken_is_refused(run: Run, bob: User) -> None:
    run("create_token", "bob", "--name", "ci")
    ran = run("create_token", "bob", "--name", "ci")
    assert (ran.code, ran.out) == (1, "")
    assert "already exists" in ran.err


def test_an_unknown_user_is_a_wrong_usage(run: Run, db: None) -> None:
    ran = run("create_token", "nobody")
    assert (ran.code, ran.out) == (2, "")
    assert "no user nobody" in ran.err


def test_an_inactive_user_gets_none(run: Run, charlie: User) -> None:
    ran = run("create_token", "charlie")
    assert ran.code == 2
    assert not ApiToken.objects.exists()
