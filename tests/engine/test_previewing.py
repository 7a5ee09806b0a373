"""A dry run tells what the import then does, and does none of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps

from importops.engine import (
    importing_rooms,
    importing_users,
    previewing,
    previewing_messages,
)
from importops.engine.progress import counts, counts_of
from importops.importers import slack
from importops.models import Room, Status, User
from tests.canonical import canonical_dump
from tests.exports import (
    slack_dm,
    slack_file,
    slack_message,
    slack_room,
    slack_user,
    slack_zip,
)
from tests.factories import RoomFactory, UserEmailFactory, UserFactory
from tests.journeys import adds_up, prepare, preview, start

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
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, chunks and parts of a few records, so that what spans several is met."""
    monkeypatch.setattr(importing_users, "USERS_AT_ONCE", 2)
    monkeypatch.setattr(previewing, "USERS_AT_ONCE", 2)
    monkeypatch.setattr(importing_rooms, "ROOMS_AT_ONCE", 2)
    monkeypatch.setattr(previewing, "ROOMS_AT_ONCE", 2)
    monkeypatch.setattr(previewing_messages, "COMMIT_AFTER", 5)
    monkeypatch.setattr(previewing_messages, "KEYS_AT_ONCE", 2)
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
        start(operation, selection)
        assert operation.status == Status.DONE
        assert adds_up(operation)
        assert promised == told(operation.tally), (number, selection)
        users_and_rooms = ("users", "channels")
        mine = counts_of(operation.preview["tally"])
        assert {k: mine[k] for k in users_and_rooms} == {
            k: counts(operation)[k] for k in users_and_rooms
        }
        if number == 1 and there.r.random() < 0.5:
            # People made a room of theirs that the export knows.
            Room.objects.filter(type="c").update(operation=None)
        there.move_on()
