"""Messages of a Slack export: what becomes of one, and of a day file that is not as it should be."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from importops.importers.base import Directory, Limits
from importops.records import AuthorRecord, FileRecord, MessageRecord
from tests.exports import (
    FIRST_TS,
    hosted_url,
    slack_file,
    slack_message,
    slack_messages,
    slack_room,
    slack_user,
    slack_zip,
)
from tests.importers.slack_reading import Read, opened, read_export, read_messages

AT = 1_704_189_600_000_100


def read_one(tmp_path: Path, message: Any, **files: Any) -> MessageRecord:
    return read_messages(tmp_path, [message], **files).message


# What a message becomes.


def test_an_ordinary_message(tmp_path: Path) -> None:
    found = read_messages(tmp_path, [slack_message("hi <@U2> &amp; <#C1>")])
    assert found.message == MessageRecord(
        source_id=FIRST_TS,
        sent_at=AT,
        author="U1",
        text="hi @bob & #general",
        mentions=["U2"],
    )
    assert found.rooms_of == ["C1"]
    assert found.places == ["general/2024-01-02.json[0]"]
    count = found.counts["C1"]
    assert (count.messages, count.first_at, count.last_at) == (1, AT, AT)
    assert found.authors == {}


@pytest.mark.parametrize(
    ("ts", "at"),
    [
        ("1704189600.123456", 1_704_189_600_123_456),
        (" 1704189600.5 ", 1_704_189_600_500_000),
        ("1704189600", 1_704_189_600_000_000),
        ("1704189600.1234567", 1_704_189_600_123_456),
        ("12345678901.12345", 12_345_678_901_123_450),
        ("-5.25", -5_250_000),
        ("0", 0),
    ],
)
def test_times_are_exact(tmp_path: Path, ts: str, at: int) -> None:
    message = read_one(tmp_path, slack_message(ts=ts))
    assert (message.source_id, message.sent_at) == (ts.strip(), at)


@pytest.mark.parametrize("last", ["30.000001", "1704189630.000001"])
def test_a_room_reaches_from_its_first_message_to_its_last(tmp_path: Path, last: str) -> None:
    times = ["1704189620.000000", "1704189610.000000", last]
    count = read_messages(tmp_path, [slack_message(ts=ts) for ts in times]).counts["C1"]
    ours = sorted(int(ts.replace(".", "")) for ts in times)
    assert (count.first_at, count.last_at) == (ours[0], ours[-1])


def test_a_time_may_be_a_number(tmp_path: Path) -> None:
    found = read_messages(tmp_path, b'[{"user":"U1","ts":1704189600.000100},{"ts":7}]')
    assert [m.source_id for m in found.messages] == [FIRST_TS, "7"]
    assert found.messages[0].sent_at == AT


@pytest.mark.parametrize(
    "ts",
    [None, "", "yesterday", "1_7", "٣", "1e9", "9" * 12, "9999999999999", [], True, "1.2.3", "1\0"],
)
def test_a_bad_time_fails_that_message_alone(tmp_path: Path, ts: Any) -> None:
    bad = slack_message("bad", ts)
    found = read_messages(tmp_path, [slack_message("a"), bad, slack_message("b")])
    assert found.texts == ["a", "b"]
    assert found.places == [f"general/2024-01-02.json[{i}]" for i in (0, 2)]
    (failure,) = found.failures
    assert failure.code == "importer-message-invalid-timestamp"
    assert failure.place == "general/2024-01-02.json[1]"
    assert '"text": "bad"' in failure.raw


def test_a_missing_time_is_a_bad_time(tmp_path: Path) -> None:
    (failure,) = read_messages(tmp_path, [{"type": "message", "text": "x"}]).failures
    assert failure.message == "The message has no time (ts)."


@pytest.mark.parametrize(
    ("subtype", "fields", "type_", "text"),
    [
        ("channel_join", {}, "uj", ""),
        ("group_join", {}, "uj", ""),
        ("channel_leave", {}, "ul", ""),
        ("group_leave", {}, "ul", ""),
        ("channel_topic", {"topic": "a &amp; b"}, "room_changed_topic", "a & b"),
        ("group_topic", {"topic": None}, "room_changed_topic", ""),
        ("channel_purpose", {"purpose": "p"}, "room_changed_description", "p"),
        ("group_purpose", {"purpose": "p"}, "room_changed_description", "p"),
        ("channel_name", {"name": "new", "old_name": "old"}, "r", "new"),
        ("group_name", {"name": "new"}, "r", "new"),
    ],
)
def test_system_messages(
    tmp_path: Path, subtype: str, fields: dict[str, Any], type_: str, text: str
) -> None:
    message = slack_message("<@U1> did it", subtype=subtype, **fields)
    found = read_one(tmp_path, message)
    assert (found.type, found.text, found.author) == (type_, text, "U1")


@pytest.mark.parametrize(
    "subtype",
    ["bot_message", "slackbot_response", "file_share", "thread_broadcast", "reply_broadcast", ""],
)
def test_ordinary_subtypes(tmp_path: Path, subtype: str) -> None:
    found = read_one(tmp_path, slack_message("said", subtype=subtype))
    assert (found.type, found.text) == ("", "said")


def test_me_messages_are_in_italics(tmp_path: Path) -> None:
    assert read_one(tmp_path, slack_message("waves", subtype="me_message")).text == "_waves_"


def test_a_pin_shows_what_was_pinned(tmp_path: Path) -> None:
    pinned = {"text": "read <@U2>", "author_subname": "bob", "author_icon": "https://a/i", "ts": 1}
    message = slack_message("pinned", subtype="pinned_item", attachments=[pinned])
    found = read_one(tmp_path, message)
    assert (found.type, found.text) == ("message_pinned", "")
    assert found.attachments == [
        {"text": "read @bob", "author_name": "bob", "author_icon": "https://a/i"}
    ]


def test_what_is_left_out_is_counted_by_its_name(tmp_path: Path) -> None:
    found = read_messages(
        tmp_path,
        [
            slack_message(subtype="bot_add", user="U9"),
            slack_message(subtype="tombstone", user="USLACKBOT"),
            slack_message(subtype="<script>" + "x" * 99, files=[slack_file("F1")]),
            {"type": "event", "ts": FIRST_TS},
            slack_message("kept"),
        ],
    )
    assert found.texts == ["kept"]
    assert found.skipped == {
        "subtype:bot_add": 1,
        "subtype:tombstone": 1,
        "subtype:_script_" + "x" * 56: 1,
        "type:event": 1,
    }
    assert found.skipped_files == 1
    assert found.counts["C1"].files == 1
    assert found.authors == {}  # nobody gets an account for what is not imported


# Who wrote it.


@pytest.mark.parametrize(
    ("fields", "author", "alias"),
    [
        ({"user": "USLACKBOT"}, "rocket.cat", ""),
        ({"user": None, "bot_id": "B1", "username": "Deploy"}, "B1", "Deploy"),
        ({"user": None, "bot_id": "B1", "bot_profile": {"name": "CI"}}, "B1", "CI"),
        ({"user": None, "username": "hook"}, "bot:hook", "hook"),
        ({"user": None}, "rocket.cat", ""),
        ({"user": "U1", "bot_id": "B1", "username": "Ann's bot"}, "U1", "Ann's bot"),
        ({"user": "U1", "bot_id": "B1", "username": "ann"}, "U1", ""),
        ({"user": "U1", "bot_id": "B1", "bot_profile": {"name": "giphy"}}, "U1", ""),
        ({"user": "U1", "username": "<@U1|ann>", "subtype": "file_share"}, "U1", ""),
    ],
)
def test_authors(tmp_path: Path, fields: dict[str, Any], author: str, alias: str) -> None:
    found = read_one(tmp_path, slack_message(**fields))
    assert (found.author, found.alias) == (author, alias)


def test_user_may_be_null(tmp_path: Path) -> None:
    message = slack_message(user=None, bot_id="B1") | {"user": None}
    assert read_one(tmp_path, message).author == "B1"


def test_authors_who_are_not_on_the_list_are_described(tmp_path: Path) -> None:
    profile = {"name": "zoe", "real_name": "Zoe Q", "display_name": "Zo"}
    found = read_messages(
        tmp_path,
        [
            slack_message(user="U9"),
            slack_message(user="U9", user_profile=profile),
            slack_message(user="U8", user_profile=profile, bot_id="B5"),
            slack_message(user=None, bot_id="B1", bot_profile={"name": "CI"}),
            slack_message(user=None, username="hook", subtype="bot_message"),
            slack_message(user="U7", bot_id="B7", bot_profile={"name": "App"}),
            slack_message(user=None),
            slack_message(),
        ],
    )
    assert list(found.authors.values()) == [
        AuthorRecord(import_id="U9", username="zoe", name="Zoe Q"),
        AuthorRecord(import_id="U8", username="zoe", name="Zoe Q"),
        AuthorRecord(import_id="B1", username="CI", name="CI", type="bot"),
        AuthorRecord(import_id="bot:hook", username="hook", name="hook", type="bot"),
        AuthorRecord(import_id="U7", username="App", name="App", type="bot"),
    ]


# Threads.


def threads(found: Read) -> list[str]:
    return [message.thread_source_id for message in found.messages]


def test_threads(tmp_path: Path) -> None:
    found = read_messages(
        tmp_path,
        [
            slack_message("parent", "10.1", thread_ts="10.1", reply_count=1),
            slack_message("reply", "11.1", thread_ts="10.1", parent_user_id="U1"),
            slack_message("its parent is gone", "12.1", thread_ts="5.5"),
            slack_message("shown", "13.1", subtype="thread_broadcast", thread_ts="10.1"),
            slack_message("root only", "14.1", subtype="thread_broadcast", root={"ts": "10.1"}),
            slack_message("nonsense", "15.1", thread_ts="never"),
        ],
    )
    assert threads(found) == ["", "10.1", "5.5", "10.1", "10.1", ""]


def test_a_reply_without_thread_is_found_by_what_its_parent_lists(tmp_path: Path) -> None:
    def parent(ts: str, user: str, *replies: str) -> dict[str, Any]:
        listed = [{"user": "U2", "ts": reply} for reply in replies]
        return slack_message("parent", ts, user, replies=listed)

    def reply(ts: str) -> dict[str, Any]:
        return slack_message("reply", ts, "U2", parent_user_id="U1")

    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "bob")],
        channels=[slack_room("C1", "general", []), slack_room("C2", "other", [])],
        messages={
            "general": {
                "2024-01-01": [reply("20.0"), reply("21.0"), reply("22.0"), reply("23.0")],
                "2024-01-02": [
                    parent("10.0", "U1", "20.0", "22.0"),
                    parent("11.0", "U2", "20.0", "21.0"),  # somebody else's
                    parent("12.0", "U1", "22.0"),  # two parents for one reply: neither
                ],
            },
            "other": {"2024-01-01": [reply("20.0"), parent("13.0", "U1", "23.0")]},
        },
    )
    assert threads(read_export(path)) == ["10.0", "", "", "", "", "", "", "", ""]


# What a message carries.


def test_edits(tmp_path: Path) -> None:
    found = read_messages(
        tmp_path,
        [
            slack_message(edited={"user": "U2", "ts": "1704189700.000000"}),
            slack_message(edited={"user": "U2"}),
            slack_message(edited={"user": None, "ts": "5"}),
        ],
    )
    assert [(m.edited_at, m.edited_by) for m in found.messages] == [
        (1_704_189_700_000_000, "U2"),
        (None, ""),
        (5_000_000, ""),
    ]


def test_each_emoji_is_a_reaction_of_its_own(tmp_path: Path) -> None:
    reactions = [
        {"name": "tada", "users": ["U1", "U2", "U1"], "count": 2},
        {"name": "wave::skin-tone-3", "users": ["U2"]},
        {"name": "handshake::skin-tone-2-6", "users": ["USLACKBOT"]},
        {"name": "tada", "users": ["U3"]},
        {"name": "nobody", "users": []},
        {"users": ["U1"]},
        None,
    ]
    assert read_one(tmp_path, slack_message(reactions=reactions)).reactions == [
        (":tada:", ["U1", "U2", "U3"]),
        (":wave_tone2:", ["U2"]),
        (":handshake_tone1_tone5:", ["rocket.cat"]),
    ]


def test_files(tmp_path: Path) -> None:
    files = [
        slack_file("F1"),
        slack_file("F2", mode="external", is_external=True, url_private="https://docs.example/1"),
        {"id": "F3", "mode": "tombstone"},
        slack_file("F4", mode="hidden_by_limit"),
        {"title": "no id", "url_private": "https://a/5", "size": -1},
        {"id": "F6", "file_access": "check_file_info"},
        slack_file("F1", "again"),
        None,
    ]
    found = read_messages(tmp_path, [slack_message(files=files)])
    assert found.message.files == [
        FileRecord("F1", "report.pdf", 1234, "application/pdf", hosted_url("F1")),
        FileRecord(
            "F2", "report.pdf", 1234, "application/pdf", "https://docs.example/1", external=True
        ),
        FileRecord("F3", problem="deleted in Slack"),
        FileRecord(
            "F4",
            "report.pdf",
            1234,
            "application/pdf",
            problem="hidden by the source workspace's plan limit",
        ),
        FileRecord(f"{FIRST_TS}-file5", "no id", url="https://a/5"),
        FileRecord("F6", problem="no link in the export"),
    ]
    assert found.counts["C1"].files == 6


def test_the_file_of_an_old_file_share_is_kept_with_its_text(tmp_path: Path) -> None:
    message = slack_message("uploaded", subtype="file_share", file=slack_file("F1"))
    found = read_one(tmp_path, message)
    assert found.text == "uploaded"
    assert [file.source_id for file in found.files or ()] == ["F1"]


def test_attachments_have_a_fixed_set_of_keys(tmp_path: Path) -> None:
    attachment = {
        "title": "a &amp; b",
        "from_url": "https://a.example",
        "text": "<@U1>",
        "color": "#fff",
        "ts": 1704189600.5,
        "fields": [{"title": "t", "value": "<https://x|y>", "short": True}, "x"],
        "id": 1,
        "author_id": "U1",
        "footer": "",
    }
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "from blocks"}}]
    inner = {"message_blocks": [{"message": {"blocks": blocks}}]}
    message = slack_message(attachments=[attachment, {}, 7, {"blocks": blocks}, inner])
    assert read_one(tmp_path, message).attachments == [
        {
            "title": "a & b",
            "title_link": "https://a.example",
            "text": "@ann",
            "color": "#fff",
            "ts": "2024-01-02T10:00:00.500Z",
            "fields": [{"title": "t", "value": "[y](https://x)", "short": True}],
        },
        {"text": "from blocks"},
        {"text": "from blocks"},
    ]


@pytest.mark.parametrize("text", ["", None, " ", "This content can't be displayed."])
def test_a_message_without_text_has_that_of_its_blocks(tmp_path: Path, text: Any) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "<@U2> deployed"}}]
    found = read_one(tmp_path, slack_message(text, blocks=blocks))
    assert (found.text, found.mentions) == ("@bob deployed", ["U2"])


def test_blocks_do_not_replace_a_text(tmp_path: Path) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "blocks"}}]
    assert read_one(tmp_path, slack_message("text", blocks=blocks)).text == "text"


def test_null_text_is_no_text(tmp_path: Path) -> None:
    assert read_one(tmp_path, slack_message(None)).text == ""


# What is broken.


def test_nul_and_lone_surrogates_are_repaired_everywhere(tmp_path: Path) -> None:
    bad = r"\ud800x\u0000"
    data = (
        f'[{{"ts":"1.0","user":"U{bad}","text":"a{bad}<@U{bad}|{bad}>","username":"n{bad}",'
        f'"bot_id":"B1","files":[{{"id":"F{bad}","name":"{bad}"}}],'
        f'"reactions":[{{"name":"r{bad}","users":["{bad}"]}}],'
        f'"attachments":[{{"title":"{bad}","fields":[{{"title":"{bad}"}}]}}]}},'
        r'{"ts":"2.0","text":"only NUL \u0000"},{"ts":"3.0","text":"fine"}]'
    )
    found = read_messages(tmp_path, data.encode())
    first = found.messages[0]
    assert "\ud800" not in repr(first) and "\\x00" not in repr(first)
    assert first.author == "U\ufffdx\ufffd"
    assert first.mentions == ["U\ufffdx\ufffd"]
    assert [m.text for m in found.messages[1:]] == ["only NUL \ufffd", "fine"]
    # Text, alias, file name, two texts of the attachment; and the NUL.
    assert found.repaired == 6


@pytest.mark.parametrize(
    ("data", "texts", "codes"),
    [
        (b"", [], 1),
        (b"null", [], 1),
        (b'{"messages": []}', [], 1),
        (b"[]", [], 0),
        (b'\xef\xbb\xbf[{"ts":"1","text":"bom"}]', ["bom"], 0),
        (b'[{"ts":"1","text":"a"}, 7, "x", null, [], {"ts":"2","text":"b"}]', ["a", "b"], 4),
        (b'[{"ts":"1","text":"a"},{"ts":"2","te', ["a"], 1),
        (b'[{"ts":"1","text":"a"},{broken},{"ts":"2","text":"b"}]', ["a", "b"], 1),
        (b'[{"ts":"1","text":"\xff!"}]', ["\ufffd!"], 0),
        (b'[{"ts":"1","text":"a\nb\x01"}]', ["a\nb\x01"], 0),
        (b'[{"ts":"1","text":"no","text":"last"}]', ["last"], 0),
        (b'[{"ts":"1","text":"a","x":NaN,"y":1e999}]', ["a"], 0),
        (b'[{"ts":"1","text":"a","x":' + b"[" * 5000 + b"]" * 5000 + b"}]", [], 1),
        (b'[{"ts":"1","text":5,"user":{},"files":"no","edited":[],"type":[]}]', ["5"], 0),
    ],
)
def test_a_broken_day_file_costs_only_what_is_broken(
    tmp_path: Path, data: bytes, texts: list[str], codes: int
) -> None:
    found = read_messages(tmp_path, data)
    assert found.texts == texts
    assert len(found.failures) == codes
    assert all(failure.place.startswith("general/2024-01-02.json") for failure in found.failures)


def test_wrongly_typed_fields_do_not_cost_their_neighbours(tmp_path: Path) -> None:
    message = slack_message(
        "kept",
        files=[slack_file("F1", size="big"), 3, slack_file("F2")],
        reactions=[{"name": "tada", "users": ["U1", 5, None, {}]}, "x"],
        edited={"user": 7, "ts": 5},
        thread_ts=1704189000.5,
        bot_id={"a": 1},
    )
    found = read_one(tmp_path, message)
    assert [(f.source_id, f.size) for f in found.files or ()] == [("F1", 0), ("F2", 1234)]
    assert found.reactions == [(":tada:", ["U1", "5"])]
    assert (found.edited_at, found.edited_by) == (5_000_000, "7")
    assert (found.thread_source_id, found.text) == ("1704189000.500000", "kept")


@pytest.mark.parametrize("limits", [Limits(), Limits(whole_entry_bytes=0)])
def test_a_damaged_entry_is_one_failure(tmp_path: Path, limits: Limits) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user(f"U{i}", f"user{i}") for i in range(50)],
        channels=[slack_room("C1", "general", [])],
        messages={"general": {"2024-01-01": slack_messages(50), "2024-01-02": slack_messages(2)}},
    )
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        for name in ("general/2024-01-01.json", "users.json"):
            at = archive.getinfo(name).header_offset
            data[at + 80 : at + 90] = b"\xff" * 10
    path.write_bytes(data)
    found = read_export(path, limits)
    assert [(f.place, f.code) for f in found.failures] == [
        ("general/2024-01-01.json", "importer-entry-unreadable")
    ]
    assert [(f.place, f.kind) for f in found.bad] == [("users.json", "user")]
    assert found.texts == ["message 0", "message 1"]


def test_a_record_over_the_limit_fails_alone(tmp_path: Path) -> None:
    messages = [slack_message("a"), slack_message("x" * 9000), slack_message("b")]
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        messages={"general": {"2024-01-02": messages}},
    )
    found = read_export(path, Limits(max_record_bytes=4096))
    assert found.texts == ["a", "b"]
    assert [failure.code for failure in found.failures] == ["importer-record-too-large"]


def test_a_very_long_text_is_cut(tmp_path: Path) -> None:
    text = read_one(tmp_path, slack_message("x" * 1_000_001)).text
    assert (len(text), text[-2:]) == (1_000_000, "x…")


# Rooms, chunks, slices.


def test_rooms_that_are_not_wanted_are_not_read(tmp_path: Path) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "a", []), slack_room("C2", "b", [])],
        messages={"a": {"2024-01-02": b"broken"}, "b": {"2024-01-02": slack_messages(2)}},
    )
    with opened(path) as importer:
        (span,) = importer.spans()
        (chunk,) = importer.messages(span, span.start, Directory(folders={"b": "C2"}))
    assert (chunk.room, len(chunk.records), chunk.failures) == ("C2", 2, [])


def test_small_files_of_a_room_share_a_chunk(tmp_path: Path) -> None:
    days = {f"2024-01-{day:02}": [slack_message(ts=f"{day}.0")] for day in range(1, 29)}
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "a", []), slack_room("C2", "b", [])],
        messages={"a": days, "b": {"2024-01-02": slack_messages(2500)}},
    )
    with opened(path) as importer:
        (span,) = importer.spans()
        directory = Directory(folders={"a": "C1", "b": "C2"})
        chunks = list(importer.messages(span, span.start, directory))
    assert [(c.room, len(c.records)) for c in chunks] == [
        ("C1", 28),
        ("C2", 1000),
        ("C2", 1000),
        ("C2", 500),
    ]
    assert chunks[0].place(27) == "a/2024-01-28.json[0]"
    assert chunks[2].place(3) == "b/2024-01-02.json[1003]"
    assert [chunk.cursor for chunk in chunks] == [[28, 0], [28, 1000], [28, 2000], [29, 0]]
    assert sum(chunk.read for chunk in chunks) == span.weight


def test_spans_cover_all_day_files_and_are_cut_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importops.importers.slack.SPAN_BYTES", 10_000)
    days = {f"2024-01-{day:02}": slack_messages(day * 3) for day in range(1, 29)}
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        users=[],
        messages={"general": days},
    )
    with opened(path) as importer:
        spans = list(importer.spans())
    assert len(spans) > 3
    for one, other in zip(spans, spans[1:], strict=False):
        assert one.stop <= other.start[0]
        assert one.weight <= 10_000
    assert len(read_export(path).messages) == sum(day * 3 for day in range(1, 29))
