"""Two users become one, with everything that one wrote, is in and is called."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from importops.actions.accounts import issue_token
from importops.actions.undoing import merge_users
from importops.engine.progress import counts
from importops.engine.running import run_operation
from importops.errors import OperationInProgress, UsersNotMergeable, WorkerStopping
from importops.models import (
    File,
    ImportOperation,
    Membership,
    Message,
    Room,
    RoomImportId,
    Status,
    User,
    UserEmail,
    UserImportId,
)
from tests.canonical import canonical_dump
from tests.exports import (
    slack_dm,
    slack_message,
    slack_room,
    slack_user,
    slack_zip,
)
from tests.factories import (
    ImportOperationFactory,
    MembershipFactory,
    MessageFactory,
    RoomFactory,
    UserEmailFactory,
    UserFactory,
)
from tests.journeys import adds_up, import_all

pytestmark = pytest.mark.django_db


def merge(duplicate: User, into: User, user: User, **options: Any) -> ImportOperation:
    operation = merge_users(duplicate, into, user, queue=False, **options)
    run_operation(operation)
    assert operation.status == Status.DONE, operation.error
    assert adds_up(operation), operation.tally
    return operation


def direct_room(*members: User) -> Room:
    room = RoomFactory.create(
        type="d", name="", direct_key=Room.direct_key_of(user.pk for user in members)
    )
    for user in members:
        MembershipFactory.create(room=room, user=user)
    return room


@pytest.fixture
def ghost(db: None) -> User:
    return UserFactory.create(
        username="ghost", is_placeholder=True, is_active=False, password="!none"
    )


def test_a_placeholder_becomes_the_person_who_has_an_account(
    alice: User, bob: User, tmp_path: Path
) -> None:
    """The whole way: an import makes a placeholder, and finds the person by the same id afterwards."""
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        dms=[slack_dm("D1", ["U1", "U404"])],
        messages={
            "general": {
                "2024-01-02": [
                    slack_message("mine", "1704189600.000100", user="U404"),
                    slack_message("<@U404> come", "1704189601.000100"),
                    slack_message(
                        "look",
                        "1704189602.000100",
                        reactions=[{"name": "eyes", "users": ["U404", "U1"], "count": 2}],
                        edited={"user": "U404", "ts": "1704189603.000000"},
                    ),
                ]
            }
        },
    )
    import_all(path, alice)
    ghost = UserImportId.objects.get(import_id="U404").user
    operation = merge(ghost, bob, alice)

    assert not User.objects.filter(pk=ghost.pk).exists()
    mine, mention, reaction = Message.objects.order_by("source_id")
    assert mine.author == bob
    assert mention.text == "@bob come"
    assert mention.mentions == [{"username": "bob", "name": "bob", "type": "user"}]
    assert reaction.reactions == {":eyes:": {"usernames": ["ann", "bob"]}}
    assert reaction.edited_by == "bob"
    direct = Room.objects.get(type="d")
    assert set(direct.memberships.values_list("user__username", flat=True)) == {"ann", "bob"}
    ann = User.objects.get(username="ann")
    assert direct.direct_key == Room.direct_key_of([ann.pk, bob.pk])
    assert counts(operation)["messages"]["updated"] == 3
    assert operation.notes == [f"{ghost} was removed."]

    again = import_all(path, alice)
    assert not any(kind["created"] or kind["updated"] for kind in counts(again).values())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("@ghost.", "@bob."),
        ("hi@ghost, and @ghost", "hi@bob, and @bob"),
        ("@ghost-1 @ghostly @ghost.lee @ghost", "@ghost-1 @ghostly @ghost.lee @bob"),
    ],
)
def test_only_whole_names_are_rewritten_in_texts(
    before: str, after: str, alice: User, bob: User, ghost: User
) -> None:
    mention = {"username": "ghost", "name": "ghost", "type": "user"}
    message = MessageFactory.create(text=before, mentions=[mention], author=bob)
    unmentioned = MessageFactory.create(text="@ghost", author=bob, room=message.room)
    merge(ghost, bob, alice)
    message.refresh_from_db()
    unmentioned.refresh_from_db()

    assert message.text == after
    assert unmentioned.text == "@ghost"


def test_a_name_beyond_ascii_is_found(alice: User, bob: User) -> None:
    ghost = UserFactory.create(username="jürgen", is_placeholder=True)
    message = MessageFactory.create(
        author=bob, reactions={":+1:": {"usernames": ["bob", "jürgen"]}}
    )
    merge(ghost, bob, alice)
    message.refresh_from_db()
    assert message.reactions == {":+1:": {"usernames": ["bob"]}}


def test_rooms_are_united(alice: User, bob: User, ghost: User) -> None:
    both, only = RoomFactory.create(creator=ghost), RoomFactory.create()
    for room, user in [(both, bob), (both, ghost), (only, ghost)]:
        MembershipFactory.create(room=room, user=user)
    merge(ghost, bob, alice)

    assert Membership.objects.filter(user=bob).count() == 2
    assert Membership.objects.count() == 2
    both.refresh_from_db()
    assert both.creator == bob


def test_two_direct_rooms_become_one(alice: User, bob: User, ghost: User) -> None:
    stays, goes = direct_room(alice, bob), direct_room(alice, ghost)
    RoomImportId.objects.create(room=goes, source="slack", import_id="D9")
    kept = MessageFactory.create(
        room=stays, author=alice, source_id="1", reactions={":+1:": {"usernames": ["bob"]}}
    )
    twice = MessageFactory.create(
        room=goes,
        author=alice,
        source_id="1",
        text="edited",
        edited_at=timezone.now(),
        reactions={":+1:": {"usernames": ["alice"]}},
    )
    MessageFactory.create(room=goes, author=ghost, source_id="2")
    File.objects.create(message=kept, source_id="F1")
    copy = File.objects.create(message=twice, source_id="F1")
    copy.content.save("copy.pdf", ContentFile(b"%PDF"))
    ghost.avatar.save("ghost.png", ContentFile(b"PNG"))
    File.objects.create(message=twice, source_id="F2")
    operation = merge(ghost, bob, alice)

    assert Room.objects.get() == stays
    assert counts(operation)["files"]["removed"] == 2
    assert operation.notes == ["ghost was removed."]
    assert not default_storage.exists(copy.content.name)
    assert not default_storage.exists(ghost.avatar.name)
    assert list(stays.messages.order_by("source_id").values_list("source_id", "author")) == [
        ("1", alice.pk),
        ("2", bob.pk),
    ]
    kept.refresh_from_db()
    assert kept.text == "edited"
    assert kept.reactions == {":+1:": {"usernames": ["alice", "bob"]}}
    assert set(kept.files.values_list("source_id", flat=True)) == {"F1", "F2"}
    assert stays.import_ids.get().import_id == "D9"
    assert set(stays.memberships.values_list("user", flat=True)) == {alice.pk, bob.pk}


def test_what_they_said_to_each_other_becomes_notes_to_oneself(
    alice: User, bob: User, ghost: User
) -> None:
    room = direct_room(bob, ghost)
    merge(ghost, bob, alice)
    room.refresh_from_db()

    assert room.memberships.get().user == bob
    assert room.direct_key == Room.direct_key_of([bob.pk])


def test_addresses_stay_unless_they_can_do_no_harm_or_are_asked_for(alice: User, bob: User) -> None:
    left = UserEmailFactory.create(user=UserFactory.create(username="left"))
    operation = merge(left.user, bob, alice)
    left.refresh_from_db()
    assert (left.user.username, left.user.is_active) == ("left", False)
    assert left.address in operation.notes[0]
    assert "deactivated" in operation.notes[1]
    assert counts(operation)["users"]["updated"] == 1

    merge(left.user, bob, alice, move_emails=True)
    assert UserEmail.objects.get().user == bob
    assert not User.objects.filter(username="left").exists()

    unused = UserFactory.create(password="!none", operation=ImportOperationFactory.create())
    moved = UserEmailFactory.create()
    merge(moved.user, unused, alice)
    moved.refresh_from_db()
    assert moved.user == unused


def test_who_ran_imports_is_deactivated_and_said(alice: User, bob: User) -> None:
    gone = UserFactory.create(username="gone")
    ImportOperationFactory.create(user=gone)
    operation = merge(gone, bob, alice)
    gone.refresh_from_db()

    assert not gone.is_active
    assert "import operations" in operation.notes[-1]


def test_it_refuses_who_must_not_go(alice: User, bob: User, ghost: User) -> None:
    bot = User.objects.get(public_id="rocket.cat")
    seen = UserFactory.create(last_login=timezone.now())
    token = UserFactory.create()
    issue_token(token)
    root = UserFactory.create(is_superuser=True)
    for duplicate, into, user in [
        (bob, bob, alice),
        (bot, bob, alice),
        (alice, bob, alice),
        (bob, ghost, alice),
        (seen, bob, alice),
        (token, bob, alice),
        (UserFactory.create(is_staff=True), bob, alice),
        (root, bob, alice),
    ]:
        with pytest.raises(UsersNotMergeable):
            merge_users(duplicate, into, user)
    with pytest.raises(UsersNotMergeable):
        merge_users(root, bob, alice, force=True)

    operation = merge(token, bob, alice, force=True)
    assert operation.notes[0] == f"1 API tokens of {token} were revoked."
    ImportOperationFactory.create(status=Status.IMPORTING_USERS)
    with pytest.raises(OperationInProgress):
        merge_users(ghost, bob, alice)


def test_a_deactivation_is_counted_once_however_often_it_is_stopped(alice: User, bob: User) -> None:
    left = UserEmailFactory.create(user=UserFactory.create(username="left")).user
    operation = merge_users(left, bob, alice, queue=False)
    for _ in range(20):
        answers = iter([False, True])
        with contextlib.suppress(WorkerStopping):
            run_operation(operation, stop=lambda: next(answers, True))  # noqa: B023
            break

    assert operation.status == Status.DONE
    assert adds_up(operation)
    assert counts(operation)["users"] | {"total": 1, "updated": 1} == counts(operation)["users"]
    assert len(operation.notes) == 2


def test_stopping_after_every_batch_ends_alike(alice: User, bob: User, ghost: User) -> None:
    for number in range(60):
        message = MessageFactory.create(author=ghost, room=direct_room(ghost, UserFactory.create()))
        if number % 3 == 0:
            other = message.room.memberships.exclude(user=ghost).get().user
            MessageFactory.create(
                author=other, room=direct_room(bob, other), source_id=message.source_id
            )
    operation = merge_users(ghost, bob, alice, queue=False)
    rounds = 0
    while True:
        answers = iter([False, True])
        try:
            run_operation(operation, stop=lambda: next(answers, True))  # noqa: B023
        except WorkerStopping:
            rounds += 1
            continue
        break

    assert rounds > 20
    assert adds_up(operation), operation.tally
    assert Room.objects.count() == 60
    assert Message.objects.filter(author=bob).count() == 40
    assert not [line for line in canonical_dump() if "ghost" in line]
    assert len(operation.notes) == 1
