from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from importops.models import ApiToken, User
from tests.admin.conftest import SignIn, Staff
from tests.factories import ApiTokenFactory

ADD = "admin:importops_apitoken_add"
LIST = "admin:importops_apitoken_changelist"


def wish(user: User, **fields: Any) -> dict[str, Any]:
    form = {"user": user.pk, "kind": "personal", "name": "ci"}
    return form | {"expires_at_0": "", "expires_at_1": ""} | fields


def issue(client: Client, user: User, **fields: Any) -> str:
    """The token's text, read from the page that shows it."""
    response = client.post(reverse(ADD), wish(user, **fields))
    assert response.status_code == 200
    shown = re.search(r"<code>([\w-]{43})</code>", response.content.decode())
    assert shown, "the page shows no token"
    return shown[1]


def test_the_secret_is_shown_once_and_works(root_client: Client, bob: User) -> None:
    text = issue(root_client, bob)
    assert ApiToken.objects.authenticate(bob.public_id, text)
    token = ApiToken.objects.get()
    pages = [reverse(LIST), reverse("admin:importops_apitoken_change", args=[token.pk])]
    pages += [reverse("admin:index"), reverse("admin:importops_user_change", args=[bob.pk])]
    for url in pages:
        html = root_client.get(url).content.decode()
        assert text not in html
        assert token.token_hash not in html


def test_the_secret_is_kept_nowhere(root_client: Client, bob: User) -> None:
    response = root_client.post(reverse(ADD), wish(bob))
    text = re.search(r"<code>([\w-]{43})</code>", response.content.decode())
    assert text
    assert text[1] not in str(response.cookies)
    assert all(text[1] not in str(s.get_decoded()) for s in Session.objects.all())
    assert all(text[1] not in str(vars(entry)) for entry in LogEntry.objects.all())
    assert "no-store" in response["Cache-Control"]


def test_a_login_token_expires_and_a_personal_one_does_not(root_client: Client, bob: User) -> None:
    issue(root_client, bob, kind="login", name="")
    issue(root_client, bob, kind="personal")
    login, personal = ApiToken.objects.order_by("pk")
    assert login.expires_at
    assert personal.expires_at is None


def test_an_expiry_that_was_asked_for_is_kept(root_client: Client, bob: User) -> None:
    tomorrow = (timezone.now() + timedelta(days=1)).replace(microsecond=0)
    moment = {"expires_at_0": f"{tomorrow:%Y-%m-%d}", "expires_at_1": f"{tomorrow:%H:%M:%S}"}
    issue(root_client, bob, **moment)
    assert ApiToken.objects.get().expires_at == tomorrow


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": "taken"}, "with this name already"),
        ({"expires_at_0": "2001-01-01", "expires_at_1": "00:00"}, "has passed"),
    ],
)
def test_a_wish_that_cannot_be_met_is_explained(
    root_client: Client, bob: User, fields: dict[str, str], complaint: str
) -> None:
    ApiTokenFactory.create(user=bob, kind="personal", name="taken")
    response = root_client.post(reverse(ADD), wish(bob, **fields))
    assert complaint in response.content.decode()
    assert ApiToken.objects.count() == 1


def test_deleting_revokes(root_client: Client, bob: User) -> None:
    text = issue(root_client, bob)
    url = reverse("admin:importops_apitoken_delete", args=[ApiToken.objects.get().pk])
    assert root_client.post(url, {"post": "yes"}).status_code == 302
    assert ApiToken.objects.authenticate(bob.public_id, text) is None


def test_several_are_revoked_at_once(root_client: Client, bob: User) -> None:
    tokens = ApiTokenFactory.create_batch(2, user=bob)
    picked = [token.pk for token in tokens]
    form = {"action": "delete_selected", "_selected_action": picked, "post": "yes"}
    assert root_client.post(reverse(LIST), form).status_code == 302
    assert not ApiToken.objects.exists()


def test_staff_issue_tokens_for_themselves_only(staff: Staff, sign_in: SignIn, root: User) -> None:
    clerk = staff("create_personal_access_tokens", "add_apitoken")
    client = sign_in(clerk)
    response = client.post(reverse(ADD), wish(root))
    assert "valid choice" in response.content.decode()
    text = issue(client, clerk)
    assert ApiToken.objects.authenticate(clerk.public_id, text)


def test_staff_see_and_revoke_their_own(staff: Staff, sign_in: SignIn, bob: User) -> None:
    clerk = staff("create_personal_access_tokens")
    theirs = ApiTokenFactory.create(user=bob)
    own = ApiTokenFactory.create(user=clerk)
    client = sign_in(clerk)
    page = client.get(reverse(LIST)).content.decode()
    assert own.last_part in page
    assert theirs.last_part not in page
    url = reverse("admin:importops_apitoken_delete", args=[theirs.pk])
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert ApiToken.objects.filter(pk=theirs.pk).exists()
    url = reverse("admin:importops_apitoken_delete", args=[own.pk])
    client.post(url, {"post": "yes"})
    assert not ApiToken.objects.filter(pk=own.pk).exists()


def test_staff_with_view_rights_see_but_do_not_revoke(
    staff: Staff, sign_in: SignIn, bob: User
) -> None:
    theirs = ApiTokenFactory.create(user=bob)
    client = sign_in(staff("view_apitoken", "create_personal_access_tokens"))
    url = reverse("admin:importops_apitoken_delete", args=[theirs.pk])
    assert client.post(url, {"post": "yes"}).status_code == 403
    form = {
        "action": "delete_selected",
        "_selected_action": [theirs.pk],
        "post": "yes",
    }
    client.post(reverse(LIST), form)
    assert ApiToken.objects.filter(pk=theirs.pk).exists()


def test_staff_without_the_right_have_no_tokens_page(staff: Staff, sign_in: SignIn) -> None:
    client = sign_in(staff("view_user"))
    assert client.get(reverse(LIST)).status_code == 403
    assert client.get(reverse(ADD)).status_code == 403
