"""A rollback removes exactly what one import created; what others use stays, and is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from importops.actions.accounts import issue_token
from importops.actions.operations import cancel_operation, resume_operation, start_operation
from importops.actions.undoing import rollback_operation
from importops.engine.progress import counts, report, skip_reasons
from importops.engine.running import run_operation
from importops.errors import (
    AlreadyUndone,
    ImportopsError,
    NothingToUndo,
    OperationInProgress,
    UndoUnfinished,
    WorkerStopping,
)
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
from tests.benchmarks.generate import build
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
from tests.factories import PASSWORD, ImportOperationFactory, MessageFactory, RoomFactory
from tests.journeys import EVERYTHING, adds_up, import_all, prepare

pytestmark = pytest.mark.django_db


def undo(target: ImportOperation, user: User) -> ImportOperation:
    operation = rollback_operation(target, user, queue=False)
    run_operation(operation)
    assert operation.status == Status.DONE, operation.error
    assert adds_up(operation), operation.tally
    target.refresh_from_db()
    return operation


def kept_codes(operation: ImportOperation) -> dict[str, str]:
    """place -> code."""
    return dict(ImportFailure.objects.of(operation).values_list("place", "code"))


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Ann and Ben, a public room, a direct one; a file, a stranger's message and a thread."""
    return slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "general", ["U1", "U2"])],
        dms=[slack_dm("D1", ["U1", "U2"])],
        messages={
            "general": {
                "2024-01-02": [
                    slack_message("one", "1704189600.000100", files=[slack_file("F1")]),
                    slack_message("<@U2> two", "1704189601.000100", user="U404"),
                ]
            },
            "D1": {"2024-01-02": slack_messages(3)},
        },
    )


def test_the_workspace_is_as_it_was_before(export: Path, alice: User, bob: User) -> None:
    room = RoomFactory.create(name="general")
    MessageFactory.create(room=room, author=bob)
    before = canonical_dump()
    target = import_all(export, alice)
    assert canonical_dump() != before
    operation = undo(target, alice)

    assert canonical_dump() == before
    assert target.rolled_back_at is not None
    numbers = counts(operation)
    assert {kind: number["removed"] for kind, number in numbers.items()} == {
        "users": 3,
        "channels": 1,
        "messages": 5,
        "files": 1,
    }
    assert not any(number["skipped"] or number["failed"] for number in numbers.values())
    assert operation.tally["memberships.removed"] == 4


def test_importing_again_creates_everything_again(export: Path, alice: User) -> None:
    first = import_all(export, alice)
    filled = canonical_dump()
    undo(first, alice)
    second = import_all(export, alice)

    assert canonical_dump() == filled
    assert counts(second) == counts(first)


def test_only_the_second_import_goes(export: Path, alice: User, tmp_path: Path) -> None:
    """Two exports of one workspace, which share users and rooms."""
    import_all(export, alice)
    before = canonical_dump()
    newer = slack_zip(
        tmp_path / "newer.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben"), slack_user("U3", "cem")],
        channels=[
            slack_room("C1", "general", ["U1", "U2", "U3"]),
            slack_room("C2", "plans", ["U3"]),
        ],
        messages={
            "general": {"2024-02-02": [slack_message("later", "1706868000.000100", user="U3")]},
            "plans": {"2024-02-02": [slack_message("plan", "1706868000.000100", user="U1")]},
        },
    )
    second = import_all(newer, alice)
    operation = undo(second, alice)

    assert canonical_dump() == before
    assert counts(operation)["messages"]["removed"] == 2


def test_a_file_that_an_import_added_to_an_older_message_goes_alone(
    export: Path, alice: User, tmp_path: Path
) -> None:
    first = import_all(export, alice)
    before = canonical_dump()
    again = slack_zip(
        tmp_path / "again.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "general", ["U1", "U2"])],
        messages={
            "general": {
                "2024-01-02": [
                    slack_message(
                        "one", "1704189600.000100", files=[slack_file("F1"), slack_file("F2")]
                    )
                ]
            }
        },
    )
    second = import_all(again, alice)
    assert File.objects.count() == 2
    undo(second, alice)
    assert canonical_dump() == before

    # The other way round: what the later import put files on stays.
    third = import_all(again, alice)
    operation = undo(first, alice)
    message = Message.objects.get()
    assert (message.operation_id, message.files.get().operation_id) == (first.pk, third.pk)
    assert kept_codes(operation)["message 1704189600.000100 in general"] == "kept-has-later-files"
    assert counts(operation)["messages"] | {"total": 5} == {
        "total": 5,
        "created": 0,
        "updated": 0,
        "removed": 4,
        "skipped": 1,
        "failed": 0,
    }


def test_what_a_later_import_uses_stays_and_is_found_again(
    export: Path, alice: User, tmp_path: Path
) -> None:
    first = import_all(export, alice)
    newer = slack_zip(
        tmp_path / "newer.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "general", ["U1", "U2"])],
        dms=[slack_dm("D1", ["U1", "U2"])],
        messages={
            "general": {"2024-02-02": [slack_message("later", "1706868000.000100")]},
            "D1": {"2024-02-02": [slack_message("later", "1706868000.000100")]},
        },
    )
    second = import_all(newer, alice)
    operation = undo(first, alice)

    direct = Room.objects.get(type="d")
    assert kept_codes(operation) == {
        "room general": "kept-has-messages",
        f"room {direct}": "kept-has-messages",
        "user ann": "kept-wrote-messages",
        "user ben": "kept-is-member",
    }
    assert set(Message.objects.values_list("text", flat=True)) == {"later"}
    assert direct.memberships.count() == 2
    # The later export lists them too.
    assert Room.objects.get(type="c").memberships.count() == 2
    assert not User.objects.filter(is_placeholder=True).exists()

    # Found by the ids that stayed: no second room, no second Ann.
    rooms, users = Room.objects.count(), User.objects.count()
    import_all(export, alice)
    assert (Room.objects.count(), User.objects.count()) == (rooms, users + 1)
    assert Message.objects.filter(operation=second).count() == 2


def sign_in(user: User) -> None:
    user.last_login = timezone.now()
    user.save(update_fields=["last_login"])


def set_password(user: User) -> None:
    user.set_password(PASSWORD)
    user.save(update_fields=["password"])


def make_staff(user: User) -> None:
    user.is_staff = True
    user.save(update_fields=["is_staff"])


def give_role(user: User) -> None:
    user.groups.add(user.groups.model.objects.get(name="admin"))


def edit(user: User) -> None:
    user.updated_at = user.created_at + timedelta(minutes=2)
    User.objects.filter(pk=user.pk).update(updated_at=user.updated_at)


def edit_in_the_admin(user: User) -> None:
    LogEntry.objects.create(
        user=User.objects.get(username="alice"),
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(user.pk),
        action_flag=CHANGE,
    )


def act_in_the_admin(user: User) -> None:
    LogEntry.objects.create(user=user, action_flag=CHANGE)


def join_by_hand(user: User) -> None:
    Membership.objects.create(room=RoomFactory.create(name="by hand"), user=user)


def make_room(user: User) -> None:
    RoomFactory.create(name="by hand", creator=user)


def run_imports(user: User) -> None:
    ImportOperationFactory.create(user=user)


def know_elsewhere(user: User) -> None:
    UserImportId.objects.create(user=user, source="csv", import_id="7")


@pytest.mark.parametrize(
    ("use", "code"),
    [
        (sign_in, "kept-signed-in"),
        (act_in_the_admin, "kept-signed-in"),
        (set_password, "kept-has-password"),
        (issue_token, "kept-has-token"),
        (make_staff, "kept-has-rights"),
        (give_role, "kept-has-rights"),
        (edit, "kept-edited"),
        (edit_in_the_admin, "kept-edited"),
        (join_by_hand, "kept-is-member"),
        (make_room, "kept-created-rooms"),
        (run_imports, "kept-ran-imports"),
        (know_elsewhere, "kept-user-known-elsewhere"),
    ],
)
def test_an_account_that_somebody_uses_stays(
    use: Callable[[User], Any], code: str, export: Path, alice: User
) -> None:
    target = import_all(export, alice)
    use(User.objects.get(username="ann"))
    operation = undo(target, alice)

    assert kept_codes(operation) == {"user ann": code}
    assert skip_reasons(operation.tally, "users") == {code: 1}
    ann = User.objects.get(username="ann")
    assert ann.emails.count() == 1
    assert ann.import_ids.filter(source="slack").count() == 1
    assert not User.objects.filter(username="ben").exists()


def test_ids_that_were_added_to_accounts_and_rooms_of_others_go(export: Path, alice: User) -> None:
    ann = User.objects.create_user("ann")
    UserEmail.objects.create(user=ann, address="ann@example.com")
    RoomFactory.create(name="general")
    before = canonical_dump()
    target = import_all(export, alice)
    assert UserImportId.objects.filter(user=ann).exists()
    operation = undo(target, alice)

    assert not UserImportId.objects.exists()
    assert not RoomImportId.objects.exists()
    changed = report(operation)["undo"]["updatesKept"]
    assert changed == {"users": 1, "channels": 1}
    # What the export filled in stays: that is an update.
    assert [line for line in canonical_dump() if '"user", "ann"' not in line] == [
        line for line in before if '"user", "ann"' not in line
    ]


def test_an_id_that_a_later_import_went_by_stays(export: Path, alice: User, tmp_path: Path) -> None:
    ann = User.objects.create_user("ann")
    room = RoomFactory.create(name="general")
    first = import_all(export, alice)
    newer = slack_zip(
        tmp_path / "newer.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-02-02": [slack_message("later", "1706868000.000100")]}},
    )
    import_all(newer, alice)
    operation = undo(first, alice)

    assert UserImportId.objects.get(user=ann).import_id == "U1"
    assert RoomImportId.objects.get(room=room).import_id == "C1"
    assert set(kept_codes(operation).values()) == {"kept-import-id-in-use"}
    assert operation.tally["import_ids.kept"] == 2


def test_stored_contents_go_from_storage(export: Path, alice: User) -> None:
    target = import_all(export, alice)
    file = File.objects.get()
    file.content.save("report.pdf", ContentFile(b"%PDF"))
    avatar = User.objects.get(username="ann").avatar
    avatar.save("ann.png", ContentFile(b"PNG"))
    operation = undo(target, alice)

    assert not default_storage.exists(file.content.name)
    assert not default_storage.exists(avatar.name)
    assert counts(operation)["files"]["removed"] == 1
    assert counts(operation)["users"]["removed"] == 3


def test_a_content_that_is_gone_is_no_error_and_one_that_stays_is_said(
    export: Path, alice: User, tmp_path: Path, settings: Any
) -> None:
    target = import_all(export, alice)
    folder = Path(default_storage.path("files/taken"))
    folder.mkdir(parents=True)
    (folder / "inside").touch()
    File.objects.update(content="files/taken")  # a folder that is not empty cannot be deleted
    User.objects.filter(username="ann").update(avatar="avatars/nowhere.png")
    operation = undo(target, alice)

    files = counts(operation)["files"]
    assert (files["total"], files["removed"], files["failed"]) == (1, 0, 1)
    assert counts(operation)["users"]["removed"] == 3
    assert ImportFailure.objects.of(operation).get().code == "undo-content-not-deleted"


def test_what_somebody_removed_before_is_counted_as_gone(export: Path, alice: User) -> None:
    target = import_all(export, alice)
    File.objects.all().delete()
    Message.objects.filter(text="one").delete()
    operation = undo(target, alice)

    assert skip_reasons(operation.tally, "messages") == {"gone": 1}
    assert skip_reasons(operation.tally, "files") == {"gone": 1}


def test_it_is_cancelled_within_a_batch_and_resumed(
    tmp_path: Path, alice: User, settings: Any
) -> None:
    path = tmp_path / "export.zip"
    build(path, messages=600, seed=5, users=40)
    before = canonical_dump()
    target = import_all(path, alice)
    operation = rollback_operation(target, alice, queue=False)
    batches = 0

    def stop() -> bool:
        nonlocal batches
        batches += 1
        if batches == 3:
            cancel_operation(operation)
        return False

    settings.IMPORTOPS = replace(settings.IMPORTOPS, batch_rows=100)
    run_operation(operation, stop=stop)
    assert operation.status == Status.CANCELLED
    assert 0 < Message.objects.count() < 600
    with pytest.raises(UndoUnfinished):
        rollback_operation(target, alice)

    resume_operation(operation, queue=False)
    run_operation(operation)
    assert operation.status == Status.DONE
    assert adds_up(operation)
    assert canonical_dump() == before


def test_stopping_after_every_batch_ends_alike(tmp_path: Path, alice: User) -> None:
    """Between a commit and the deletion of the contents that it let go of, too."""
    path = tmp_path / "export.zip"
    build(path, messages=400, seed=6, users=30)
    before = canonical_dump()
    target = import_all(path, alice)
    stored = [file.content for file in File.objects.all()]
    stored.append(User.objects.filter(operation=target)[0].avatar)
    for content in stored:
        content.save("content", ContentFile(b"content"))
    made = counts(target)
    operation = rollback_operation(target, alice, queue=False)
    rounds = 0
    while True:
        answers = iter([False, True])  # once before the slice is taken, once after its batch
        try:
            run_operation(operation, stop=lambda: next(answers, True))  # noqa: B023
        except WorkerStopping:
            rounds += 1
            continue
        break

    assert rounds > 5
    assert operation.status == Status.DONE
    assert adds_up(operation)
    assert canonical_dump() == before
    assert len(stored) > 3
    assert not [content.name for content in stored if default_storage.exists(content.name)]
    removed = {kind: number["removed"] for kind, number in counts(operation).items()}
    stand_ins = target.tally.get("placeholders", 0) + target.tally.get("bots", 0)
    assert removed == {kind: number["created"] for kind, number in made.items()} | {
        "users": made["users"]["created"] + stand_ins
    }


def refused(target: ImportOperation, user: User, error: type[ImportopsError]) -> bool:
    with pytest.raises(error):
        rollback_operation(target, user)
    return True


def test_it_refuses_what_cannot_be_taken_back(export: Path, alice: User) -> None:
    target = import_all(export, alice)
    first = rollback_operation(target, alice, queue=False)
    assert refused(target, alice, UndoUnfinished)
    run_operation(first)
    assert refused(target, alice, AlreadyUndone)
    assert refused(first, alice, NothingToUndo)
    assert refused(ImportOperationFactory.create(status=Status.CANCELLED), alice, NothingToUndo)
    running = ImportOperationFactory.create(
        status=Status.IMPORTING_USERS, phase="users", started_at=timezone.now()
    )
    assert refused(running, alice, OperationInProgress)
    with pytest.raises(AlreadyUndone):
        ImportOperation.objects.filter(pk=running.pk).update(status=Status.DONE)
        ImportOperation.objects.filter(pk=target.pk).update(status=Status.CANCELLED)
        resume_operation(target)


def test_what_a_cancelled_import_brought_goes_and_it_cannot_be_resumed(
    tmp_path: Path, alice: User
) -> None:
    path = tmp_path / "export.zip"
    build(path, messages=3000, seed=5, users=40)
    before = canonical_dump()
    target = prepare(path, alice)
    start_operation(target, EVERYTHING, alice, queue=False)

    def stop() -> bool:
        if Message.objects.exists() and not target.is_cancelling:
            cancel_operation(target)
        return False

    run_operation(target, stop=stop)
    assert target.status == Status.CANCELLED
    assert 0 < Message.objects.count() < 3000
    operation = undo(target, alice)

    assert canonical_dump() == before
    assert not skip_reasons(operation.tally, "messages")
    with pytest.raises(AlreadyUndone):
        resume_operation(target)


def test_an_import_that_waits_for_its_selection_is_left_alone(export: Path, alice: User) -> None:
    target = import_all(export, alice)
    waiting = ImportOperationFactory.create(status=Status.USER_SELECTION)
    undo(target, alice)
    waiting.refresh_from_db()

    assert waiting.valid
