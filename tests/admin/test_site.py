from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from importops import models
from importops.models import User
from tests.admin.conftest import SignIn
from tests.factories import (
    PASSWORD,
    ApiTokenFactory,
    ImportFailureFactory,
    ImportOperationFactory,
    MessageFactory,
    UserFactory,
)

OURS = [
    models.User,
    models.ApiToken,
    models.ImportOperation,
    models.ImportFailure,
    models.Room,
    models.Message,
    models.File,
]


@pytest.fixture
def something(db: None) -> None:
    message = MessageFactory.create()
    models.File.objects.create(message=message, source_id="F1", name="plan.pdf")
    ImportFailureFactory.create(operation=ImportOperationFactory.create())
    ApiTokenFactory.create()


@pytest.mark.parametrize("model", OURS)
def test_every_list_opens_and_searches(root_client: Client, something: None, model: Any) -> None:
    url = reverse(f"admin:importops_{model._meta.model_name}_changelist")
    assert root_client.get(url).status_code == 200
    assert root_client.get(url, {"q": "a( %"}).status_code == 200


@pytest.mark.parametrize("model", OURS)
def test_every_row_opens(root_client: Client, something: None, model: Any) -> None:
    row = model.objects.first()
    url = reverse(f"admin:importops_{model._meta.model_name}_change", args=[row.pk])
    assert root_client.get(url).status_code == 200


@pytest.mark.parametrize("model", OURS)
def test_no_page_needs_inline_script_or_style(
    root_client: Client, something: None, model: Any
) -> None:
    name = model._meta.model_name
    urls = [
        reverse(f"admin:importops_{name}_changelist"),
        reverse(f"admin:importops_{name}_change", args=[model.objects.first().pk]),
    ]
    for url in urls:
        response = root_client.get(url)
        html = response.content.decode()
        assert "default-src 'self'" in response["Content-Security-Policy"]
        assert not re.search(r"<[^>]+\sstyle=|<style|<script(?![^>]*\bsrc=)[^>]*>\s*\S", html)


def test_it_says_whose_site_it_is(root_client: Client) -> None:
    assert b"importops" in root_client.get(reverse("admin:index")).content


def test_members_without_staff_rights_stay_outside(bob: User, sign_in: SignIn) -> None:
    response = sign_in(bob).get(reverse("admin:index"))
    assert response.status_code == 302


def test_signing_in_ignores_the_case_of_the_name(db: None) -> None:
    UserFactory.create(username="Žofie", is_staff=True)
    response = Client().post(reverse("admin:login"), {"username": "žOFIE", "password": PASSWORD})
    assert response.status_code == 302


def test_every_model_of_ours_can_only_be_changed_where_it_should() -> None:
    editable = {
        model.__name__
        for model, model_admin in admin.site._registry.items()
        if model in OURS
        and type(model_admin).__mro__[1].__name__ != "LookOnlyAdmin"
        and "LookOnlyAdmin" not in [base.__name__ for base in type(model_admin).__mro__]
    }
    assert editable == {"User", "ApiToken"}
