from __future__ import annotations

from typing import Any

from django.test import Client
from django.urls import reverse

from importops.models import ImportOperation, User
from tests.admin.conftest import SignIn, Staff
from tests.factories import UserFactory

LIST = "admin:importops_user_changelist"


def merge(client: Client, *users: User, **fields: Any) -> Any:
    form = {"action": "merge_selected", "_selected_action": [user.pk for user in users], **fields}
    return client.post(reverse(LIST), form, follow=True)


def test_it_asks_who_stays_and_then_begins(root_client: Client, root: User, bob: User) -> None:
    ghost = UserFactory.create(username="ghost", is_placeholder=True)
    question = merge(root_client, ghost, bob).content.decode()
    assert "Who of the two stays?" in question
    assert not ImportOperation.objects.exists()

    page = merge(root_client, ghost, bob, into=bob.pk).content.decode()
    operation = ImportOperation.objects.get()
    assert operation.user == root
    assert operation.selection["names"] == ["ghost", "bob"]
    assert "Merging ghost into bob" in page
    assert reverse("admin:importops_importoperation_change", args=[operation.pk]) in page


def test_what_must_not_be_merged_is_said(root_client: Client, root: User, bob: User) -> None:
    assert "Choose exactly two users" in merge(root_client, bob).content.decode()
    ghost = UserFactory.create(username="ghost", is_placeholder=True)
    page = merge(root_client, ghost, bob, into=ghost.pk).content.decode()
    assert "the other way round" in page
    assert not ImportOperation.objects.exists()


def test_it_is_not_for_those_who_may_not_run_imports(
    staff: Staff, sign_in: SignIn, bob: User
) -> None:
    client = sign_in(staff("view_user", "change_user"))
    merge(client, UserFactory.create(), bob, into=bob.pk)
    assert not ImportOperation.objects.exists()


def test_nobody_merges_away_who_has_more_rights(
    staff: Staff, sign_in: SignIn, root: User, bob: User
) -> None:
    client = sign_in(staff("view_user", "change_user", "run_import"))
    page = merge(client, root, bob, into=bob.pk).content.decode()
    assert "You may not change both of them" in page
    assert not ImportOperation.objects.exists()
