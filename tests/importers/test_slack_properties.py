"""What must hold for every Slack export, whatever is in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from importops.importers.base import Directory, Limits, Span
from importops.importers.slack import SlackImporter
from importops.records import BadRecord, Chunk, MessageRecord, RoomScan
from tests.exports import slack_file, slack_message, slack_messages, slack_room, slack_zip
from tests.importers.slack_reading import Read, opened, read_export

FIELDS = [
    "ts",
    "type",
    "subtype",
    "user",
    "text",
    "thread_ts",
    "parent_user_id",
    "bot_id",
    "username",
    "edited",
    "reactions",
    "files",
    "file",
    "comment",
    "topic",
    "purpose",
    "name",
    "replies",
    "root",
    "blocks",
    "attachments",
    "user_profile",
    "bot_profile",
    "id",
    "users",
    "mode",
    "size",
    "url_private",
    "title",
    "fields",
    "value",
    "elements",
    "url",
]
WORDS = [
    "message",
    "channel_join",
    "pinned_item",
    "bot_message",
    "me_message",
    "bot_add",
    "channel_topic",
    "thread_broadcast",
    "file_share",
    "tombstone",
    "rich_text",
    "section",
    "text",
    "U1",
    "USLACKBOT",
    "B1",
    "1704189600.000100",
    "1704189601.5",
    "17",
    "<@U1>",
    "&lt;",
    "\ud800",
    "a\x00b",
    "",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(st.characters(), max_size=8)
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=8)
    ),
    max_leaves=30,
)
likely_messages = st.fixed_dictionaries(
    {"ts": st.sampled_from(["1704189600.000100", "1704189601.5", "x", 17, 1704189600.25])},
    optional={
        "type": st.sampled_from(["message", "event", None, 3]),
        "user": st.sampled_from(["U1", "U9", "USLACKBOT", "U\x00", None, 5]),
        "subtype": st.sampled_from([word for word in WORDS if "_" in word]),
        "text": scalars,
        "files": st.lists(st.just(slack_file("F1")) | json_values, max_size=3),
        "reactions": st.lists(
            st.fixed_dictionaries({"name": scalars, "users": st.lists(scalars, max_size=3)}),
            max_size=3,
        ),
        "thread_ts": scalars,
        "parent_user_id": st.sampled_from(["U1", 3]),
        "replies": st.lists(st.fixed_dictionaries({"ts": scalars, "user": scalars}), max_size=2),
        "attachments": json_values,
        "blocks": json_values,
        "edited": json_values,
    },
)
elements = likely_messages | json_values
WHOLE, APART = Limits(), Limits(whole_entry_bytes=0)


def export(directory: str, *days: Any) -> Path:
    return slack_zip(
        Path(directory) / "export.zip",
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {f"2024-01-{n:02}": day for n, day in enumerate(days, 1)}},
    )


def comparable(read: Read) -> Any:
    """All of it that does not depend on how it was read."""
    return (
        [(read.places[i], message) for i, message in enumerate(read.messages)],
        read.failures,
        read.skipped,
        read.skipped_files,
        read.repaired,
        read.counts,
        read.authors,
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(elements, max_size=6))
@example([{"ts": "1", "blocks": [{"type": "text", "text": "\ud800"}]}])
@example([{"ts": "1", "attachments": [{"text": "\ud800"}]}, {"ts": "2", "user": 5}])
@example([{"ts": "1", "files": [{"id": "F", "size": 10**400}]}])
def test_any_element_is_counted_once_however_it_is_read(day: list[Any]) -> None:
    with TemporaryDirectory() as directory:
        path = export(directory, json.dumps(day).encode())
        whole = read_export(path, WHOLE)
        assert whole.total == len(day)
        assert comparable(read_export(path, APART)) == comparable(whole)


@settings(deadline=None, max_examples=80)
@given(
    st.binary(max_size=40)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.tuples(st.lists(elements, max_size=4), st.integers(0, 60)).map(
        lambda t: json.dumps(t[0]).encode()[: -t[1] or None]
    )
)
def test_any_bytes_may_be_a_day_file(data: bytes) -> None:
    with TemporaryDirectory() as directory:
        path = export(directory, data, [slack_message("neighbour")])
        whole = read_export(path, WHOLE)
        assert whole.texts[-1] == "neighbour"
        assert comparable(read_export(path, APART)) == comparable(whole)


def test_whole_and_apart_agree_on_what_slack_writes(tmp_path: Path) -> None:
    messages = [
        slack_message("a <@U1>", "1.5", reactions=[{"name": "x", "users": ["U1"], "count": 1}]),
        slack_message("", "2.5", blocks=[{"type": "header", "text": {"text": "b"}}]),
        slack_message(None, "3.5", files=[slack_file("F1")], attachments=[{"text": "c"}]),
        slack_message("d", "4.5", user=None, bot_id="B1", bot_profile={"name": "CI"}),
    ]
    path = export(str(tmp_path), messages)
    assert comparable(read_export(path, APART)) == comparable(read_export(path, WHOLE))


# Going on after a crash.

Found = list[tuple[str, MessageRecord | BadRecord]]


def all_found(chunks: Iterator[Chunk]) -> Found:
    found: Found = []
    for chunk in chunks:
        found += [(chunk.place(i), record) for i, record in enumerate(chunk.records)]
        found += [(failure.place, failure) for failure in chunk.failures]
    return sorted(found, key=lambda pair: pair[0])


def odd_export(tmp_path: Path) -> Path:
    """Three days: one larger than a chunk with bad records in it, one cut off, one small."""
    large: list[Any] = slack_messages(1500)
    large[7] = "no message"
    large[1200]["ts"] = "never"
    cut_off = json.dumps(slack_messages(20)).encode()[:-50]
    return export(str(tmp_path), large, cut_off, slack_messages(3))


def positions(importer: SlackImporter) -> list[list[int]]:
    """Every cursor that there could be, most elements of the large file left out."""
    first = next(importer._layout.days()).entry.number
    inside = [0, 1, 6, 7, 8, 9, 500, 998, 999, 1000, 1001, 1199, 1200, 1201, 1499, 1500]
    return [
        *([first, element] for element in inside),
        *([first + 1, element] for element in range(21)),
        *([first + 2, element] for element in range(4)),
        [first + 3, 0],
    ]


def test_reading_from_any_cursor_gives_the_same_rest(tmp_path: Path) -> None:
    path = odd_export(tmp_path)
    directory = Directory(folders={"general": "C1"})
    for limits in (WHOLE, APART):
        with opened(path, limits) as importer:
            (span,) = importer.spans()
            everything = all_found(importer.messages(span, span.start, directory))
            assert len(everything) == 1500 + 20 + 3
            days = {day.name: day.entry.number for day in importer._layout.days()}
            for cursor in positions(importer):
                rest = all_found(importer.messages(span, cursor, directory))
                assert rest == [f for f in everything if position(f[0], days) >= cursor]


def position(place: str, days: dict[str, int]) -> list[int]:
    name, _, element = place.partition("[")
    return [days[name], int(element[:-1])]


def without_sizes(chunks: Iterable[Chunk]) -> list[Chunk]:
    """A file that is read by pieces is measured by pieces, which then lie otherwise."""
    return [msgspec.structs.replace(chunk, read=0) for chunk in chunks]


def test_chunks_go_on_where_they_say(tmp_path: Path) -> None:
    directory = Directory(folders={"general": "C1"})
    for limits in (WHOLE, APART):
        with opened(odd_export(tmp_path), limits) as importer:
            (span,) = importer.spans()
            chunks = list(importer.messages(span, span.start, directory))
            assert len(chunks) > 1
            for number, chunk in enumerate(chunks, 1):
                again = importer.messages(span, chunk.cursor, directory)
                assert without_sizes(again) == without_sizes(chunks[number:])


def test_scans_go_on_where_they_say(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("importops.importers.slack_counting.SCAN_MESSAGES", 400)
    with opened(odd_export(tmp_path)) as importer:
        (span,) = importer.spans()

        def scanned(cursor: list[int]) -> list[tuple[RoomScan, int]]:
            scans = importer.scan(span, cursor, {"general": "C1"}, set())
            return [(scan.rooms["C1"], len(scan.failures)) for scan in scans]

        everything = scanned(span.start)
        cursors = [s.cursor for s in importer.scan(span, span.start, {"general": "C1"}, set())]
        assert len(everything) > 1
        for number, cursor in enumerate(cursors, 1):
            assert scanned(cursor) == everything[number:]


def test_threads_are_found_from_any_cursor(tmp_path: Path) -> None:
    replies = [slack_message("reply", f"2{i}.0", "U2", parent_user_id="U1") for i in range(3)]
    listed = [{"user": "U2", "ts": reply["ts"]} for reply in replies]
    path = export(str(tmp_path), [slack_message("parent", "10.0", replies=listed)], replies)
    with opened(path) as importer:
        (span,) = importer.spans()
        directory = Directory(folders={"general": "C1"})
        start = span.stop - 1
        for element in range(3):
            chunk = one(importer, span, [start, element], directory)
            assert {record.thread_source_id for record in chunk.records} == {"10.0"}


def one(importer: SlackImporter, span: Span, cursor: list[int], directory: Directory) -> Chunk:
    (chunk,) = importer.messages(span, cursor, directory)
    return chunk
