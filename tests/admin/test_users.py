from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from importops.models import User, UserEmail, UserImportId
from tests.admin.conftest import SignIn, Staff
from tests.factories import UserEmailFactory, UserFactory

LIST = "admin:importops_user_changelist"


def change_url(user: User) -> str:
    return reverse("admin:importops_user_change", args=[user.pk])


def password_url(user: User) -> str:
    return reverse("admin:auth_user_password_change", args=[user.pk])


def form_of(user: User, **changes: Any) -> dict[str, Any]:
    """What the page would send back for `user`, with `changes`."""
    emails = list(user.emails.all())
    form: dict[str, Any] = {
        "username": user.username,
        "name": user.name,
        "type": user.type,
        "bio": "",
        "status_text": "",
        "utc_offset": "",
        "is_active": "on" if user.is_active else "",
        "emails-TOTAL_FORMS": len(emails),
        "emails-INITIAL_FORMS": len(emails),
        "import_ids-TOTAL_FORMS": 0,
        "import_ids-INITIAL_FORMS": 0,
        "tokens-TOTAL_FORMS": 0,
        "tokens-INITIAL_FORMS": 0,
    }
    for number, email in enumerate(emails):
        form[f"emails-{number}-id"] = email.pk
        form[f"emails-{number}-user"] = user.pk
        form[f"emails-{number}-address"] = email.address
    return form | changes


def new_email(address: str, number: int = 0, total: int = 1) -> dict[str, Any]:
    return {"emails-TOTAL_FORMS": total, f"emails-{number}-address": address}


def found(client: Client, words: str) -> set[str]:
    response = client.get(reverse(LIST), {"q": words})
    return {user.username for user in response.context["cl"].result_list}


@pytest.mark.parametrize(
    "words", ["ŽOFIE", "žofie", "novÁková", "Zofie@Example.COM", "U77", "žof novák"]
)
def test_search_finds_people_in_any_case(root_client: Client, words: str) -> None:
    zofie = UserFactory.create(username="Žofie", name="Žofie NOVÁKOVÁ")
    UserEmailFactory.create(user=zofie, address="zofie@example.com")
    UserImportId.objects.create(user=zofie, source="slack", import_id="U77")
    UserFactory.create(username="other", name="Somebody Else")
    assert found(root_client, words) == {"Žofie"}


def test_search_takes_what_is_typed_literally(root_client: Client) -> None:
    UserFactory.create(username="brackets", name="Ann (sales)")
    assert found(root_client, "(sales)") == {"brackets"}
    assert found(root_client, "a.n") == set()


def test_the_list_costs_the_same_however_many_there_are(
    root_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for user in UserFactory.create_batch(20, groups=["user"]):
        UserEmailFactory.create(user=user)
    with django_assert_max_num_queries(10):
        root_client.get(reverse(LIST))


def test_a_user_is_added_with_name_and_password(root_client: Client) -> None:
    response = root_client.post(
        reverse("admin:importops_user_add"),
        {
            "username": "Dora",
            "usable_password": "true",
            "password1": "a long enough one",
            "password2": "a long enough one",
        },
    )
    assert response.status_code == 302
    dora = User.objects.get(username_key="dora")
    assert dora.check_password("a long enough one")


def test_a_name_that_is_taken_in_another_case_is_refused(root_client: Client, bob: User) -> None:
    response = root_client.post(
        reverse("admin:importops_user_add"),
        {"username": "BOB", "usable_password": "false"},
    )
    assert "already exists" in response.content.decode()
    zoe = UserFactory.create(username="zoe")
    response = root_client.post(change_url(zoe), form_of(zoe, username="Bob"))
    assert "already exists" in response.content.decode()


def test_a_user_can_be_changed_and_deactivated(root_client: Client, bob: User) -> None:
    response = root_client.post(change_url(bob), form_of(bob, name="Robert", is_active=""))
    assert response.status_code == 302
    bob.refresh_from_db()
    assert (bob.name, bob.is_active) == ("Robert", False)


def test_an_address_is_unique_ignoring_case(root_client: Client, bob: User) -> None:
    UserEmailFactory.create(address="ann@example.com")
    response = root_client.post(change_url(bob), form_of(bob, **new_email("Ann@Example.com")))
    assert "in use already" in response.content.decode()
    twice = new_email("b@example.com", 0, 2) | new_email("B@example.com", 1, 2)
    response = root_client.post(change_url(bob), form_of(bob, **twice))
    assert "stands here twice" in response.content.decode()
    response = root_client.post(change_url(bob), form_of(bob, **new_email("no address")))
    assert "valid email" in response.content.decode()
    response = root_client.post(change_url(bob), form_of(bob, **new_email("b@example.com")))
    assert response.status_code == 302
    assert UserEmail.objects.get(user=bob).address_key == "b@example.com"


def test_nobody_deletes_users(root_client: Client, bob: User) -> None:
    url = reverse("admin:importops_user_delete", args=[bob.pk])
    assert root_client.post(url, {"post": "yes"}).status_code == 403
    page = root_client.get(change_url(bob)).content.decode()
    assert "deactivated, never deleted" in page
    assert "deletelink" not in page


def test_a_password_is_set_on_the_stock_page(root_client: Client, bob: User) -> None:
    passwords = {"password1": "a brand new one", "password2": "a brand new one"}
    form = {"usable_password": "true", "set-password": "1", **passwords}
    assert root_client.post(password_url(bob), form).status_code == 302
    bob.refresh_from_db()
    assert bob.check_password("a brand new one")


def test_staff_cannot_promote_or_grant(
    staff: Staff, sign_in: SignIn, bob: User, admins: Group
) -> None:
    clerk = staff("view_user", "change_user")
    admins.permissions.clear()
    bob.groups.clear()
    for target in (bob, clerk):
        rights = {"is_superuser": "on", "is_staff": "on", "groups": [admins.pk]}
        response = sign_in(clerk).post(change_url(target), form_of(target, **rights))
        assert response.status_code == 302
        target.refresh_from_db()
        assert not target.is_superuser
        assert target.groups.count() == 0
    bob.refresh_from_db()
    assert not bob.is_staff


def test_staff_cannot_touch_a_superuser(staff: Staff, sign_in: SignIn, root: User) -> None:
    client = sign_in(staff("view_user", "change_user"))
    passwords = {"password1": "a brand new one", "password2": "a brand new one"}
    form = {"usable_password": "true", "set-password": "1", **passwords}
    assert client.post(password_url(root), form).status_code == 403
    assert client.post(change_url(root), form_of(root, name="Nobody")).status_code == 403
    assert client.get(change_url(root)).status_code == 200


@pytest.mark.parametrize("active", [True, False])
def test_staff_cannot_take_over_an_account_with_more_rights(
    staff: Staff, sign_in: SignIn, alice: User, active: bool
) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=active)
    client = sign_in(staff("view_user", "change_user"))
    passwords = {"password1": "a brand new one", "password2": "a brand new one"}
    form = {"usable_password": "true", "set-password": "1", **passwords}
    assert client.post(password_url(alice), form).status_code == 403
    taken = form_of(alice, **new_email("mine@example.com"))
    assert client.post(change_url(alice), taken).status_code == 403


def test_staff_change_those_with_the_same_rights(staff: Staff, sign_in: SignIn, bob: User) -> None:
    client = sign_in(staff("view_user", "change_user", "create_personal_access_tokens"))
    assert client.post(change_url(bob), form_of(bob, name="Robert")).status_code == 302


def test_only_superusers_see_the_roles_to_change(
    staff: Staff, sign_in: SignIn, admins: Group
) -> None:
    clerk = staff("view_group", "change_group", "add_group", "delete_group")
    url = reverse("admin:auth_group_change", args=[admins.pk])
    assert sign_in(clerk).post(url, {"name": "admin", "permissions": []}).status_code == 403
    assert sign_in(clerk).get(reverse("admin:auth_group_add")).status_code == 403


def test_tokens_of_others_show_only_to_those_who_may_see_tokens(
    staff: Staff, sign_in: SignIn, alice_token: Any
) -> None:
    url = change_url(alice_token.user)
    part = alice_token.last_part
    assert part not in sign_in(staff("view_user")).get(url).content.decode()
    allowed = staff("view_user", "view_apitoken")
    page = sign_in(allowed).get(url).content.decode()
    assert part in page
    assert alice_token.token_hash not in page


def test_superusers_change_what_a_role_may_do(root_client: Client, admins: Group) -> None:
    url = reverse("admin:auth_group_change", args=[admins.pk])
    assert "Can run imports" in root_client.get(url).content.decode()
    form = {"name": "admin", "permissions": []}
    assert root_client.post(url, form).status_code == 302
    assert admins.permissions.count() == 0
