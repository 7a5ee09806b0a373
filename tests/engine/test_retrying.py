"""What failed, again, when the reason is gone: as if it had never been there."""

from __future__ import annotations

import contextlib
import random
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from importops.actions.operations import cancel_operation, resume_operation
from importops.actions.retrying import retry_failed
from importops.engine import importing_rooms, retrying, retrying_messages
from importops.engine.progress import counts, counts_of, skip_reasons, sum_tallies
from importops.engine.running import run_operation
from importops.engine.sources import fingerprint, index_path
from importops.errors import (
    FileMissing,
    InvalidOperationStatus,
    NothingFailed,
    OperationInProgress,
    OperationInvalid,
    SourceChanged,
    WorkerStopping,
)
from importops.importers import slack
from importops.models import (
    File,
    ImportFailure,
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
    json_bytes,
    slack_dm,
    slack_file,
    slack_message,
    slack_messages,
    slack_room,
    slack_user,
    slack_zip,
)
from tests.factories import ImportFailureFactory, ImportOperationFactory, RoomFactory
from tests.journeys import adds_up, import_all, prepare, start

pytestmark = pytest.mark.django_db

LONG = "x" * 5000


@pytest.fixture
def strict(settings: Settings) -> None:
    """Records over 2 KB are refused."""
    settings.IMPORTOPS = replace(settings.IMPORTOPS, max_record_bytes=2048, refresh_seconds=0.001)


@pytest.fixture
def mend(settings: Settings) -> Callable[[], None]:
    """Raise the limit."""

    def raise_limits() -> None:
        settings.IMPORTOPS = replace(settings.IMPORTOPS, max_record_bytes=4 * 1024**2)

    return raise_limits


def retry(operation: ImportOperation, **which: str) -> int:
    number = retry_failed(operation, queue=False, **which)
    run_operation(operation)
    return number


def empty_workspace() -> None:
    for model in (File, Message, Membership, RoomImportId, Room, UserEmail, UserImportId):
        model.objects.all().delete()
    User.objects.exclude(operation=None).delete()


def all_sums(operation: ImportOperation) -> dict[str, Any]:
    """Counts and reasons of skipping of every kind."""
    return {
        kind: (numbers, skip_reasons(operation.tally, kind))
        for kind, numbers in counts(operation).items()
    }


def damage(path: Path, *names: str, at: int = 0) -> Callable[[], None]:
    """Break entries of a zip, in their header, or `at` so many bytes into their data; call what comes
    back to mend them (for operations that were prepared before, too)."""
    good = path.read_bytes()
    broken = bytearray(good)
    with zipfile.ZipFile(path) as archive:
        for info in map(archive.getinfo, names):
            data = info.header_offset + 30 + len(info.filename)
            broken[data + at if at else info.header_offset] ^= 0xFF
    path.write_bytes(broken)

    def restore() -> None:
        path.write_bytes(good)
        take_as_unchanged(path)

    return restore


def flawed_export(path: Path, seed: int) -> Path:
    """Days with records that are too large, beside good ones."""
    r = random.Random(seed)
    messages: dict[str, dict[str, list[Any]]] = {}
    clock = count(1_704_189_600)
    for room in ("general", "plans", "D10000000"):
        for day in range(1, r.randint(2, 5)):
            some: list[Any] = []
            for _ in range(r.randint(0, 6)):
                ts = f"{next(clock)}.000100"
                text = LONG if r.random() < 0.3 else "y" * r.randint(1, 900)
                message = slack_message(text, ts, user=r.choice(["U1", "U2", "W1", None]))
                kind = r.random()
                if kind < 0.1:
                    message["subtype"] = "bot_add"
                elif kind < 0.15:
                    message["ts"] = "soon"
                if r.random() < 0.3:
                    message["files"] = [slack_file(r.choice(["F1", f"F{ts}"]))]
                if r.random() < 0.1 and some:
                    message = r.choice(some)
                some.append(message)
            messages.setdefault(room, {})[f"2024-01-{day:02}"] = some
    return slack_zip(
        path,
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "general", ["U1", "U2"])],
        groups=[slack_room("G1", "plans", ["U1"])],
        dms=[slack_dm("D10000000", ["U1", "U2"])],
        messages=messages,
    )


@pytest.fixture
def small_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "CHUNK_RECORDS", 3)
    monkeypatch.setattr(slack, "SPAN_BYTES", 3000)
    monkeypatch.setattr(retrying_messages, "PLACES_AT_ONCE", 2)
    monkeypatch.setattr(retrying_messages, "STRETCHES_AT_ONCE", 2)


@pytest.mark.usefixtures("strict", "small_pieces")
@pytest.mark.parametrize("seed", range(8))
def test_a_retry_ends_as_an_import_without_the_flaw(
    seed: int, tmp_path: Path, alice: User, mend: Callable[[], None], settings: Settings
) -> None:
    r = random.Random(seed)
    limits = settings.IMPORTOPS
    path = flawed_export(tmp_path / "export.zip", seed)
    selection = {"users": {"all": True}, "channels": {"all": True}}
    if r.random() < 0.3:
        selection |= {"since": "2024-01-02T10:00:20"}  # type: ignore[dict-item]
    made_public = r.random() < 0.6

    def people_have_a_public_room_that_is_private_there() -> None:
        room = RoomFactory.create(name="plans", type="c")
        RoomImportId.objects.create(room=room, source="slack", import_id="G1")

    if made_public:
        people_have_a_public_room_that_is_private_there()
        Room.objects.update(type="p")
    mend()
    undisturbed = import_all(path, alice, selection)
    expected, dump = all_sums(undisturbed), canonical_dump()
    empty_workspace()
    settings.IMPORTOPS = limits
    with zipfile.ZipFile(path) as archive:
        days = [name for name in archive.namelist() if "/" in name]
    restore = damage(path, *r.sample(days, len(days) // 3))
    if made_public:
        people_have_a_public_room_that_is_private_there()
    operation = import_all(path, alice, selection)
    assert adds_up(operation)
    assert operation.tally["messages.failed"]
    # Once with the reason still there, which changes nothing.
    before, failed = all_sums(operation), failures_of(operation)
    retry(operation)
    assert all_sums(operation) == before
    assert failures_of(operation) == failed
    mend()
    restore()
    Room.objects.filter(type="c", name="plans").update(type="p")
    retry_failed(operation, queue=False)
    disturb(operation, r)

    assert operation.status == Status.DONE
    assert all_sums(operation) == expected
    assert canonical_dump() == dump
    assert failures_of(operation) == failures_of(undisturbed)
    assert not operation.failures.filter(retrying=True).exists()
    kept = operation.failures.values_list("raw", flat=True)
    assert operation.tally.get("raw", 0) == sum(map(len, kept))


def failures_of(operation: ImportOperation) -> list[tuple[str, str]]:
    return sorted(ImportFailure.objects.of(operation).values_list("place", "code"))


def disturb(operation: ImportOperation, r: random.Random) -> None:
    """Bring the operation to its end with workers that stop, and people who cancel, at any batch."""
    for _ in range(60):
        calls = count(1)
        last = r.randint(1, 6)

        def stop(calls: Any = calls, last: int = last) -> bool:
            assert_adds_up(operation)
            return next(calls) >= last

        with contextlib.suppress(WorkerStopping):
            run_operation(operation, stop=stop)
        operation.refresh_from_db()
        if operation.finished_at:
            return
        if r.random() < 0.5:
            cancel_operation(operation)
            assert operation.status == Status.CANCELLED
            assert_adds_up(operation)
            resume_operation(operation, queue=False)
    run_operation(operation)


def assert_adds_up(operation: ImportOperation) -> None:
    """At every moment of a retry nothing is counted twice, and nothing not at all."""
    operation.refresh_from_db()
    tally = sum_tallies(operation.base_tally, operation.slices.all())
    for kind, n in counts_of(tally).items():
        assert n["created"] + n["updated"] + n["skipped"] + n["failed"] == n["total"], (kind, n)
    shown = ImportFailure.objects.of(operation).count()
    assert shown == sum(n["failed"] for n in counts_of(tally).values())


@pytest.mark.usefixtures("strict")
def test_only_what_was_asked_for_is_tried(
    tmp_path: Path, alice: User, mend: Callable[[], None]
) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        messages={
            "general": {
                "2024-01-02": [slack_message(LONG), slack_message("bad", "soon")],
                "2024-01-03": slack_messages(10) * 3,
            }
        },
    )
    restore = damage(path, "general/2024-01-03.json")
    operation = import_all(path, alice)
    codes = {failure.code for failure in ImportFailure.objects.of(operation)}
    assert len(codes) == 3
    mend()
    restore()
    with pytest.raises(NothingFailed):
        retry_failed(operation, kind="user", queue=False)
    with pytest.raises(NothingFailed):
        retry_failed(operation, code="importer-other", queue=False)
    assert operation.status == Status.DONE
    assert retry(operation, kind="message", code="importer-entry-unreadable") == 1

    assert Message.objects.count() == 10
    assert counts(operation)["messages"] == {
        "total": 32,
        "created": 10,
        "updated": 0,
        "skipped": 20,
        "failed": 2,
    }


@pytest.mark.usefixtures("strict")
def test_a_mended_user_and_the_rest_of_the_users_phase(tmp_path: Path, alice: User) -> None:
    path = slack_zip(tmp_path / "export.zip", users=[slack_user("U1", "ann"), slack_user("U2", "")])
    operation = prepare(path, alice)
    row = operation.staged.get(import_id="U2")
    row.data = {"import_ids": ["U2"], "place": "users.json[1]"}
    row.save()
    start(operation)
    assert counts(operation)["users"]["failed"] == 1
    assert retry(operation) == 1
    assert counts(operation)["users"]["failed"] == 1
    row.refresh_from_db()
    row.data["emails"] = ["ben@example.com"]
    row.save()
    assert retry(operation) == 1

    assert counts(operation)["users"] == {
        "total": 2,
        "created": 2,
        "updated": 0,
        "skipped": 0,
        "failed": 0,
    }
    assert User.objects.filter(username="ben").exists()
    assert adds_up(operation)
    row.refresh_from_db()
    assert row.status == "created"


def test_a_room_made_private_comes_with_members_and_messages(
    tmp_path: Path, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing_rooms, "MEMBERS_AT_ONCE", 2)
    monkeypatch.setattr(retrying, "MEMBERS_AT_ONCE", 2)
    room = RoomFactory.create(name="plans", type="c")
    RoomImportId.objects.create(room=room, source="slack", import_id="G1")
    members = [f"U{n}" for n in range(5)]
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user(member, f"user{member}") for member in members],
        groups=[slack_room("G1", "plans", members), slack_room("G2", "other", members)],
        messages={name: {"2024-01-02": slack_messages(3)} for name in ("plans", "other")},
    )
    operation = import_all(path, alice)
    assert skip_reasons(operation.tally, "messages") == {"room-failed": 3}
    Room.objects.filter(pk=room.pk).update(type="p")
    retry_failed(operation, queue=False)
    disturb(operation, random.Random(1))

    assert counts(operation)["channels"] == {
        "total": 2,
        "created": 1,
        "updated": 1,
        "skipped": 0,
        "failed": 0,
    }
    assert counts(operation)["messages"]["created"] == 6
    assert skip_reasons(operation.tally, "messages") == {}
    assert room.memberships.count() == 5
    assert not ImportFailure.objects.of(operation).exists()


def test_an_entry_that_could_not_be_read_to_its_end(
    tmp_path: Path, alice: User, strict: None
) -> None:
    r = random.Random(3)
    texts = ["".join(r.choices("abcdefghijklmnop", k=900)) for _ in range(700)]
    day = [slack_message(text, f"{1704300000 + n}.000100") for n, text in enumerate(texts)]
    path = slack_zip(tmp_path / "export.zip", channels=[slack_room("C1", "general", [])])
    damaged_at = add_in_two_blocks(path, "general/2024-01-02.json", json_bytes(day))
    good = path.read_bytes()
    # A kind of block that does not exist.
    path.write_bytes(good[:damaged_at] + b"\x07" + good[damaged_at + 1 :])
    operation = import_all(path, alice)
    came = Message.objects.count()
    failure = ImportFailure.objects.of(operation).get()
    assert failure.place == f"general/2024-01-02.json[{came}:]"
    assert 0 < came < 700
    assert counts(operation)["messages"]["total"] == came + 1
    path.write_bytes(good)
    take_as_unchanged(path)
    retry(operation)

    assert counts(operation)["messages"] == {
        "total": 700,
        "created": 700,
        "updated": 0,
        "skipped": 0,
        "failed": 0,
    }
    assert set(Message.objects.values_list("text", flat=True)) == set(texts)


def add_in_two_blocks(path: Path, name: str, content: bytes) -> int:
    """Put an entry into a zip whose packed data can be damaged without an effect on its first half;
    where its second half begins in the file."""
    half = len(content) // 2
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        file: Any = archive.open(name, "w")
        file.write(content[:half])
        rest = file._compressor.flush(zlib.Z_FULL_FLUSH)
        file._fileobj.write(rest)
        file._compress_size += len(rest)
        begins = file._fileobj.tell()
        file.write(content[half:])
        file.close()
    return int(begins)


def test_what_a_damaged_entry_gave_before_its_checksum_stays(
    tmp_path: Path, alice: User, strict: None
) -> None:
    """Nothing is missing then: the failure was about the entry alone, and goes without a record."""
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        messages={"general": {"2024-01-02": slack_messages(40)}},
    )
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        crc = archive.getinfo("general/2024-01-02.json").CRC
    wrong = (crc ^ 1).to_bytes(4, "little")
    path.write_bytes(good.replace(crc.to_bytes(4, "little"), wrong))
    operation = import_all(path, alice)
    assert ImportFailure.objects.of(operation).get().place == "general/2024-01-02.json[40:]"
    assert counts(operation)["messages"]["total"] == 41
    path.write_bytes(good)
    take_as_unchanged(path)
    index_path(operation).unlink()
    retry(operation)
    assert counts(operation)["messages"]["total"] == Message.objects.count() == 40
    assert adds_up(operation)


@pytest.mark.usefixtures("strict")
def test_authors_of_what_could_not_be_read_are_met(
    tmp_path: Path, alice: User, mend: Callable[[], None]
) -> None:
    profile = {"name": "gina", "real_name": "Gina Guest"}
    path = slack_zip(
        tmp_path / "export.zip",
        channels=[slack_room("C1", "general", [])],
        messages={
            "general": {"2024-01-02": [slack_message(LONG, user="W9", user_profile=profile)]}
        },
    )
    operation = import_all(path, alice)
    mend()
    retry(operation)
    assert Message.objects.get().author.username == "gina"
    assert operation.tally["placeholders"] == 1


def test_when_nothing_failed_it_says_so(tmp_path: Path, alice: User) -> None:
    operation = import_all(slack_zip(tmp_path / "export.zip", users=[slack_user("U1", "a")]), alice)
    with pytest.raises(NothingFailed):
        retry_failed(operation, queue=False)
    operation.refresh_from_db()
    assert operation.status == Status.DONE


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (Status.CANCELLED, InvalidOperationStatus, "resume"),
        (Status.FAILED, InvalidOperationStatus, "resume"),
        (Status.USER_SELECTION, InvalidOperationStatus, "finished"),
        (Status.IMPORTING_MESSAGES, OperationInProgress, "running"),
    ],
)
def test_an_operation_that_is_not_done_is_refused(
    status: Status, error: Any, word: str, alice: User
) -> None:
    operation = ImportOperationFactory.create(status=status)
    with pytest.raises(error, match=word):
        retry_failed(operation, queue=False)


def test_what_was_not_asked_for_and_what_cannot_be_found_stay_failures(
    tmp_path: Path, alice: User
) -> None:
    path = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        messages={"general": {"2024-01-02": [slack_message(ts="soon")]}},
    )
    operation = prepare(path, alice)
    row = operation.staged.get(import_id="U1")
    row.data = {"import_ids": ["U1"], "place": "users.json[0]"}
    row.save()
    start(operation)
    gone = ImportFailureFactory.create(operation=operation, place="gone/2024-01-02.json[3]")
    before = all_sums(operation)
    assert retry(operation, kind="message") == 2

    assert operation.status == Status.DONE
    assert all_sums(operation) == before
    gone.refresh_from_db()
    assert gone.retrying is False


@pytest.mark.usefixtures("strict")
def test_what_is_in_the_way_is_named(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip", messages={"general": {"2024-01-02": [slack_message(LONG)]}}
    )
    operation = import_all(path, alice)
    other = ImportOperationFactory.create(status=Status.IMPORTING_USERS)
    with pytest.raises(OperationInProgress, match=other.public_id):
        retry_failed(operation, queue=False)
    ImportOperation.objects.filter(pk=other.pk).update(status=Status.USER_SELECTION)
    with pytest.raises(OperationInvalid, match=other.public_id):
        retry_failed(operation, queue=False)
    other.delete()
    path.write_bytes(b"another file")
    with pytest.raises(SourceChanged):
        retry_failed(operation, queue=False)
    operation.refresh_from_db()
    assert operation.status == Status.DONE
    assert not operation.failures.filter(retrying=True).exists()


@pytest.mark.sqlite  # elsewhere another machine may have it
def test_a_retry_without_the_export_is_refused(tmp_path: Path, alice: User) -> None:
    path = slack_zip(
        tmp_path / "export.zip", messages={"general": {"2024-01-02": [slack_message(LONG)]}}
    )
    operation = import_all(path, alice)
    path.unlink()
    with pytest.raises(FileMissing):
        retry_failed(operation, queue=False)
    operation.refresh_from_db()
    assert operation.status == Status.DONE
    assert not operation.failures.filter(retrying=True).exists()


def take_as_unchanged(path: Path) -> None:
    """As if the export had been like this all the time: what was wrong was not the file."""
    with path.open("rb") as file:
        ImportOperation.objects.update(fingerprint=fingerprint(file))
