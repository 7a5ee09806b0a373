"""What an export may and may not do to accounts and rooms that are here already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from importops.actions.accounts import issue_token
from importops.engine.progress import counts, skip_reasons
from importops.models import ImportFailure, Message, Room, RoomImportId, User
from tests.exports import slack_messages, slack_room, slack_user, slack_zip
from tests.factories import PASSWORD, RoomFactory
from tests.journeys import adds_up, import_all

pytestmark = pytest.mark.django_db


def export_of(path: Path, **member: Any) -> Path:
    profile = {"real_name": "Evil", "email": "evil@example.com"}
    user = slack_user("U1", "ann", profile=profile, **member)
    return slack_zip(path, users=[user], channels=[slack_room("C1", "general", ["U1"])])


@pytest.fixture
def ann(tmp_path: Path, alice: User) -> User:
    path = tmp_path / "first.zip"
    channels = [slack_room("C1", "general", ["U1"])]
    import_all(slack_zip(path, users=[slack_user("U1", "ann")], channels=channels), alice)
    return User.objects.get(username="ann")


def test_an_unused_account_follows_the_export(ann: User, alice: User, tmp_path: Path) -> None:
    import_all(export_of(tmp_path / "next.zip", deleted=True), alice)
    ann.refresh_from_db()

    assert (ann.name, ann.is_active, ann.emails.count()) == ("Evil", False, 2)


def set_password(user: User) -> None:
    user.set_password(PASSWORD)
    user.save()


def make_staff(user: User) -> None:
    user.is_staff = True
    user.save()


def give_role(user: User) -> None:
    user.groups.add(user.groups.model.objects.get(name="admin"))


@pytest.mark.parametrize("put_to_use", [set_password, make_staff, give_role, issue_token])
def test_an_account_in_use_is_not_changed(
    put_to_use: Any, ann: User, alice: User, tmp_path: Path
) -> None:
    put_to_use(ann)
    import_all(export_of(tmp_path / "next.zip", deleted=True), alice)
    ann.refresh_from_db()

    assert (ann.name, ann.is_active, ann.emails.count()) == ("Ann", True, 1)


def test_who_was_shut_out_stays_out(ann: User, alice: User, tmp_path: Path) -> None:
    User.objects.filter(pk=ann.pk).update(is_active=False)
    import_all(export_of(tmp_path / "next.zip"), alice)
    ann.refresh_from_db()

    assert not ann.is_active


def private(path: Path) -> Path:
    return slack_zip(
        path,
        users=[slack_user("U1", "ann")],
        groups=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": slack_messages(2)}},
    )


def test_a_room_that_became_private_is_private_here_too(
    ann: User, alice: User, tmp_path: Path
) -> None:
    import_all(private(tmp_path / "next.zip"), alice)

    assert Room.objects.get().type == "p"


def test_nothing_private_goes_into_a_public_room_that_people_made(
    alice: User, tmp_path: Path
) -> None:
    room = RoomFactory.create(name="general", type="c")
    RoomImportId.objects.create(room=room, source="slack", import_id="C1")
    operation = import_all(private(tmp_path / "next.zip"), alice)

    assert not Message.objects.exists()
    assert counts(operation)["channels"]["failed"] == 1
    assert skip_reasons(operation.tally, "messages") == {"room-failed": 2}
    assert ImportFailure.objects.of(operation).get().code == "importer-channel-became-private"
    assert adds_up(operation)


def test_two_failures_in_very_long_folders_are_both_kept(alice: User, tmp_path: Path) -> None:
    folder = "x" * 1100
    path = slack_zip(
        tmp_path / "long.zip",
        users=[slack_user("U1", "ann")],
        messages={folder: {"2024-01-02": [1, 2, *slack_messages(1)]}},
    )
    operation = import_all(path, alice)

    assert counts(operation)["messages"]["failed"] == 2
    assert ImportFailure.objects.of(operation).count() == 2
