"""A dry run tells what the import then does, and does none of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone

from importops.actions.operations import cancel_operation, resume_operation, start_operation
from importops.actions.previewing import preview_operation
from importops.engine import (
    importing_rooms,
    importing_users,
    previewing,
    previewing_messages,
)
from importops.engine.previewing import preview_state
from importops.engine.progress import counts, counts_of, refresh_totals
from importops.engine.running import run_operation, run_slice
from importops.engine.slices import Work, claim_slice
from importops.errors import SliceLost, WorkerStopping
from importops.importers import slack
from importops.models import (
    ImportFailure,
    ImportSlice,
    Phase,
    Room,
    RoomImportId,
    Status,
    User,
)
from importops.tasks.sweeper import Sweeper
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
from tests.journeys import EVERYTHING, adds_up, import_all, prepare, preview, start, without_times

pytestmark = pytest.mark.django_db

OPERATIONS_OWN = {"ImportOperation", "ImportSlice", "StagedRecord", "ImportFailure"}


def every_row() -> dict[str, list[Any]]:
    """All tables of ours but the operation's own, and Django's."""
    rows = {}
    for model in apps.get_models(include_auto_created=True):
        if model.__name__ not in OPERATIONS_OWN:
            rows[model._meta.db_table] = sorted(map(repr, model._base_manager.values_list()))
    return rows


def told(tally: dict[str, int]) -> dict[str, dict[str, int]]:
    """Counts in which updated and skipped are one: a dry run does not compare messages."""
    return {
        kind: {
            "total": n["total"],
            "created": n["created"],
            "failed": n["failed"],
            "other": n["updated"] + n["skipped"],
        }
        for kind, n in counts_of(tally).items()
    }


class Workspace:
    """A workspace somewhere else, that exports are made of: with everything that goes wrong."""

    NAMES = ["ann", "Ben", "cleo", "dora", "ann", "eve.", "john", "john"]

    def __init__(self, seed: int, folder: Path) -> None:
        self.r = random.Random(seed)
        self.folder = folder
        r = self.r
        self.users = [self.user(n) for n in range(r.randint(1, 9))]
        ids = [user["id"] for user in self.users]
        self.ids = [*ids, "W1", "W2"]
        self.rooms = [
            (
                r.choice(["channels", "channels", "groups"]),
                slack_room(f"C{n}", name, self.some(ids)),
            )
            for n, name in enumerate(r.sample(["general", "plans", "Ops", "x1", "x2"], 4))
        ]
        self.dms = [slack_dm(f"D{n}00000000", self.some(self.ids)[:3]) for n in range(3)]
        if r.random() < 0.5:
            self.dms[1]["members"] = self.dms[0]["members"]
        self.days: dict[str, dict[str, list[Any]]] = {}
        self.clock = 1_704_189_600
        self.week()

    def some(self, items: list[str]) -> list[str]:
        return self.r.sample(items, self.r.randint(1, len(items)))

    def user(self, n: int) -> dict[str, Any]:
        r, name = self.r, self.r.choice(self.NAMES)
        fields: dict[str, Any] = {"profile": {"email": f"{name}{r.choice(['', '2'])}@example.com"}}
        if r.random() < 0.3:
            fields["profile"]["email"] = None
        if r.random() < 0.2:
            fields |= {"is_admin": True}
        user = slack_user(f"U{n}", name, **fields)
        if r.random() < 0.15:
            user["name"] = ""
            user["profile"] = {}
        return user

    def week(self) -> None:
        """More days for some rooms."""
        names = [room["name"] for _, room in self.rooms] + [dm["id"] for dm in self.dms]
        for name in names:
            for _ in range(self.r.randint(0, 3)):
                self.clock += 86_400
                day = f"2024-01-{(self.clock - 1_704_067_200) // 86_400 % 28 + 1:02}"
                self.days.setdefault(name, {})[day] = self.day()
        self.clock += 86_400

    def day(self) -> list[Any]:
        r, messages = self.r, []
        for n in range(r.randint(0, 6)):
            ts = f"{self.clock + n}.000{r.randint(100, 999)}"
            message: Any = slack_message(f"text {n}", ts, user=r.choice(self.ids))
            kind = r.random()
            if kind < 0.1:
                message["ts"] = "soon"
            elif kind < 0.15:
                message = 17
            elif kind < 0.25:
                message["subtype"] = r.choice(["bot_add", "channel_join", "file_share"])
            if isinstance(message, dict) and r.random() < 0.25:
                ids = [r.choice(["F1", "F2", f"F{ts}"]) for _ in range(r.randint(1, 3))]
                message["files"] = [slack_file(file_id) for file_id in ids]
            messages.append(message)
            if messages and r.random() < 0.12:
                messages.append(r.choice(messages))
        return messages

    def export(self, name: str) -> Path:
        if self.r.random() < 0.3 and len(self.days) > 1:
            # A message that is in two files of a room.
            days = self.days[self.r.choice(sorted(self.days))]
            if len(days) > 1 and (first := min(days)) and days[first]:
                days[max(days)].append(days[first][0])
        return slack_zip(
            self.folder / name,
            users=self.users,
            channels=[room for kind, room in self.rooms if kind == "channels"],
            groups=[room for kind, room in self.rooms if kind == "groups"],
            dms=self.dms,
            messages=self.days,
        )

    def selection(self) -> dict[str, Any]:
        r = self.r
        selection: dict[str, Any] = {"users": {"all": True}, "channels": {"all": True}}
        if r.random() < 0.4:
            selection["users"] = {"list": self.some(self.ids)}
        if r.random() < 0.4:
            rooms = [room["id"] for _, room in self.rooms] + ["__directMessages__"]
            selection["channels"] = {"list": self.some(rooms)}
        if r.random() < 0.3:
            selection["since"] = f"2024-01-0{r.randint(2, 8)}"
        if r.random() < 0.3:
            selection["until"] = f"2024-01-1{r.randint(0, 9)}"
        return selection

    def settle_in(self) -> None:
        """People and rooms that are here before any import."""
        r = self.r
        addresses = ["ann@example.com", "john@example.com", "ben2@example.com", "zoe@example.com"]
        r.shuffle(addresses)
        for name in r.sample(["ann", "ben", "john", "zoe"], r.randint(0, 3)):
            user = UserFactory.create(username=name)
            if r.random() < 0.7:
                UserEmailFactory.create(user=user, address=addresses.pop())
        for name in r.sample(["general", "plans", "ops"], r.randint(0, 2)):
            RoomFactory.create(name=name, type=r.choice(["c", "p"]))

    def move_on(self) -> None:
        """A week later: people come, rooms become private, messages are added."""
        self.users.append(self.user(20 + len(self.users)))
        for number, (kind, room) in enumerate(self.rooms):
            if kind == "channels" and self.r.random() < 0.2:
                self.rooms[number] = ("groups", room)
        self.week()


@pytest.fixture
def small_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, chunks and parts of a few records, so that what spans several is met."""
    monkeypatch.setattr(importing_users, "USERS_AT_ONCE", 2)
    monkeypatch.setattr(previewing, "USERS_AT_ONCE", 2)
    monkeypatch.setattr(importing_rooms, "ROOMS_AT_ONCE", 2)
    monkeypatch.setattr(previewing, "ROOMS_AT_ONCE", 2)
    monkeypatch.setattr(previewing_messages, "COMMIT_AFTER", 5)
    monkeypatch.setattr(previewing_messages, "KEYS_AT_ONCE", 2)
    if getattr(request.node, "callspec", None) and request.node.callspec.params["seed"] % 2:
        monkeypatch.setattr(slack, "SPAN_BYTES", 700)
    monkeypatch.setattr(slack, "CHUNK_RECORDS", 3)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(12))
def test_its_counts_are_those_of_the_import(seed: int, tmp_path: Path, alice: User) -> None:
    there = Workspace(seed, tmp_path)
    there.settle_in()
    for number in range(3):
        operation = prepare(there.export(f"{number}.zip"), alice)
        before, rows = canonical_dump(), every_row()
        preview(operation, there.selection())  # another one first: it leaves nothing behind
        selection = there.selection()
        preview(operation, selection)
        assert operation.preview["state"] == "done"
        assert canonical_dump() == before
        assert every_row() == rows
        assert operation.status == Status.USER_SELECTION
        promised = told(operation.preview["tally"])
        noted = dict(operation.staged.values_list("pk", "note"))
        start(operation, selection)
        assert operation.status == Status.DONE
        assert adds_up(operation)
        assert promised == told(operation.tally), (number, selection)
        for row in operation.staged.filter(selected=True):
            assert noted[row.pk].endswith(row.note), (noted[row.pk], row.note)
        users_and_rooms = ("users", "channels")
        mine = counts_of(operation.preview["tally"])
        assert {k: mine[k] for k in users_and_rooms} == {
            k: counts(operation)[k] for k in users_and_rooms
        }
        if number == 1 and there.r.random() < 0.5:
            # People made a room of theirs that the export knows.
            Room.objects.filter(type="c").update(operation=None)
        there.move_on()


def promised_and_done(operation: Any, selection: dict[str, Any] | None = None) -> Any:
    """What the dry run promised, after the import has kept it."""
    preview(operation, selection)
    promised = told(operation.preview["tally"])
    start(operation, selection)
    assert promised == told(operation.tally)
    return promised


@pytest.mark.usefixtures("small_pieces")
def test_accounts_found_by_earlier_batches_are_known_to_later_ones(
    tmp_path: Path, alice: User
) -> None:
    ann = UserFactory.create(username="ann", operation=None)
    UserEmailFactory.create(user=ann, address="first@example.com")
    path = slack_zip(
        tmp_path / "export.zip",
        users=[
            slack_user("U1", "annie", profile={"email": "first@example.com"}),
            slack_user("U2", "ben"),
            # The account ann is annie by now, so this is somebody else.
            slack_user("U3", "ann", profile={"email": None}),
            slack_user("U4", "BEN", profile={"email": "other@example.com"}),
            slack_user("U5", "cleo", profile={"email": "ben@example.com"}),
        ],
    )
    operation = prepare(path, alice)
    users = promised_and_done(operation)["users"]

    assert users == {"total": 5, "created": 3, "failed": 0, "other": 2}
    assert operation.preview["tally"]["users.found-by.email"] == 2


@pytest.mark.usefixtures("small_pieces")
def test_a_bot_that_a_direct_room_brings_is_a_member_of_later_rooms(
    tmp_path: Path, alice: User
) -> None:
    RoomFactory.create(name="zoo", type="c")
    channels = [slack_room("C1", "zoo", ["B1"])]
    first = slack_zip(tmp_path / "first.zip", channels=channels, messages={"zoo": {}})
    import_all(first, alice)
    bot = slack_user("B1", "robot", is_bot=True)
    path = slack_zip(
        tmp_path / "export.zip",
        users=[bot],
        channels=channels,
        dms=[slack_dm("D10000000", ["B1"])],
        messages={"D10000000": {"2024-01-02": [slack_message()]}},
    )
    nobody = {"users": {"list": []}, "channels": {"all": True}}
    operation = prepare(path, alice)
    promised_and_done(operation, nobody)

    assert counts_of(operation.preview["tally"])["channels"]["updated"] == 1


def test_two_rooms_of_the_export_that_become_one_have_no_message_twice(
    tmp_path: Path, alice: User
) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        dms=[slack_dm("D10000000", ["U1", "U2"]), slack_dm("D20000000", ["U2", "U1"])],
        messages={name: {"2024-01-02": [slack_message()]} for name in ("D10000000", "D20000000")},
    )
    messages = promised_and_done(prepare(path, alice))["messages"]
    assert messages == {"total": 2, "created": 1, "failed": 0, "other": 1}


@pytest.mark.usefixtures("small_pieces")
def test_it_may_be_stopped_anywhere_and_counts_nothing_twice(tmp_path: Path, alice: User) -> None:
    day = slack_messages(12)
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user(f"U{n}", f"user{n}") for n in range(5)],
        channels=[slack_room("C1", "general", ["U1"]), slack_room("C2", "other", ["U1"])],
        messages={
            "general": {"2024-01-02": day, "2024-01-03": day[:5], "2024-01-04": day[5:9]},
            "other": {"2024-01-02": slack_messages(9)},
        },
    )
    operation = prepare(path, alice)
    preview(operation)
    undisturbed = without_times(operation.preview["tally"])
    preview_operation(operation, EVERYTHING, alice, queue=False)
    stops = 0
    while operation.preview["state"] == "running" and stops < 100:
        with contextlib.suppress(WorkerStopping):
            # Later each time, so that it gets to its end although it begins again.
            run_operation(operation, stop=asked_for_the(2 + stops // 3))
        stops += 1
        operation.refresh_from_db()

    assert stops > 3
    assert without_times(operation.preview["tally"]) == undisturbed
    assert undisturbed["messages.skipped.duplicate"] == 9


def asked_for_the(time: int) -> Callable[[], bool]:
    """False until it was asked so many times."""
    calls = count(1)
    return lambda: next(calls) >= time


def test_the_numbers_of_the_operation_stay_those_of_preparing(tmp_path: Path, alice: User) -> None:
    path = slack_zip(tmp_path / "export.zip", users=[slack_user("U1", "ann")])
    operation = prepare(path, alice)
    before = operation.tally
    preview(operation)
    refresh_totals(operation.pk, force=True)
    operation.refresh_from_db()
    assert operation.tally == before


def test_the_import_wins_over_a_dry_run_that_is_going_on(tmp_path: Path, alice: User) -> None:
    path = slack_zip(tmp_path / "export.zip", users=[slack_user("U1", "ann")])
    operation = prepare(path, alice)
    preview_operation(operation, EVERYTHING, alice, queue=False)
    piece = claim_slice(operation.slices.get(phase=Phase.PREVIEWING).pk)
    assert piece is not None
    start_operation(operation, EVERYTHING, alice, queue=False)
    with pytest.raises(SliceLost):
        decide_as(piece)
    run_operation(operation)

    assert operation.status == Status.DONE and adds_up(operation)
    assert preview_state(operation) == "stopped"
    assert not operation.slices.filter(phase=Phase.PREVIEWING).exists()


def test_a_new_dry_run_takes_the_place_of_an_unfinished_one(tmp_path: Path, alice: User) -> None:
    path = slack_zip(tmp_path / "export.zip", users=[slack_user("U1", "ann")])
    operation = prepare(path, alice)
    preview_operation(operation, EVERYTHING, alice, queue=False)
    piece = claim_slice(operation.slices.get(phase=Phase.PREVIEWING).pk)
    assert piece is not None
    preview(operation, {"users": {"list": []}})
    with pytest.raises(SliceLost):
        decide_as(piece)

    assert operation.preview["state"] == "done"
    assert operation.preview["tally"]["users.skipped.deselected"] == 1


def decide_as(piece: ImportSlice) -> None:
    """What the worker that has `piece` does next."""
    previewing.preview(Work(piece, stop=lambda: False, on_batch=lambda: None))


def test_cancelled_and_resumed_it_goes_on_and_leaves_the_operation_ready(
    tmp_path: Path, alice: User
) -> None:
    path = slack_zip(tmp_path / "export.zip", users=[slack_user("U1", "ann")])
    operation = prepare(path, alice)
    preview_operation(operation, EVERYTHING, alice, queue=False)
    cancel_operation(operation)
    assert (operation.status, preview_state(operation)) == (Status.CANCELLED, "stopped")
    resume_operation(operation, queue=False)
    assert operation.status == Status.USER_SELECTION
    run_operation(operation)
    assert operation.preview["state"] == "done"
    start(operation)
    assert operation.status == Status.DONE


def test_the_sweeper_takes_up_what_a_dead_worker_left(tmp_path: Path, alice: User) -> None:
    path = slack_zip(tmp_path / "export.zip", users=[slack_user("U1", "ann")])
    operation = prepare(path, alice)
    preview_operation(operation, EVERYTHING, alice, queue=False)
    piece = claim_slice(operation.slices.get(phase=Phase.PREVIEWING).pk)
    assert piece is not None
    long_ago = timezone.now() - timedelta(minutes=5)
    operation.slices.update(lease_until=long_ago, look_again_at=long_ago)
    assert Sweeper().requeue_slices() == 1
    run_operation(operation)
    assert operation.preview["state"] == "done"


@pytest.mark.sqlite  # elsewhere another machine may have the file
def test_without_the_export_it_fails_alone(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        messages={"general": {"2024-01-02": [slack_message(), slack_message()]}},
    )
    operation = prepare(path, alice)
    away = path.rename(tmp_path / "away.zip")
    preview(operation)
    assert operation.status == Status.USER_SELECTION
    assert operation.preview["state"] == "failed"
    assert "is no longer there" in operation.preview["error"]
    away.rename(path)
    preview(operation)
    assert operation.preview["state"] == "done"


def test_what_a_dry_run_found_wrong_is_replaced_by_the_next_and_hidden_by_the_import(
    tmp_path: Path, alice: User
) -> None:
    RoomImportId.objects.create(
        room=RoomFactory.create(name="plans", type="c"), source="slack", import_id="G1"
    )
    path = slack_zip(
        tmp_path / "export.zip",
        groups=[slack_room("G1", "plans", [])],
        messages={"plans": {"2024-01-02": [slack_message(files=[slack_file("F1")])]}},
    )
    operation = prepare(path, alice)
    for _ in range(2):
        preview(operation)
        (problem,) = ImportFailure.objects.of(operation)
        assert (problem.stage, problem.code) == ("preview", "importer-channel-became-private")
        assert operation.preview["tally"]["messages.skipped.room-failed"] == 1
        assert operation.preview["tally"]["files.skipped.room-failed"] == 1
    preview(operation, {"users": {"all": True}})
    assert not ImportFailure.objects.of(operation).exists()
    preview(operation)
    start(operation)
    (problem,) = ImportFailure.objects.of(operation)
    assert problem.stage == "importing"


def test_workers_of_a_queue_do_all_of_it(tmp_path: Path, alice: User) -> None:
    """With nobody in the foreground: the slices that the first one makes are queued by it."""
    twice = [slack_message(), slack_message()]
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        messages={"general": {"2024-01-02": twice}},
    )
    operation = prepare(path, alice)
    preview_operation(operation, EVERYTHING, alice, queue=False)
    waiting = [operation.slices.get(phase=Phase.PREVIEWING).pk]
    while waiting:
        waiting += run_slice(waiting.pop())
    operation.refresh_from_db()
    assert operation.preview["state"] == "done"
    assert operation.preview["tally"]["messages.skipped.duplicate"] == 1
