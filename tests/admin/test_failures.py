from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from importops.models import ImportFailure
from tests.admin.conftest import SignIn, Staff
from tests.factories import ImportFailureFactory

LIST = "admin:importops_importfailure_changelist"


def change_url(failure: ImportFailure) -> str:
    return reverse("admin:importops_importfailure_change", args=[failure.pk])


def places(client: Client, **query: str) -> set[str]:
    response = client.get(reverse(LIST), query)
    return {failure.place for failure in response.context["cl"].result_list}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"kind__exact": "user"}, {"users.json[3]"}),
        ({"code": "no-time"}, {"general/2024-01-02.json[17]"}),
        ({"q": "2024-01-02"}, {"general/2024-01-02.json[17]"}),
        ({"q": "U3"}, {"users.json[3]"}),
    ],
)
def test_filters_and_search(root_client: Client, query: dict[str, str], found: set[str]) -> None:
    ImportFailureFactory.create(place="general/2024-01-02.json[17]", code="no-time")
    ImportFailureFactory.create(place="users.json[3]", kind="user", import_id="U3")
    assert places(root_client, **query) == found


def test_a_list_of_one_operation(root_client: Client) -> None:
    one, _other = ImportFailureFactory.create_batch(2)
    assert places(root_client, operation__id__exact=str(one.operation_id)) == {one.place}


def test_the_record_is_shown_without_its_secrets(root_client: Client) -> None:
    raw = '{"url": "https://files.slack.com/a.pdf?t=xoxe-12-abc", "text": "<b>"}'
    failure = ImportFailureFactory.create(raw=raw)
    page = root_client.get(change_url(failure)).content.decode()
    assert "xox-REDACTED" in page
    assert "xoxe-12" not in page
    assert "&lt;b&gt;" in page


def test_what_was_said_is_not_for_everybody(staff: Staff, sign_in: SignIn) -> None:
    message = ImportFailureFactory.create(raw="between you and me")
    user = ImportFailureFactory.create(raw="a member", kind="user")
    client = sign_in(staff("view_importoperation"))
    page = client.get(change_url(message)).content.decode()
    assert "between you and me" not in page
    assert "Shown to those who may read private rooms" in page
    assert "a member" in client.get(change_url(user)).content.decode()
    trusted = sign_in(staff("view_importoperation", "view_private_messages"))
    assert "between you and me" in trusted.get(change_url(message)).content.decode()


def test_failures_are_for_looking_only(root_client: Client) -> None:
    failure = ImportFailureFactory.create()
    url = reverse("admin:importops_importfailure_delete", args=[failure.pk])
    assert root_client.post(url, {"post": "yes"}).status_code == 403
    assert root_client.post(change_url(failure), {"code": "x"}).status_code == 403


def test_others_see_nothing(staff: Staff, sign_in: SignIn) -> None:
    client = sign_in(staff("view_user"))
    assert client.get(reverse(LIST)).status_code == 403
