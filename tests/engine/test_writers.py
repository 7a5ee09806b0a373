"""What every writer promises, asked of the one for the database in use; the suite runs on both."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from importops.engine.rows import FileRow, MessageRow, moment_text, reactions_json
from importops.engine.writers import Writer, writer_for
from importops.engine.writers.base import rows_of
from importops.engine.writers.merge import Existing, merge
from importops.models import File, Message, Room, User
from tests.factories import ImportOperationFactory, RoomFactory, UserFactory

pytestmark = pytest.mark.django_db

DAY = 1_704_189_600_000_000
"""2024-01-02 10:00:00 UTC, in microseconds."""


@pytest.fixture
def ann() -> User:
    return UserFactory.create(username="ann")


@pytest.fixture
def room() -> Room:
    return RoomFactory.create(name="general")


@pytest.fixture
def writer(ann: User) -> Writer:
    return writer_for(ImportOperationFactory.create(user=ann).pk)


@pytest.fixture
def later(ann: User, writer: Writer) -> Writer:
    """The writer of an operation after the one of `writer`."""
    return writer_for(ImportOperationFactory.create(user=ann).pk)


class Rows:
    """Rows of one author in one room."""

    def __init__(self, room: Room, author: User, writer: Writer) -> None:
        self.room, self.author, self.writer = room, author, writer

    def of(self, writer: Writer) -> Rows:
        return Rows(self.room, self.author, writer)

    def __call__(
        self,
        source_id: str = "1",
        *,
        text: str = "hello",
        at: int = DAY,
        edited: int | None = None,
        thread: str = "",
        reactions: dict[str, Iterable[str]] | None = None,
        room: Room | None = None,
        attachments: str = "[]",
    ) -> MessageRow:
        return MessageRow(
            room_id=(room or self.room).pk,
            author_id=self.author.pk,
            source_id=source_id,
            sent_at=moment_text(at),
            text=text,
            type="",
            alias="",
            thread_source_id=thread,
            edited_at=None if edited is None else moment_text(edited),
            edited_by="" if edited is None else "ann",
            reactions=reactions_json((reactions or {}).items()),
            mentions="[]",
            attachments=attachments,
            operation_id=self.writer.operation_id,
        )


@pytest.fixture
def row(room: Room, ann: User, writer: Writer) -> Rows:
    return Rows(room, ann, writer)


def file_row(room: Room, message: str, source_id: str, name: str = "a.pdf") -> FileRow:
    return FileRow(room.pk, message, source_id, name, "application/pdf", 7, "", "done", True, "")


def test_new_rows_are_created_and_marked_with_their_operation(row: Rows, writer: Writer) -> None:
    rows = [row(str(n), text=f"no. {n}") for n in range(1234)]

    assert writer.write_messages(rows) == {"created": 1234}
    assert set(Message.objects.values_list("operation", flat=True)) == {writer.operation_id}
    assert Message.objects.get(source_id="1233").text == "no. 1233"


def test_the_same_rows_from_a_later_operation_are_unchanged(
    row: Rows, writer: Writer, later: Writer
) -> None:
    liked: dict[str, Any] = {"reactions": {":tada:": ["ben", "ann"], ":+1:": ["ann"]}}
    writer.write_messages([row("1"), row("2", edited=DAY + 5, **liked)])
    again = row.of(later)

    assert later.write_messages([again("1"), again("2", edited=DAY + 5, **liked)]) == {
        "skipped.unchanged": 2
    }
    assert set(Message.objects.values_list("operation", flat=True)) == {writer.operation_id}


def test_the_same_rows_from_the_same_operation_are_duplicates(row: Rows, writer: Writer) -> None:
    writer.write_messages([row("1"), row("2")])

    assert writer.write_messages([row("1"), row("3"), row("2")]) == {
        "created": 1,
        "skipped.duplicate": 2,
    }


def test_new_changed_and_known_rows_in_one_batch_are_told_apart(
    row: Rows, writer: Writer, later: Writer
) -> None:
    writer.write_messages([row("1"), row("2"), row("3")])
    newer = row.of(later)

    assert later.write_messages(
        [newer("1"), newer("4"), newer("2", text="better", edited=DAY + 1), newer("4")]
    ) == {"created": 1, "updated": 1, "skipped.unchanged": 1, "skipped.duplicate": 1}
    assert Message.objects.count() == 4


def test_a_later_edit_wins_and_an_earlier_one_does_not(
    row: Rows, writer: Writer, later: Writer
) -> None:
    writer.write_messages([row(text="second", edited=DAY + 1_000_000, attachments='[{"a": 1}]')])
    newer = row.of(later)

    assert later.write_messages([newer(text="never edited")]) == {"skipped.unchanged": 1}
    assert later.write_messages([newer(text="first", edited=DAY + 999_999)]) == {
        "skipped.unchanged": 1
    }
    assert Message.objects.get().text == "second"
    # A microsecond later than a whole second: text compares as time does.
    last = newer(text="third", edited=DAY + 1_000_001, attachments='[{"b": 2}]')
    assert later.write_messages([last]) == {"updated": 1}
    message = Message.objects.get()
    assert (message.text, message.attachments) == ("third", [{"b": 2}])
    assert message.edited_at == datetime(2024, 1, 2, 10, 0, 1, 1, tzinfo=UTC)


def test_reactions_of_both_are_united(row: Rows, writer: Writer, later: Writer) -> None:
    writer.write_messages([row(reactions={":tada:": ["ann"], ":+1:": ["zoe"]})])
    newer = row.of(later)

    assert later.write_messages([newer(reactions={":tada:": ["ben"], ":x:": ["ann"]})]) == {
        "updated": 1
    }
    assert Message.objects.get().reactions == {
        ":+1:": {"usernames": ["zoe"]},
        ":tada:": {"usernames": ["ann", "ben"]},
        ":x:": {"usernames": ["ann"]},
    }


def test_fewer_reactions_take_none_away(row: Rows, writer: Writer, later: Writer) -> None:
    writer.write_messages([row(reactions={":tada:": ["ann", "ben"]})])

    assert later.write_messages([row.of(later)(reactions={":tada:": ["ben"]})]) == {
        "skipped.unchanged": 1
    }
    assert Message.objects.get().reactions == {":tada:": {"usernames": ["ann", "ben"]}}


def test_a_thread_that_was_not_known_is_learnt(row: Rows, writer: Writer, later: Writer) -> None:
    writer.write_messages([row("2")])

    assert later.write_messages([row.of(later)("2", thread="1")]) == {"updated": 1}
    assert Message.objects.get().thread_source_id == "1"
    assert later.write_messages([row.of(later)("2")]) == {"skipped.unchanged": 1}


@pytest.mark.parametrize("micros", [0, 1, 100, 123_456, 999_999])
@pytest.mark.parametrize("at", [DAY, -1_000_000, -62_135_596_800_000_000, 253_402_300_799_000_000])
def test_a_moment_is_read_back_and_found_to_the_microsecond(
    row: Rows, writer: Writer, at: int, micros: int
) -> None:
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at + micros)
    writer.write_messages([row(at=at + micros, edited=at + micros)])

    assert Message.objects.get(sent_at=expected, edited_at=expected).sent_at == expected
    assert not Message.objects.exclude(sent_at=expected).exists()


def test_what_was_written_around_the_orm_equals_what_the_orm_writes(
    row: Rows, writer: Writer, room: Room, ann: User
) -> None:
    """Whole seconds too: SQLite compares text, and Django leaves `.000000` out."""
    writer.write_messages([row("whole", at=DAY), row("parts", at=DAY + 5)])
    for name, micros in (("whole", 0), ("parts", 5)):
        at = datetime(2024, 1, 2, 10, 0, 0, micros, tzinfo=UTC)
        Message.objects.create(room=room, author=ann, source_id=f"{name} (ORM)", sent_at=at)

    assert Message.objects.values("sent_at").distinct().count() == 2
    first = Message.objects.get(source_id="whole")
    assert (first.reactions, first.mentions, first.attachments) == ({}, [], [])
    assert Message.objects.filter(reactions={}, attachments=[]).count() == 4


def test_rows_of_several_rooms_may_come_mixed_and_twice(row: Rows, writer: Writer) -> None:
    other = RoomFactory.create(name="other")
    rows = [
        row("1"),
        row("1", room=other),
        row("1", reactions={":x:": ["ann"]}),
        row("2"),
        row("1", room=other, text="edited", edited=DAY + 9),
        row("1", reactions={":y:": ["ann"]}),
    ]

    assert writer.write_messages(rows) == {"created": 3, "skipped.duplicate": 3}
    assert Message.objects.count() == 3
    assert set(Message.objects.get(room=row.room, source_id="1").reactions) == {":x:", ":y:"}
    assert Message.objects.get(room=other).text == "edited"


def test_duplicates_in_a_batch_over_known_rows_are_merged_in_turn(
    row: Rows, writer: Writer, later: Writer
) -> None:
    writer.write_messages([row("1")])
    other, newer = RoomFactory.create(), row.of(later)
    rows = [
        newer("1", reactions={":x:": ["ann"]}),
        newer("9", room=other),
        newer("1", text="edited", edited=DAY + 9),
    ]

    assert later.write_messages(rows) == {"updated": 2, "created": 1}
    message = Message.objects.get(room=row.room)
    assert (message.text, set(message.reactions)) == ("edited", {":x:"})


def test_a_batch_that_is_rolled_back_leaves_nothing(row: Rows, writer: Writer) -> None:
    with transaction.atomic():
        writer.write_messages([row("1")])
        transaction.set_rollback(True)

    assert not Message.objects.exists()
    assert writer.write_messages([row("1")]) == {"created": 1}


AWKWARD = {
    "backslashes": "C:\\new\\table \\\\server",
    "the end of a COPY": "\\.",
    "a line that ends a COPY": "one\n\\.\ntwo",
    "what COPY has for NULL": "\\N",
    "tabs and line ends": "a\tb\nc\rd\r\ne",
    "control characters": "\x01\x02\x1e\x1f\x7f\v\f\b",
    "quotes": "it's \"quoted\"; -- '; DROP TABLE importops_message",
    "marks of parameters": "100 % %s %(a)s ? $1 :x {y}",
    "all of Unicode": "zo\u00eb \U0001f389 \u202e \ufffd \ufeff \u2028",
    "nothing": "",
    "spaces": "  ",
}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=list(AWKWARD))
def test_texts_come_out_as_they_went_in(
    row: Rows, writer: Writer, later: Writer, room: Room, text: str
) -> None:
    document = msgspec.json.encode([{"text": text}]).decode()
    written = row(f"id {text}"[:20], text=text, thread=text, attachments=document)
    written = written._replace(
        alias=text, edited_by=text, reactions=reactions_json([(text, [text])])
    )

    assert writer.write_messages([written]) == {"created": 1}
    file = file_row(room, written.source_id, text, name=text)._replace(url=text, problem=text)
    assert writer.write_files([file]) == {"created": 1}
    again = written._replace(operation_id=later.operation_id)
    assert later.write_messages([again]) == {"skipped.unchanged": 1}

    message = Message.objects.get()
    assert (message.text, message.thread_source_id) == (text, text)
    assert (message.alias, message.edited_by) == (text, text)
    assert message.reactions == {text: {"usernames": [text]}}
    assert message.attachments == [{"text": text}]
    found = message.files.get()
    assert (found.source_id, found.name, found.url, found.problem) == (text,) * 4

    better = again._replace(text=f"{text}!", edited_at=moment_text(DAY))
    assert later.write_messages([better]) == {"updated": 1}
    assert Message.objects.get().text == f"{text}!"


def test_what_is_empty_stays_empty_and_what_is_missing_is_null(row: Rows, writer: Writer) -> None:
    writer.write_messages([row(text="")])

    assert Message.objects.filter(text="", alias="", type="", thread_source_id="").count() == 1
    assert Message.objects.filter(edited_by="", edited_at=None).count() == 1


def test_five_thousand_rows_are_one_batch_in_any_order(
    row: Rows, writer: Writer, later: Writer
) -> None:
    rooms = [row.room, *RoomFactory.create_batch(2)]
    rows = [row(str(n), room=rooms[n % 3], text=f"no. {n}") for n in range(5000)]
    random.Random(1).shuffle(rows)
    half = [each._replace(operation_id=later.operation_id) for each in rows[:2500]]
    more = [row.of(later)(f"new {n}", room=rooms[n % 3]) for n in range(2500)]

    assert writer.write_messages(rows) == {"created": 5000}
    assert later.write_messages([*half, *more]) == {"created": 2500, "skipped.unchanged": 2500}
    assert [each.messages.count() for each in rooms] == [2501, 2500, 2499]


def test_of_two_with_one_key_the_first_in_the_export_is_created(row: Rows, writer: Writer) -> None:
    rows = [row("2", text="b"), row("1", text="first"), row("1", text="second"), row("0")]

    assert writer.write_messages(rows) == {"created": 3, "skipped.duplicate": 1}
    assert Message.objects.get(source_id="1").text == "first"


@pytest.mark.django_db(transaction=True)
def test_a_new_connection_writes_as_the_old_one_did(
    row: Rows, writer: Writer, room: Room, ann: User
) -> None:
    with transaction.atomic():
        writer.write_messages([row("1")])
    connection.close()

    with transaction.atomic():
        assert writer.write_messages([row("1"), row("2")]) == {
            "created": 1,
            "skipped.duplicate": 1,
        }
        assert writer.write_files([file_row(room, "2", "F1")]) == {"created": 1}
        assert writer.write_memberships(room.pk, [ann.pk]) == 1


@pytest.mark.django_db(transaction=True)
def test_batches_of_one_transaction_do_not_see_each_others_rows(
    row: Rows, writer: Writer, room: Room
) -> None:
    with transaction.atomic():
        assert writer.write_messages([row("1")]) == {"created": 1}
        assert writer.write_messages([row("2")]) == {"created": 1}
        assert writer.write_files([file_row(room, "1", "F1")]) == {"created": 1}
        assert writer.write_files([file_row(room, "2", "F1")]) == {"created": 1}


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_message_that_another_worker_is_about_to_commit_is_waited_for(
    row: Rows, writer: Writer, later: Writer
) -> None:
    newer = row.of(later)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            writer.write_messages([row("1", reactions={":x:": ["ann"]})])
            other = pool.submit(alone, later, [newer("2"), newer("1", reactions={":y:": ["ann"]})])
            wait_for_a_waiting_transaction()
        assert other.result() == {"created": 1, "updated": 1}

    assert set(Message.objects.get(source_id="1").reactions) == {":x:", ":y:"}


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_two_workers_with_the_same_messages_in_other_orders_do_not_lock_each_other_out(
    row: Rows, writer: Writer, later: Writer
) -> None:
    newer = row.of(later)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            writer.write_messages([row("1")])
            # In the order of the batch this would hold "2" while it waits for "1".
            other = pool.submit(alone, later, [newer("2"), newer("1")])
            wait_for_a_waiting_transaction()
            assert writer.write_messages([row("2")]) == {"created": 1}
        assert other.result() == {"skipped.unchanged": 2}


def alone(writer: Writer, rows: list[MessageRow]) -> Counter[str]:
    """Write in a transaction and on a connection of this thread's own."""
    try:
        with transaction.atomic():
            return writer.write_messages(rows)
    finally:
        connection.close()


def wait_for_a_waiting_transaction() -> None:
    statement = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    deadline = monotonic() + 20
    while rows_of(statement, []) == [(0,)]:
        assert monotonic() < deadline, "nobody waits"


def test_files_are_created_once_for_each_message(row: Rows, writer: Writer, room: Room) -> None:
    writer.write_messages([row("1"), row("2")])
    files = [file_row(room, "1", "F1"), file_row(room, "2", "F1"), file_row(room, "1", "F2")]

    assert writer.write_files(files) == {"created": 3}
    assert writer.write_files([*files, file_row(room, "2", "F3"), file_row(room, "2", "F3")]) == {
        "created": 1,
        "skipped.unchanged": 4,
    }
    file = File.objects.get(message__source_id="2", source_id="F3")
    assert (file.name, file.size, file.external, file.status) == ("a.pdf", 7, True, "done")
    assert file.operation_id == writer.operation_id
    assert not file.content


def test_a_file_that_is_there_stays_as_it_is(row: Rows, writer: Writer, room: Room) -> None:
    writer.write_messages([row("1")])
    writer.write_files([file_row(room, "1", "F1")])
    writer.write_files([file_row(room, "1", "F1", name="renamed.pdf")])

    assert File.objects.get().name == "a.pdf"


def test_files_go_to_their_own_rooms_message(row: Rows, writer: Writer, room: Room) -> None:
    other = RoomFactory.create()
    writer.write_messages([row("1"), row("1", room=other)])
    mixed = [file_row(room, "1", "F1"), file_row(other, "1", "F2"), file_row(room, "1", "F3")]

    assert writer.write_files(mixed) == {"created": 3}
    assert set(File.objects.filter(message__room=room).values_list("source_id", flat=True)) == {
        "F1",
        "F3",
    }


def test_memberships_are_counted_when_they_are_new(writer: Writer, room: Room, ann: User) -> None:
    others = UserFactory.create_batch(3)
    assert writer.write_memberships(room.pk, [ann.pk]) == 1
    assert writer.write_memberships(room.pk, [ann.pk, *(user.pk for user in others)]) == 3
    assert writer.write_memberships(room.pk, []) == 0
    assert writer.write_memberships(room.pk, [others[0].pk, others[0].pk]) == 0
    assert room.memberships.count() == 4
    assert {row.operation_id for row in room.memberships.all()} == {writer.operation_id}


# What one message may look like in several exports: its text and attachments are those of its edit,
# its thread is the same wherever it is known.
EDITS = st.none() | st.sampled_from([DAY, DAY + 1, DAY + 1_000_000])
REACTIONS = st.dictionaries(
    st.sampled_from([":x:", ":y:", ":z:"]),
    st.sets(st.sampled_from(["ann", "ben", "zoë"]), min_size=1),
    max_size=3,
)
VERSIONS = st.lists(
    st.tuples(EDITS, REACTIONS, st.sampled_from(["", "parent"])), min_size=1, max_size=5
)


def version(
    row: Rows, edited: int | None, reactions: dict[str, set[str]], thread: str
) -> MessageRow:
    return row(text=f"as of {edited}", edited=edited, reactions=reactions, thread=thread)


def as_existing(row: MessageRow) -> Existing:
    return Existing(
        id=1,
        operation_id=None,
        text=row.text,
        thread_source_id=row.thread_source_id,
        edited_at=row.edited_at,
        edited_by=row.edited_by,
        reactions=row.reactions,
        mentions=row.mentions,
        attachments=row.attachments,
    )


@given(versions=VERSIONS, order=st.randoms(use_true_random=False))
def test_merging_comes_to_the_same_in_any_order(versions: list[Any], order: Any) -> None:
    writer = writer_for(0)
    row = Rows(Room(pk=1), User(pk=1), writer)
    shuffled = list(versions)
    order.shuffle(shuffled)

    def merged(some: list[Any]) -> Existing:
        first, *others = [version(row, *each) for each in some]
        there = as_existing(first)
        for other in others:
            merge(there, other)
        there.changed = False
        return there

    once = merged(versions)
    assert merged(shuffled) == once
    # And once more changes nothing.
    assert not any(merge(once, version(row, *each)) for each in versions)


@settings(max_examples=25, deadline=None)
@given(versions=VERSIONS, order=st.randoms(use_true_random=False))
def test_writing_comes_to_the_same_in_any_order_and_any_batches(
    versions: list[Any], order: Any
) -> None:
    shuffled = list(versions)
    order.shuffle(shuffled)
    with transaction.atomic():
        ann = UserFactory.create()
        first, second = RoomFactory.create_batch(2)
        writer = writer_for(ImportOperationFactory.create(user=ann).pk)
        result = writer.write_messages(
            [version(Rows(first, ann, writer), *each) for each in versions]
        )
        for each in shuffled:
            one = writer_for(ImportOperationFactory.create(user=ann).pk)
            one.write_messages([version(Rows(second, ann, one), *each)])
        assert result.total() == len(versions) and result["created"] == 1
        assert what_is_in(first) == what_is_in(second)
        transaction.set_rollback(True)


def what_is_in(room: Room) -> list[tuple[Any, ...]]:
    return list(
        room.messages.values_list("text", "edited_at", "edited_by", "reactions", "thread_source_id")
    )
