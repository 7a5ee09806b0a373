"""A Slack export from file to workspace."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from importops.engine.progress import counts, skip_reasons
from importops.models import (
    File,
    ImportFailure,
    Membership,
    Message,
    Room,
    Status,
    User,
    UserEmail,
    UserImportId,
)
from tests.canonical import canonical_dump
from tests.exports import (
    slack_dm,
    slack_file,
    slack_message,
    slack_messages,
    slack_room,
    slack_user,
    slack_zip,
)
from tests.factories import RoomFactory, UserEmailFactory, UserFactory
from tests.journeys import adds_up, import_all, prepare

pytestmark = pytest.mark.django_db


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "general", ["U1", "U2"])],
        messages={
            "general": {
                "2024-01-02": [
                    slack_message("hello <@U2>", "1704189600.000100"),
                    slack_message(
                        "again", "1704189600.000200", user="U2", files=[slack_file("F1")]
                    ),
                ]
            }
        },
    )


def test_it_brings_users_rooms_messages_and_files(export: Path, alice: User) -> None:
    operation = import_all(export, alice)

    assert operation.status == Status.DONE
    assert counts(operation)["users"] == {
        "total": 2,
        "created": 2,
        "updated": 0,
        "skipped": 0,
        "failed": 0,
    }
    assert counts(operation)["messages"]["created"] == 2
    assert counts(operation)["files"]["created"] == 1
    assert adds_up(operation)
    ann = User.objects.get(username="ann")
    assert ann.public_id == ann.public_id and len(ann.public_id) == 17
    assert [email.address for email in ann.emails.all()] == ["ann@example.com"]
    assert not ann.has_usable_password() and not ann.is_staff
    assert [group.name for group in ann.groups.all()] == ["user"]
    first, second = Message.objects.order_by("sent_at")
    assert first.text == "hello @ben"
    assert first.mentions == [{"username": "ben", "name": "ben", "type": "user"}]
    assert first.sent_at == datetime(2024, 1, 2, 10, 0, 0, 100, tzinfo=UTC)
    assert first.source_id == "1704189600.000100"
    assert second.author.username == "ben"
    assert File.objects.get().message == second
    assert set(Room.objects.get().memberships.values_list("user__username", flat=True)) == {
        "ann",
        "ben",
    }


def test_every_row_knows_the_operation_that_made_it(export: Path, alice: User) -> None:
    operation = import_all(export, alice)

    for model in (UserEmail, UserImportId, Room, Membership, Message, File):
        assert {row.operation for row in model.objects.all()} == {operation}
    assert alice.operation is None


def test_the_same_export_twice_changes_nothing(export: Path, alice: User) -> None:
    import_all(export, alice)
    before = canonical_dump()
    again = import_all(export, alice)

    assert canonical_dump() == before
    assert adds_up(again)
    assert {name: kind["created"] + kind["updated"] for name, kind in counts(again).items()} == {
        "users": 0,
        "channels": 0,
        "messages": 0,
        "files": 0,
    }
    assert skip_reasons(again.tally, "messages") == {"unchanged": 2}
    assert "Nothing was created or changed by this import." in again.notes


def test_a_grown_export_brings_only_what_is_new(tmp_path: Path, alice: User) -> None:
    users, channels = [slack_user("U1", "ann")], [slack_room("C1", "general", ["U1"])]
    day = slack_messages(3)
    old = slack_zip(
        tmp_path / "old.zip",
        users=users,
        channels=channels,
        messages={"general": {"2024-01-02": day}},
    )
    edited = {**day[0], "text": "better", "edited": {"user": "U1", "ts": "1704200000.000000"}}
    liked = {**day[1], "reactions": [{"name": "tada", "users": ["U1"], "count": 1}]}
    new = slack_zip(
        tmp_path / "new.zip",
        users=users,
        channels=channels,
        messages={
            "general": {
                "2024-01-02": [edited, liked, day[2]],
                "2024-01-09": [slack_message("later", "1704794400.000100")],
            }
        },
    )
    import_all(old, alice)
    operation = import_all(new, alice)

    assert counts(operation)["messages"] == {
        "total": 4,
        "created": 1,
        "updated": 2,
        "skipped": 1,
        "failed": 0,
    }
    first, second = Message.objects.order_by("sent_at")[:2]
    assert (first.text, first.edited_by) == ("better", "ann")
    assert second.reactions == {":tada:": {"usernames": ["ann"]}}
    # And the old export again does not undo what the newer one knew.
    before = canonical_dump()
    import_all(old, alice)
    assert canonical_dump() == before


def test_a_bad_record_fails_alone_and_is_kept_with_its_place(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={
            "general": {"2024-01-02": [slack_message("ok"), 17, slack_message("bad", "soon")]}
        },
    )
    operation = import_all(path, alice)

    assert operation.status == Status.DONE
    assert counts(operation)["messages"] == {
        "total": 3,
        "created": 1,
        "updated": 0,
        "skipped": 0,
        "failed": 2,
    }
    failures = ImportFailure.objects.of(operation)
    assert [failure.place for failure in failures] == [
        "general/2024-01-02.json[1]",
        "general/2024-01-02.json[2]",
    ]
    assert failures[1].code == "importer-message-invalid-timestamp"
    assert "soon" in failures[1].raw


def test_problems_are_known_before_the_start(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        messages={"general": {"2024-01-02": [slack_message("bad", "soon")]}},
    )
    operation = prepare(path, alice)

    assert operation.status == Status.USER_SELECTION
    assert operation.tally["problems"] == 1
    assert ImportFailure.objects.of(operation).get().stage == "preparing"
    assert not Message.objects.exists() and not Room.objects.exists()


def test_an_author_outside_the_member_list_becomes_a_placeholder(
    tmp_path: Path, alice: User
) -> None:
    profile = {"name": "gina", "real_name": "Gina Guest"}
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={
            "general": {"2024-01-02": [slack_message("hi", user="W9", user_profile=profile)]}
        },
    )
    operation = import_all(path, alice)

    gina = Message.objects.get().author
    assert (gina.username, gina.name, gina.is_placeholder, gina.is_active) == (
        "gina",
        "Gina Guest",
        True,
        False,
    )
    assert operation.tally["placeholders"] == 1
    assert adds_up(operation)


def test_a_later_import_turns_the_placeholder_into_the_person(export: Path, alice: User) -> None:
    nobody = {"users": {"list": []}, "channels": {"all": True}}
    import_all(export, alice, nobody)
    placeholder = User.objects.get(username="ann")
    assert placeholder.is_placeholder
    operation = import_all(export, alice)

    ann = User.objects.get(username="ann")
    assert (ann.pk, ann.is_placeholder, ann.is_active) == (placeholder.pk, False, True)
    assert [email.address for email in ann.emails.all()] == ["ann@example.com"]
    assert counts(operation)["users"]["updated"] == 2


def test_what_was_not_chosen_is_skipped_and_counted(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "one", ["U1"]), slack_room("C2", "two", ["U1"])],
        dms=[slack_dm("D1", ["U1", "U2"])],
        messages={
            "one": {"2024-01-02": slack_messages(2)},
            "two": {"2024-01-02": slack_messages(3)},
            "D1": {"2024-01-02": slack_messages(4)},
        },
    )
    operation = import_all(path, alice, {"users": {"list": ["U1"]}, "channels": {"list": ["C1"]}})

    assert skip_reasons(operation.tally, "messages") == {"deselected": 7}
    assert skip_reasons(operation.tally, "users") == {"deselected": 1}
    assert skip_reasons(operation.tally, "channels") == {"deselected": 2}
    assert list(Room.objects.values_list("name", flat=True)) == ["one"]
    assert not User.objects.filter(username="ben").exists()
    assert adds_up(operation)


def test_direct_rooms_are_chosen_by_one_name(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "one", ["U1"])],
        dms=[slack_dm("D1", ["U1", "U2"]), slack_dm("D2", ["U1"])],
        messages={"D1": {"2024-01-02": slack_messages(4)}},
    )
    import_all(path, alice, {"users": {"all": True}, "channels": {"list": ["__directMessages__"]}})

    assert list(Room.objects.values_list("type", flat=True)) == ["d", "d"]
    assert Message.objects.count() == 4


def test_dates_bound_what_is_imported(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "one", ["U1"])],
        messages={
            "one": {
                "2024-01-01": [slack_message("early", "1704067199.000000")],
                "2024-01-02": [slack_message("in", "1704189600.000000")],
                "2024-01-03": [slack_message("late", "1704240000.000000")],
            }
        },
    )
    selection = {
        "users": {"all": True},
        "channels": {"all": True},
        "since": "2024-01-01",
        "until": "2024-01-02",
    }
    operation = import_all(path, alice, selection)

    assert [message.text for message in Message.objects.all()] == ["in"]
    assert skip_reasons(operation.tally, "messages") == {"outside-dates": 2}
    assert adds_up(operation)


def test_an_account_that_people_made_is_not_taken_over(export: Path, alice: User) -> None:
    ann = UserFactory.create(username="Annie", name="Annie", groups=["admin"], is_staff=True)
    UserEmailFactory.create(user=ann, address="ANN@example.com")
    password = ann.password
    import_all(export, alice)

    ann.refresh_from_db()
    assert (ann.username, ann.name, ann.password, ann.is_staff) == (
        "Annie",
        "Annie",
        password,
        True,
    )
    assert [group.name for group in ann.groups.all()] == ["admin"]
    assert [email.address for email in ann.emails.all()] == ["ANN@example.com"]
    assert ann.import_ids.get().import_id == "U1"
    assert ann.utc_offset == 1.0  # it was empty
    assert Message.objects.get(text="hello @ben").author == ann


def test_a_taken_username_gets_a_free_one_and_a_note(export: Path, alice: User) -> None:
    other = UserFactory.create(username="Ann")
    UserEmailFactory.create(user=other, address="someone.else@example.com")
    operation = import_all(export, alice)

    assert User.objects.get(import_ids__import_id="U1").username == "ann-1"
    assert "ann is taken" in operation.staged.get(import_id="U1").note


def test_a_private_room_never_merges_into_a_public_namesake(tmp_path: Path, alice: User) -> None:
    RoomFactory.create(name="plans", type="c")
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        groups=[slack_room("G1", "plans", ["U1"])],
        messages={"plans": {"2024-01-02": slack_messages(1)}},
    )
    import_all(path, alice)

    assert {(room.name, room.type) for room in Room.objects.all()} == {
        ("plans", "c"),
        ("plans-1", "p"),
    }
    assert Message.objects.get().room.type == "p"


def test_an_existing_room_gains_members_and_messages(tmp_path: Path, alice: User) -> None:
    room = RoomFactory.create(name="general", type="c")
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": slack_messages(2)}},
    )
    operation = import_all(path, alice)

    assert room.messages.count() == 2
    assert room.memberships.count() == 1
    assert counts(operation)["channels"]["updated"] == 1


def test_a_large_room_is_filled_in_several_batches(tmp_path: Path, alice: User) -> None:
    members = [f"U{n}" for n in range(2500)]
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user(member, member.lower()) for member in members],
        channels=[slack_room("C1", "general", members)],
    )
    operation = import_all(path, alice)

    assert Room.objects.get().memberships.count() == 2500
    assert counts(operation)["channels"]["created"] == 1


def test_the_same_message_twice_in_one_export_is_a_duplicate(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={
            "general": {
                "2024-01-02": slack_messages(2) + slack_messages(1),
                "2024-01-03": slack_messages(1),
            }
        },
    )
    operation = import_all(path, alice)

    assert skip_reasons(operation.tally, "messages") == {"duplicate": 2}
    assert Message.objects.count() == 2
    assert adds_up(operation)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_what_is_no_export_fails_with_a_sentence(
    content: bytes, tmp_path: Path, alice: User
) -> None:
    path = tmp_path / "export.zip"
    path.write_bytes(content)
    operation = prepare(path, alice)

    assert operation.status == Status.FAILED
    assert operation.error.endswith(".") and operation.error_code.startswith("error-import-file")


def test_times_are_stored_as_django_stores_them(export: Path, alice: User) -> None:
    import_all(export, alice)
    moment = datetime(2024, 1, 2, 10, 0, 0, 100, tzinfo=UTC)

    assert Message.objects.filter(sent_at=moment).count() == 1
    assert Message.objects.filter(sent_at__gt=moment).count() == 1
