from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from importops.errors import EmptyExport, NotAnArchive, WrongFormat
from importops.records import RoomRecord
from tests.exports import slack_dm, slack_message, slack_room, slack_user, slack_zip
from tests.importers.slack_reading import Read, opened, read_export

DAY = {"2024-01-02": [slack_message()]}


def read(tmp_path: Path, **files: Any) -> Read:
    return read_export(slack_zip(tmp_path / "export.zip", **files))


def room(tmp_path: Path, **files: Any) -> RoomRecord:
    (record,) = read(tmp_path, **files).rooms
    return record


def test_a_user_has_what_slack_knows(tmp_path: Path) -> None:
    profile = {
        "real_name": "Ann Lee",
        "status_text": "at lunch &amp; back",
        "title": "CTO",
        "image_original": "https://a.example/o.png",
        "image_512": "https://a.example/512.png",
    }
    (user,) = read(
        tmp_path,
        users=[slack_user("U1", "ann", tz_offset=20700, deleted=True, profile=profile)],
    ).users
    assert user.import_ids == ["U1"]
    assert (user.username, user.name, user.emails) == ("ann", "Ann Lee", ["ann@example.com"])
    assert (user.type, user.roles, user.deleted) == ("user", [], True)
    assert (user.status_text, user.bio, user.utc_offset) == ("at lunch & back", "CTO", 5.75)
    assert user.avatar_url == "https://a.example/o.png"
    assert user.place == "users.json[0]"


def test_a_bot_is_a_bot(tmp_path: Path) -> None:
    (user,) = read(tmp_path, users=[slack_user("U1", "deploy", is_bot=True)]).users
    assert (user.type, user.roles) == ("bot", ["bot"])


@pytest.mark.parametrize(
    ("member", "username"),
    [
        ({"id": "U1", "profile": {"display_name": "Annie", "email": "a@b.c"}}, "Annie"),
        ({"id": "U1", "name": None, "profile": {"email": "lee@b.c"}}, "lee"),
        ({"id": "U1", "name": 5, "profile": None}, "U1"),
        ({"id": "U1"}, "U1"),
    ],
)
def test_a_user_without_username_gets_one(
    tmp_path: Path, member: dict[str, Any], username: str
) -> None:
    assert read(tmp_path, users=[member]).users[0].username == username


def test_the_largest_avatar_counts_if_the_usual_ones_are_missing(tmp_path: Path) -> None:
    profile = {"image_72": "https://a/72", "image_192": "https://a/192", "image_24": "x"}
    (user,) = read(tmp_path, users=[slack_user("U1", "ann", profile=profile)]).users
    assert user.avatar_url == "https://a/192"


def test_slackbot_is_no_user(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        users=[slack_user("USLACKBOT", "slackbot"), slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["USLACKBOT", "U1", "U1"])],
    )
    assert [user.username for user in found.users] == ["ann"]
    assert found.rooms[0].members == ["rocket.cat", "U1"]
    assert found.rooms[0].creator == "rocket.cat"


def test_bad_users_are_kept_with_their_place(tmp_path: Path) -> None:
    found = read(tmp_path, users=[slack_user("U1", "ann"), "x", {"name": "y"}, None])
    assert [user.username for user in found.users] == ["ann"]
    assert [bad.place for bad in found.bad] == [f"users.json[{i}]" for i in (1, 2, 3)]
    assert {bad.kind for bad in found.bad} == {"user"}
    assert found.bad[1].raw == '{"name": "y"}'


def test_users_of_the_whole_organisation_count_too(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        users=[slack_user("U1", "ann"), slack_user("U1", "ann-again")],
        extra={"org_users.json": [slack_user("U2", "bob"), slack_user("U1", "other")]},
    )
    # A duplicate in one file is given, for the engine to count as such.
    assert [user.username for user in found.users] == ["ann", "ann-again", "bob"]


def test_users_json_may_be_missing(tmp_path: Path) -> None:
    found = read(tmp_path, extra={"org_users.json": [slack_user("U2", "bob")]})
    assert [user.username for user in found.users] == ["bob"]


def test_rooms_have_their_kinds(tmp_path: Path) -> None:
    many = [f"U{i}" for i in range(9)]
    found = read(
        tmp_path,
        channels=[slack_room("C1", "general", ["U1"], is_general=True, is_archived=True)],
        groups=[slack_room("G1", "secret", ["U1"])],
        mpims=[slack_room("G2", "mpdm-a--b-1", ["U1", "U2"]), slack_room("G3", "mpdm-x-1", many)],
        dms=[slack_dm("D1", ["U1", "U2"]), slack_dm("D2", ["U1"]), {"id": "D3"}],
        messages={"general": DAY, "mpdm-a--b-1": DAY, "D1": DAY},
    )
    kinds = {room.import_ids[0]: room.type for room in found.rooms}
    assert kinds == {
        "C1": "c",
        "G1": "p",
        "G2": "d",
        "G3": "p",
        "D1": "d",
        "D2": "d",
        "D3": "d",
    }
    general = found.rooms[0]
    assert (general.is_default, general.archived, general.creator) == (True, True, "U1")
    assert general.created_at == 1_600_000_000_000_000
    folders = [room.folder for room in found.rooms]
    assert folders == ["general", "", "mpdm-a--b-1", "", "D1", "", ""]


def test_topic_and_purpose_are_converted(tmp_path: Path) -> None:
    found = room(
        tmp_path,
        channels=[
            slack_room(
                "C1",
                "general",
                [],
                topic={"value": "a &amp; b <https://x.example|x>"},
                purpose="plain",
            )
        ],
    )
    assert found.topic == "a & b [x](https://x.example)"
    assert found.description == "plain"


@pytest.mark.parametrize("missing", [{}, {"creator": None, "members": None, "topic": None}])
def test_a_room_may_lack_nearly_everything(tmp_path: Path, missing: dict[str, Any]) -> None:
    found = room(tmp_path, channels=[{"id": "C1", "name": "general", **missing}])
    assert (found.name, found.creator, found.members) == ("general", "", [])


def test_flags_tell_the_kind_where_one_file_has_all_rooms(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        channels=[
            slack_room("C1", "a", ["U1"], is_private=True),
            slack_room("C2", "b", ["U1"], is_mpim=True, is_private=True),
            slack_room("D3", "", ["U1"], is_im=True),
        ],
    )
    assert [room.type for room in found.rooms] == ["p", "d", "d"]


@pytest.mark.parametrize(
    "folder",
    ["general", "C0ABCDEF1", "general-C0ABCDEF1", "Général (C0ABCDEF1)", "GENERAL"],
)
def test_a_folder_is_found_by_name_and_by_id(tmp_path: Path, folder: str) -> None:
    channels = [slack_room("C0ABCDEF1", "general", [])]
    assert room(tmp_path, channels=channels, messages={folder: DAY}).folder == folder


def test_a_folder_is_found_in_another_unicode_form(tmp_path: Path) -> None:
    channels = [slack_room("C1", "caf\u00e9", [])]
    found = room(tmp_path, channels=channels, messages={"cafe\u0301": DAY})
    assert found.folder == "cafe\u0301"


def test_an_exact_name_wins_over_a_similar_one(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        channels=[slack_room("C1", "general", [])],
        messages={"General": DAY, "general": DAY},
    )
    assert [(r.import_ids[0], r.folder) for r in found.rooms] == [
        ("C1", "general"),
        ("General", "General"),
    ]


def test_of_two_rooms_with_one_name_the_first_has_the_folder(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        channels=[slack_room("C1", "ops", []), slack_room("C2", "ops", [])],
        groups=[slack_room("G1", "ops", [])],
        messages={"ops": DAY, "G1": DAY},
    )
    assert [room.folder for room in found.rooms] == ["ops", "", "G1"]


def test_a_folder_without_a_room_becomes_one(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        messages={"lost": DAY, "D0ABCDEF1": DAY, "mpdm-a--b-1": DAY, "FC:F1:Plan": DAY},
    )
    rooms = {room.import_ids[0]: (room.type, room.place) for room in found.rooms}
    assert rooms == {
        "D0ABCDEF1": ("d", "D0ABCDEF1/"),
        "FC:F1:Plan": ("p", "FC:F1:Plan/"),
        "lost": ("c", "lost/"),
        "mpdm-a--b-1": ("p", "mpdm-a--b-1/"),
    }


def test_rooms_come_from_their_folders_when_their_list_is_broken(tmp_path: Path) -> None:
    found = read(tmp_path, channels=b'[{"id": "C1", "name', messages={"general": DAY})
    assert [bad.kind for bad in found.bad] == ["room"]
    assert found.bad[0].place.startswith("channels.json")
    assert [(room.name, room.type) for room in found.rooms] == [("general", "c")]


def test_what_may_have_been_private_does_not_become_public(tmp_path: Path) -> None:
    found = read(tmp_path, channels=[], groups=b"{}", messages={"board": DAY})
    assert [(room.name, room.type) for room in found.rooms] == [("board", "p")]


def test_a_wrapping_folder_changes_nothing(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "users": [slack_user("U1", "ann")],
        "channels": [slack_room("C1", "general", ["U1"])],
        "messages": {"general": DAY, "lost": DAY},
        "extra": {"canvases.json": []},
    }
    plain = read_export(slack_zip(tmp_path / "plain.zip", **files))
    for prefix in ("Acme export Jan 1/", "a/b/"):
        wrapped = slack_zip(tmp_path / f"{len(prefix)}.zip", prefix=prefix, **files)
        with zipfile.ZipFile(wrapped, "a") as archive:
            archive.writestr("__MACOSX/._x", b"")
        assert read_export(wrapped) == plain


def test_day_files_alone_may_be_wrapped_too(tmp_path: Path) -> None:
    found = read(tmp_path, messages={"general": DAY}, prefix="export/")
    assert [room.name for room in found.rooms] == ["general"]
    assert found.places == ["general/2024-01-02.json[0]"]


def test_files_that_are_none_of_ours_are_noted(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        channels=[],
        messages={"general": DAY},
        extra={
            "integration_logs.json": [],
            "general/canvas_in_the_conversation.json": [{"ts": "1"}],
        },
    )
    assert found.total == 1
    (note,) = found.notes
    assert note.startswith("2 files were passed over")
    assert "general/canvas_in_the_conversation.json" in note


def test_names_without_the_utf8_flag_are_utf8(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    name = "общий/2024-01-02.json"
    slack_zip(path, channels=[slack_room("C1", "общий", [])], messages={"общий": DAY})
    # Python sets the flag (bit 11 of the flags) for names that are not ASCII; Slack does not.
    data = bytearray(path.read_bytes())
    encoded = name.encode()
    for magic, flags_at, name_at in ((b"PK\3\4", 6, 30), (b"PK\1\2", 8, 46)):
        at = data.find(magic)
        while at >= 0:
            if data[at + name_at : at + name_at + len(encoded)] == encoded:
                data[at + flags_at + 1] &= ~0x08
            at = data.find(magic, at + 1)
    path.write_bytes(data)
    assert zipfile.ZipFile(path).namelist() != ["channels.json", name]
    assert [room.folder for room in read_export(path).rooms] == ["общий"]


def inner_zip() -> bytes:
    return slack_zip(io.BytesIO(), users=[]).getvalue()


@pytest.mark.parametrize(
    ("extra", "error", "sentence"),
    [
        ({}, EmptyExport, "nothing in the zip"),
        ({"export.zip": inner_zip()}, WrongFormat, "another zip archive in this one"),
        ({"users.csv": b'"a"', "general/1.csv": b""}, WrongFormat, "CSV files"),
        (
            {"channels/general.txt": b"", "dms/ann.txt": b"", "files/a.txt": b""},
            WrongFormat,
            "TXT format",
        ),
        ({"photo.jpg": b"", "docs/a.pdf": b""}, WrongFormat, "2 other files"),
    ],
)
def test_it_says_what_a_wrong_archive_is(
    tmp_path: Path, extra: dict[str, bytes], error: type[Exception], sentence: str
) -> None:
    path = slack_zip(tmp_path / "export.zip", extra=extra)
    with opened(path) as importer, pytest.raises(error, match=sentence):
        list(importer.workspace())


def test_an_export_without_anything_in_it_is_empty(tmp_path: Path) -> None:
    path = slack_zip(tmp_path / "export.zip", users=[], channels=[])
    with opened(path) as importer, pytest.raises(EmptyExport, match="no users"):
        list(importer.workspace())


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    path.write_bytes(b"[]")
    with pytest.raises(NotAnArchive), opened(path):
        pass
