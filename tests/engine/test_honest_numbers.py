"""Promise 1, for any mix of records and any order of events: the numbers add up, and only ever grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from importops.actions.operations import create_operation_in_place, start_operation
from importops.engine import importing_rooms, importing_users, preparing
from importops.engine.progress import counts, percent, processed, refresh_totals, wire_count
from importops.importers import slack, slack_counting
from importops.models import ImportFailure, ImportOperation, Room, RoomImportId, Status, User
from tests.engine.violence import Workers
from tests.exports import (
    slack_dm,
    slack_file,
    slack_message,
    slack_room,
    slack_user,
    slack_zip,
)
from tests.journeys import import_all

pytestmark = pytest.mark.django_db

PEOPLE = ["U1", "U2", "U3", "U4"]
ROOMS = ["C1", "C2", "G1", "D1"]
BROKEN: list[Any] = [17, None, "text", [], {}, {"id": ""}, {"id": 7}, {"name": "nobody"}]
FOLDERS = {"C1": "general", "C2": "random", "G1": "secret", "D1": "D1"}
DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
TIMES = [f"{1704067200 + hour * 3600}.000{number}00" for hour in (1, 30, 60) for number in (1, 2)]


def user() -> st.SearchStrategy[Any]:
    good = st.builds(
        lambda key, deleted: slack_user(key, key.lower(), deleted=deleted),
        st.sampled_from(PEOPLE),
        st.booleans(),
    )
    nameless = st.just(slack_user("U9", "", profile={"real_name": "", "email": ""}))
    return st.one_of(good, good, good, nameless, st.sampled_from(BROKEN))


def room(prefix: str) -> st.SearchStrategy[Any]:
    ids = [key for key in ROOMS if key.startswith(prefix)]
    good = st.builds(
        lambda key, members: slack_room(key, FOLDERS[key], members),
        st.sampled_from(ids),
        st.lists(st.sampled_from([*PEOPLE, "U7"]), max_size=4),
    )
    return st.one_of(good, good, st.sampled_from(BROKEN))


def message() -> st.SearchStrategy[Any]:
    files = st.lists(st.sampled_from([slack_file("F1"), slack_file("F2"), 3, {}]), max_size=2)
    good = st.builds(
        lambda ts, author, files: slack_message(
            "hi", ts, author, **({"files": files} if files else {})
        ),
        st.sampled_from(TIMES),
        st.sampled_from([*PEOPLE, "U8", None]),
        files,
    )
    odd = st.sampled_from(
        [
            1,
            None,
            {"type": "message"},
            slack_message(ts="never"),
            slack_message(ts=None),
            slack_message(subtype="channel_join"),
            slack_message(subtype="tombstone"),
            slack_message(subtype="bot_message", user=None, bot_id="B1"),
        ]
    )
    return st.one_of(good, good, good, odd)


def days() -> st.SearchStrategy[Any]:
    day = st.one_of(st.lists(message(), max_size=6), st.just(b'[{"ts": "17'), st.just(b""))
    return st.dictionaries(st.sampled_from(DAYS), day, max_size=3)


exports = st.fixed_dictionaries(
    {
        "users": st.lists(user(), min_size=1, max_size=6).map(
            lambda users: [slack_user("U1", "u1"), *users]
        ),
        "channels": st.lists(room("C"), max_size=4),
        "groups": st.lists(room("G"), max_size=2),
        "dms": st.lists(st.just(slack_dm("D1", ["U1", "U2"])), max_size=2),
        "messages": st.dictionaries(
            st.sampled_from([*FOLDERS.values(), "unlisted"]), days(), max_size=5
        ),
    }
)
chosen = st.one_of(
    st.just({"all": True}),
    st.lists(st.sampled_from([*PEOPLE, *ROOMS, "__directMessages__"])).map(
        lambda ids: {"list": ids}
    ),
)
selections = st.fixed_dictionaries(
    {"users": chosen, "channels": chosen},
    optional={"since": st.just("2024-01-02"), "until": st.just("2024-01-02")},
)


class Watcher:
    """Looks at an operation as a poll does, and holds each look against the one before."""

    def __init__(self, operation: ImportOperation) -> None:
        self.operation = operation
        self.before: dict[str, int] = {}

    def look(self) -> None:
        refresh_totals(self.operation.pk, force=True)
        self.operation.refresh_from_db()
        now = self.numbers()
        fell = {key: (was, now[key]) for key, was in self.before.items() if now.get(key, 0) < was}
        assert not fell, f"these went back: {fell}"
        self.before = now

    def numbers(self) -> dict[str, int]:
        operation = self.operation
        numbers = {}
        for kind, number in counts(operation).items():
            numbers |= {f"{kind}.{outcome}": value for outcome, value in number.items()}
            dealt_with = sum(number.values()) - number["total"]
            assert not operation.has_started or dealt_with <= number["total"], (kind, number)
        if operation.has_started:
            count = wire_count(operation)
            assert count is not None
            shown = count["completed"] + count["error"] + count["skipped"]
            assert shown <= count["total"], count
            done, total = processed(operation.tally)
            assert done.records <= total.records and done.effort <= total.effort
            share = percent(operation)
            assert operation.status == Status.DONE or (share or 0) < 100
            numbers |= {"shown": shown, "done": done.records, "percent": share or 0}
        return numbers


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Many slices and many batches out of a handful of records."""
    monkeypatch.setattr(slack, "SPAN_ENTRIES", 2)
    monkeypatch.setattr(slack, "CHUNK_RECORDS", 2)
    monkeypatch.setattr(slack_counting, "SCAN_ENTRIES", 1)
    monkeypatch.setattr(preparing, "STAGED_AT_ONCE", 2)
    monkeypatch.setattr(importing_users, "USERS_AT_ONCE", 2)
    monkeypatch.setattr(importing_rooms, "ROOMS_AT_ONCE", 2)
    monkeypatch.setattr(importing_rooms, "MEMBERS_AT_ONCE", 2)
    ours = settings.IMPORTOPS
    settings.IMPORTOPS = type(ours)(
        **{name: getattr(ours, name) for name in ours.__dataclass_fields__} | {"batch_rows": 3}
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


# Who is killed closes no cursor.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    export=exports,
    earlier=st.none() | exports,
    selection=selections,
    public_here=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_whatever_comes_in_whatever_order_adds_up_and_never_goes_back(
    small_pieces: None,
    alice: User,
    folder: Path,
    export: dict[str, Any],
    earlier: dict[str, Any] | None,
    selection: dict[str, Any],
    public_here: bool,
    seed: int,
) -> None:
    with transaction.atomic():
        if public_here:
            room = Room.objects.create(type="c", name="ours", name_key="ours")
            RoomImportId.objects.create(room=room, source="slack", import_id="G1")
        if earlier is not None:
            import_all(slack_zip(folder / "earlier.zip", **earlier), alice)
        path = slack_zip(folder / "export.zip", **export)
        operation = create_operation_in_place(user=alice, importer_key="slack", path=path)
        watcher = Watcher(operation)
        workers = Workers(operation, Random(seed), watcher.look)
        workers.run()
        assert operation.status == Status.USER_SELECTION, operation.error
        start_operation(operation, selection, alice, queue=False)
        watcher.look()
        workers.run()
        watcher.look()
        assert_it_adds_up(operation)
        transaction.set_rollback(True)


def assert_it_adds_up(operation: ImportOperation) -> None:
    assert (operation.status, operation.error) == (Status.DONE, "")
    assert percent(operation) == 100
    for kind, number in counts(operation).items():
        assert sum(number.values()) == 2 * number["total"], (kind, number)
    count = wire_count(operation)
    assert count is not None
    assert count["completed"] + count["error"] + count["skipped"] == count["total"]
    done, total = processed(operation.tally)
    assert done == total
    assert not [note for note in operation.notes if "dealt with" in note]
    failed = sum(counts(operation)[kind]["failed"] for kind in ("users", "channels", "messages"))
    assert ImportFailure.objects.of(operation).exclude(kind="file").count() == failed
