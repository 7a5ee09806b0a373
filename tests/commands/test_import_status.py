from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from importops.engine.progress import counts, operation_body, worker_seen
from importops.management.commands import import_status
from importops.models import ImportOperation, Phase, Status, User
from tests.commands.conftest import Run
from tests.factories import ImportOperationFactory

TALLY = {"messages.total": 10, "messages.created": 4, "messages.failed": 1}
RUNNING = {
    "status": Status.IMPORTING_MESSAGES,
    "phase": Phase.MESSAGES,
    "tally": TALLY,
    "progress": {"rate": 1234.5, "eta": 125},
}


def running(**fields: Any) -> ImportOperation:
    return ImportOperationFactory.create(started_at=timezone.now(), **RUNNING | fields)


def test_it_tells_how_it_is_going(run: Run, root: User) -> None:
    running(file="export.zip")
    ran = run("import_status")
    assert ran.code == 0
    assert "Slack, export.zip" in ran.out
    assert "importing messages: 1,234/s, 2m05s left, 5 messages, 1 failed" in ran.out


def test_json_is_the_state_the_operation_as_on_the_wire_and_the_counts(
    run: Run, root: User
) -> None:
    operation = running()
    ran = run("import_status", operation.public_id, "--json")
    assert ran.code == 0
    assert list(ran.json) == ["state", "operation", "counts", "progress"]
    assert (ran.json["progress"]["percent"], ran.json["progress"]["eta"]) == (50, 125)
    assert ran.json["state"] == "importing"
    assert ran.json["operation"] == operation_body(operation)
    assert ran.json["counts"] == counts(operation)


def test_before_the_first_import_there_is_none(run: Run, db: None) -> None:
    assert run("import_status").out == "Nothing has been imported yet.\n"
    ran = run("import_status", "--json")
    assert (ran.code, ran.json["state"], ran.json["operation"]) == (0, "none", None)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": Status.DONE, "tally": {}}, 0),
        ({"status": Status.USER_SELECTION}, 0),
        ({"status": Status.DONE}, 3),
        ({"status": Status.FAILED, "error": "The disk is full."}, 1),
        ({"status": Status.CANCELLED}, 1),
    ],
)
def test_the_exit_code_tells_how_it_ended(
    run: Run, root: User, fields: dict[str, Any], code: int
) -> None:
    operation = running(**fields)
    ran = run("import_status", "--json")
    assert ran.code == code
    assert ran.json["operation"]["_id"] == operation.public_id
    assert operation.error in ran.err


def test_an_unknown_id_is_wrong_usage(run: Run, db: None) -> None:
    assert run("import_status", "nosuchid").code == 2


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """What happens while the command sleeps."""

    def meanwhile(happens: Callable[[], None]) -> None:
        monkeypatch.setattr(import_status.time, "sleep", lambda seconds: happens())

    return meanwhile


def test_watching_ends_with_the_import(run: Run, root: User, asleep: Any) -> None:
    running()
    ended = {"status": Status.DONE, "tally": {}, "phase": Phase.NONE}
    asleep(lambda: ImportOperation.objects.update(**ended))
    ran = run("import_status", "--watch")
    assert ran.code == 0
    assert "importing messages 50% (" in ran.out
    assert ": done" in ran.out


def test_watching_as_json_still_prints_one_object(run: Run, root: User, asleep: Any) -> None:
    running()
    asleep(lambda: ImportOperation.objects.update(status=Status.CANCELLED))
    ran = run("import_status", "--watch", "--json")
    assert ran.code == 1
    assert ran.json["state"] == "canceled"
    assert "importing messages" in ran.err


def test_no_longer_watching_does_not_stop_the_import(run: Run, root: User, asleep: Any) -> None:
    operation = running()

    def interrupt() -> None:
        raise KeyboardInterrupt

    asleep(interrupt)
    ran = run("import_status", "--watch")
    operation.refresh_from_db()
    assert ran.code == 0
    assert "the import goes on" in ran.err
    assert operation.state == "importing"


@pytest.mark.parametrize("alive", [True, False])
def test_it_says_when_no_worker_is_running(alive: bool, run: Run, root: User) -> None:
    running()
    if alive:
        worker_seen()

    assert ("start one with manage.py import_worker" in run("import_status").out) is not alive
