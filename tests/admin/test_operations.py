from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from importops.models import ImportFailure, ImportOperation, Phase, Status, User
from tests.admin.conftest import SignIn, Staff
from tests.exports import slack_message, slack_zip
from tests.factories import ImportFailureFactory, ImportOperationFactory
from tests.journeys import import_all

LIST = "admin:importops_importoperation_changelist"
TALLY = {
    "users.total": 5,
    "users.created": 2,
    "users.updated": 1,
    "users.skipped.deselected": 1,
    "users.failed": 1,
    "messages.total": 30,
    "messages.created": 21,
    "messages.skipped.subtype:bot_add": 9,
}


def change_url(operation: ImportOperation) -> str:
    return reverse("admin:importops_importoperation_change", args=[operation.pk])


def running(**fields: Any) -> ImportOperation:
    values = {"status": Status.IMPORTING_MESSAGES, "phase": Phase.MESSAGES}
    started = {"started_at": timezone.now() - timedelta(minutes=2), "tally": TALLY}
    return ImportOperationFactory.create(**values | started | fields)


def act(client: Client, operation: ImportOperation, action: str, **fields: str) -> Any:
    form = {"action": action, "_selected_action": [operation.pk], **fields}
    return client.post(reverse(LIST), form)


def test_the_list_tells_how_each_is_going(root_client: Client, alice: User) -> None:
    running(user=alice, file="export.zip")
    page = root_client.get(reverse(LIST)).content.decode()
    assert "importing messages" in page
    assert "by alice, took 0:02:00" in page
    assert "23 created, 1 updated, 10 skipped, 1 failed" in page


@pytest.mark.parametrize(
    ("fields", "badge"),
    [
        ({"status": Status.DONE, "tally": TALLY}, "done, with failures"),
        ({"status": Status.DONE, "tally": {}}, '<span class="importops-badge good">done'),
        ({"status": Status.FAILED}, '<span class="importops-badge bad">failed'),
        ({"cancel_requested_at": timezone.now()}, "cancelling"),
        ({"valid": False}, "replaced by a newer import"),
    ],
)
def test_the_badge_is_honest(root_client: Client, fields: dict[str, Any], badge: str) -> None:
    ImportOperationFactory.create(**{"started_at": timezone.now(), **fields})
    assert badge in root_client.get(reverse(LIST)).content.decode()


def test_the_list_costs_the_same_however_many_there_are(
    root_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    ImportOperationFactory.create_batch(20, tally=TALLY)
    with django_assert_max_num_queries(8):
        root_client.get(reverse(LIST))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"is": "importing"}, {"running"}),
        ({"is": "failed"}, {"broken"}),
        ({"is": "nonsense"}, {"running", "broken"}),
        ({"q": "brok"}, {"broken"}),
        ({"q": "OPERATION-ID"}, {"running"}),
        ({"importer_key": "csv"}, set()),
    ],
)
def test_filters_and_search(root_client: Client, query: dict[str, str], found: set[str]) -> None:
    running(file="running", public_id="operation-id")
    ImportOperationFactory.create(status=Status.FAILED, file="broken")
    response = root_client.get(reverse(LIST), query)
    assert {row.file for row in response.context["cl"].result_list} == found


def test_the_detail_reports_everything(root_client: Client) -> None:
    operation = running(notes=["An entry was ignored."], error="The disk is full.")
    ImportFailureFactory.create(operation=operation, message="The message has no time.")
    page = root_client.get(change_url(operation)).content.decode()
    for part in (
        "An entry was ignored.",
        "The disk is full.",
        "subtype:bot_add: 9",
        "deselected: 1",
        "The message has no time.",
        "No worker is running",
    ):
        assert part in page


def test_the_detail_shows_a_hundred_failures_and_where_the_others_are(
    root_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    operation = running()
    ImportFailureFactory.create_batch(105, operation=operation)
    with django_assert_max_num_queries(12):
        page = root_client.get(change_url(operation)).content.decode()
    assert len(re.findall(r"importfailure/\d+/change/", page)) == 100
    assert "Show all 105" in page


def test_cancelling_asks_first(root_client: Client) -> None:
    operation = running()
    page = act(root_client, operation, "cancel_selected").content.decode()
    operation.refresh_from_db()
    assert "Cancel these imports?" in page
    assert operation.cancel_requested_at is None
    act(root_client, operation, "cancel_selected", confirmed="yes")
    operation.refresh_from_db()
    assert operation.status == Status.CANCELLED


def test_a_cancelled_import_is_resumed(root_client: Client) -> None:
    operation = running(status=Status.CANCELLED, finished_at=timezone.now())
    act(root_client, operation, "resume_selected", confirmed="yes")
    operation.refresh_from_db()
    assert operation.state == "importing"


def test_what_cannot_be_done_is_explained(root_client: Client) -> None:
    operation = ImportOperationFactory.create(status=Status.DONE)
    response = act(root_client, operation, "cancel_selected", confirmed="yes")
    page = root_client.get(response.url).content.decode()
    assert "there is nothing to cancel" in page


def test_who_may_run_imports_gets_the_buttons(staff: Staff, sign_in: SignIn) -> None:
    operation = running()
    client = sign_in(staff("run_import"))
    assert "Cancel this import" in client.get(change_url(operation)).content.decode()
    act(client, operation, "cancel_selected", confirmed="yes")
    operation.refresh_from_db()
    assert operation.status == Status.CANCELLED
    assert "Resume this import" in client.get(change_url(operation)).content.decode()


def test_who_may_only_look_cannot_touch(staff: Staff, sign_in: SignIn) -> None:
    operation = running()
    client = sign_in(staff("view_importoperation"))
    page = client.get(change_url(operation)).content.decode()
    assert "Report" in page
    assert "Cancel this import" not in page
    assert "cancel_selected" not in client.get(reverse(LIST)).content.decode()
    act(client, operation, "cancel_selected", confirmed="yes")
    operation.refresh_from_db()
    assert operation.cancel_requested_at is None


def test_others_see_nothing(staff: Staff, sign_in: SignIn) -> None:
    operation = running()
    client = sign_in(staff("view_user"))
    assert client.get(reverse(LIST)).status_code == 403
    assert client.get(change_url(operation)).status_code == 403


def test_even_superusers_neither_add_nor_delete(root_client: Client) -> None:
    operation = running()
    name = "admin:importops_importoperation"
    assert root_client.get(reverse(f"{name}_add")).status_code == 403
    url = reverse(f"{name}_delete", args=[operation.pk])
    assert root_client.post(url, {"post": "yes"}).status_code == 403
    assert root_client.post(change_url(operation), {"type": "x"}).status_code == 403


def test_an_operation_that_is_not_there_leads_back(root_client: Client) -> None:
    url = reverse("admin:importops_importoperation_change", args=[12345])
    assert root_client.get(url).status_code == 302


def test_failures_are_counted_as_they_are_shown(root_client: Client) -> None:
    """A bad message is found twice, by preparing and by importing; it is one failure."""
    operation = running()
    for stage in ImportFailure.Stage:
        ImportFailureFactory.create(operation=operation, stage=stage, place="general[1]")
    page = root_client.get(change_url(operation)).content.decode()
    assert page.count(">general[1]<") == 1
    listed = root_client.get(reverse("admin:importops_importfailure_changelist"))
    assert len(listed.context["cl"].result_list) == 1


@pytest.mark.parametrize(
    ("selection", "text"),
    [
        ({}, "nothing yet"),
        ({"users": {"all": True}, "channels": {"list": []}}, "users: all; rooms: none"),
        ({"users": {"list": ["U1", "U2"]}}, "users: 2 chosen; rooms: none"),
        (
            {"since": "2024-01-01", "grantRoles": True},
            "since 2024-01-01; with the roles that the export asks for",
        ),
    ],
)
def test_the_detail_tells_what_was_chosen(
    root_client: Client, selection: dict[str, Any], text: str
) -> None:
    operation = running(selection=selection)
    assert text in root_client.get(change_url(operation)).content.decode()


def test_a_page_says_why_an_import_waits(root_client: Client, alice: User) -> None:
    operation = running(user=alice, paused_because="The disk is full.")
    assert (
        "The import waits: The disk is full."
        in root_client.get(change_url(operation)).content.decode()
    )

    operation.paused_because = ""
    operation.save()
    assert "The import waits" not in root_client.get(change_url(operation)).content.decode()


def test_what_failed_can_be_tried_again(root_client: Client, tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip", messages={"general": {"2024-01-02": [slack_message(ts="soon")]}}
    )
    operation = import_all(path, alice)
    assert "retry_selected" in root_client.get(change_url(operation)).content.decode()
    assert (
        "Try again what failed?" in act(root_client, operation, "retry_selected").content.decode()
    )
    act(root_client, operation, "retry_selected", confirmed="yes")
    operation.refresh_from_db()
    assert operation.phase == Phase.RETRY_USERS
    assert "retry_selected" not in root_client.get(change_url(operation)).content.decode()


def test_undo_asks_with_numbers_and_then_starts(root_client: Client, root: User) -> None:
    operation = ImportOperationFactory.create(
        status=Status.DONE,
        phase=Phase.NONE,
        started_at=timezone.now(),
        finished_at=timezone.now(),
        tally={"messages.created": 1234},
    )
    assert "Undo this import" in root_client.get(change_url(operation)).content.decode()
    question = act(root_client, operation, "undo_selected").content.decode()
    assert "at most 0 users, 0 rooms, 1,234 messages, 0 files" in question
    assert not operation.undone_by.exists()

    act(root_client, operation, "undo_selected", confirmed="yes")
    undo = operation.undone_by.get()
    assert (undo.status, undo.user) == (Status.IMPORTING_STARTED, root)
    again = act(root_client, operation, "undo_selected", confirmed="yes")
    page = root_client.get(again.url).content.decode()
    assert "has begun and is not finished" in page


def test_an_undo_shows_what_it_removed(root_client: Client, root: User) -> None:
    target = ImportOperationFactory.create(status=Status.DONE, rolled_back_at=timezone.now())
    undo = ImportOperationFactory.create(
        importer_key="rollback",
        type="Rollback",
        target=target,
        status=Status.DONE,
        tally={"messages.total": 77, "messages.removed": 77},
    )
    page = root_client.get(change_url(undo)).content.decode()
    assert "removed" in page
    assert "<td>77</td>" in page
    assert f"to take back Slack {target.public_id}" in page
    assert "Undo this import" not in page
    assert "taken back" in root_client.get(change_url(target)).content.decode()


def test_nobody_is_deleted_in_the_admin(root_client: Client, bob: User) -> None:
    """An import that is running may be about to write his messages: no constraint would stop it."""
    url = reverse("admin:importops_user_delete", args=[bob.pk])
    assert root_client.post(url, {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=bob.pk).exists()
    page = root_client.get(reverse("admin:importops_user_change", args=[bob.pk]))
    assert "Users are deactivated, never deleted" in page.content.decode()
