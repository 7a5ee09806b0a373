from __future__ import annotations

import re

import pytest

from importops.models import ApiToken, User
from tests.commands.conftest import Run
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def shown(out: str, name: str) -> str:
    found = re.search(rf"^{name}: +(.+)$", out, re.MULTILINE)
    assert found, f"{name} is not shown"
    return found[1]


def test_it_makes_an_administrator_who_can_sign_in_and_use_the_api(run: Run) -> None:
    ran = run("bootstrap")
    assert ran.code == 0
    admin = User.objects.get(username="admin")
    assert admin.is_superuser
    assert admin.check_password(shown(ran.out, "Password"))
    token = ApiToken.objects.get()
    assert shown(ran.out, "User id") == admin.public_id
    assert shown(ran.out, "Token").endswith(token.last_part)


def test_a_second_time_it_changes_nothing_and_shows_no_secret(run: Run) -> None:
    run("bootstrap")
    before = list(User.objects.values()), list(ApiToken.objects.values())
    ran = run("bootstrap", "--password", "another one")
    assert ran.code == 0
    assert "Already set up" in ran.out
    assert "Password" not in ran.out
    assert before == (list(User.objects.values()), list(ApiToken.objects.values()))


def test_name_and_password_can_be_given(run: Run) -> None:
    run("bootstrap", "--username", "Zoe", "--password", "correct horse")
    assert User.objects.get(username_key="zoe").check_password("correct horse")


def test_a_name_that_is_taken_is_explained(run: Run) -> None:
    UserFactory.create(username="Admin")
    ran = run("bootstrap")
    assert ran.code == 2
    assert "--username" in ran.err


def test_the_curl_line_holds_the_values_of_this_installation(run: Run) -> None:
    first = run("bootstrap", "--show-curl", 3001)
    curl = next(line for line in first.out.splitlines() if "curl" in line)
    assert shown(first.out, "Token") in curl
    assert shown(first.out, "User id") in curl
    assert curl.endswith("http://localhost:3001/api/v1/getCurrentImportOperation")
    again = run("bootstrap", "--show-curl", 3001)
    assert "YOUR-TOKEN" in again.out
