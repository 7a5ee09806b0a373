"""Whatever mixture of exports came in on top of whatever was there: undone in reverse, nothing is left."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from importops.actions.undoing import rollback_operation
from importops.engine.progress import counts, report
from importops.engine.running import run_operation
from importops.models import (
    File,
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
    slack_file,
    slack_message,
    slack_room,
    slack_user,
    slack_zip,
)
from tests.factories import MessageFactory, RoomFactory
from tests.journeys import adds_up, import_all

WORKSPACE = (User, UserEmail, UserImportId, Room, RoomImportId, Membership, Message, File)
pytestmark = pytest.mark.django_db

PEOPLE = {f"U{number}": f"person{number}" for number in range(8)}
ROOMS = {f"C{number}": f"room{number}" for number in range(5)}


def random_export(path: Path, chance: random.Random) -> Path:
    """Some people, rooms and messages of one workspace. What two exports share is the same in both, so
    that the second updates nothing; a message may have files that it did not have before."""
    users = chance.sample(sorted(PEOPLE), chance.randint(1, 7))
    rooms = chance.sample(sorted(ROOMS), chance.randint(1, 4))
    pairs = {tuple(sorted(chance.sample(sorted(PEOPLE), 2))) for _ in range(3)}
    direct = {f"D{a}{b}": [a, b] for a, b in sorted(pairs)}
    messages: dict[str, dict[str, Any]] = {}
    for folder in [*(ROOMS[room] for room in rooms), *direct]:
        for at in sorted(chance.sample(range(30), chance.randint(0, 12))):
            files = [slack_file(f"F{n}") for n in range(3) if chance.random() < 0.2]
            author = f"U{(at * 7 + len(folder)) % 10}"  # U8 and U9 are in no list
            message = slack_message(f"<@U{at % 8}> {at}", f"17041896{at:02}.000100", user=author)
            if files:
                message["files"] = files
            messages.setdefault(folder, {}).setdefault("2024-01-02", []).append(message)
    return slack_zip(
        path,
        users=[slack_user(user, PEOPLE[user]) for user in users],
        channels=[
            slack_room(room, ROOMS[room], chance.sample(users, chance.randint(1, len(users))))
            for room in rooms
        ],
        dms=[slack_dm(key, members) for key, members in direct.items()],
        messages=messages,
    )


def fill_by_hand(chance: random.Random) -> None:
    """Accounts that the exports will recognise, a room of the same name, and what was said there."""
    for user_id in chance.sample(sorted(PEOPLE), 2):
        name = PEOPLE[user_id]
        user = User.objects.create_user(name, name="By hand", utc_offset=1.0)
        UserEmail.objects.create(user=user, address=f"{name}@example.com")
        room = RoomFactory.create(name=f"room{chance.randint(0, 9)}{user_id}")
        Membership.objects.create(room=room, user=user)
        MessageFactory.create(room=room, author=user)
    RoomFactory.create(name="room1")


def rows() -> dict[str, set[int]]:
    """Which rows there are, whatever an update may have changed in them."""
    return {
        model.__name__: set(model._default_manager.values_list("pk", flat=True))
        for model in WORKSPACE
    }


@pytest.mark.parametrize("seed", range(6))
def test_undone_in_reverse_nothing_is_left(seed: int, alice: User, tmp_path: Path) -> None:
    chance = random.Random(seed)
    fill_by_hand(chance)
    before, imports = [], []
    for number in range(3):
        before.append((rows(), canonical_dump()))
        path = random_export(tmp_path / f"{number}.zip", chance)
        imports.append(import_all(path, alice))
    for target in reversed(imports):
        undo = rollback_operation(target, alice, queue=False)
        run_operation(undo)
        assert undo.status == Status.DONE
        assert adds_up(undo), undo.tally
        rows_before, dump_before = before.pop()
        assert rows() == rows_before
        # A placeholder that became a person, say, is an update, which stays.
        if not report(undo)["undo"]["updatesKept"]:
            assert canonical_dump() == dump_before
        removed = {kind: number["removed"] for kind, number in counts(undo).items()}
        assert removed["messages"] == counts(target)["messages"]["created"]
        assert removed["files"] == counts(target)["files"]["created"]


@pytest.mark.parametrize("seed", range(100, 104))
def test_undone_first_to_last_only_what_others_use_is_left(
    seed: int, alice: User, tmp_path: Path
) -> None:
    """What a later import brought is all there after each step, and everything kept has a reason."""
    chance = random.Random(seed)
    fill_by_hand(chance)
    imports = [
        import_all(random_export(tmp_path / f"{number}.zip", chance), alice) for number in range(3)
    ]
    for position, target in enumerate(imports):
        later = [operation.pk for operation in imports[position + 1 :]]
        theirs = [
            list(model.objects.filter(operation__in=later).order_by("pk").values_list("pk"))
            for model in (User, Room, Message, File, Membership)
        ]
        undo = rollback_operation(target, alice, queue=False)
        run_operation(undo)
        assert undo.status == Status.DONE
        assert adds_up(undo), undo.tally
        assert theirs == [
            list(model.objects.filter(operation__in=later).order_by("pk").values_list("pk"))
            for model in (User, Room, Message, File, Membership)
        ]
        left = User.objects.filter(operation=target).count()
        assert left == counts(undo)["users"]["skipped"]
        assert not missing_authors()


def missing_authors() -> set[int]:
    """No constraint says so: every author has to be there."""
    authors = set(Message.objects.values_list("author_id", flat=True))
    return authors - set(User.objects.filter(pk__in=authors).values_list("pk", flat=True))
