"""Log lines: of one shape, with what they are about, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.conf import settings
from django.test import Client

from importops.actions.operations import cancel_operation, resume_operation, start_operation
from importops.engine.running import run_operation
from importops.logs import JSON, LINES, logging_config, mask, own_context
from importops.models import User
from tests.clients import ApiClient
from tests.exports import slack_messages, slack_room, slack_user, slack_zip
from tests.journeys import EVERYTHING, prepare

Read = Callable[[], str]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    handlers = root.handlers[:]
    yield stream
    logging.config.dictConfig(settings.LOGGING)
    root.handlers[:] = handlers


@pytest.fixture
def lines(stream: io.StringIO) -> Callable[[], list[dict[str, Any]]]:
    """The JSON lines that were written so far."""
    logging.config.dictConfig(logging_config("INFO", JSON))
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def for_people(stream: io.StringIO) -> Read:
    logging.config.dictConfig(logging_config("INFO", LINES))
    return stream.getvalue


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": slack_messages(3)}},
    )


@pytest.mark.django_db
def test_an_import_is_told_moment_by_moment(lines: Any, alice: User, export: Path) -> None:
    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)
    cancel_operation(operation)
    resume_operation(operation, queue=False)
    run_operation(operation)
    events = [line["event"] for line in lines()]

    assert events == [
        "operation created",
        "phase done",  # listing
        "operation prepared",
        "operation started",
        "cancel requested",
        "operation cancelled",
        "operation resumed",
        "phase done",  # users
        "phase done",  # rooms
        "phase done",  # messages
        "operation done",
    ]
    assert {line["operation"] for line in lines()} == {operation.public_id}
    done = lines()[-1]
    assert done["counts"]["messages"]["created"] == 3
    assert done["seconds"] >= 0 and done["level"] == "info"


@pytest.mark.django_db
def test_whatever_is_written_during_a_slice_says_which(
    lines: Any, alice: User, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(self: object, *args: object) -> Iterator[object]:
        logging.getLogger("some.library").warning("odd: %s", 7)
        yield from ()

    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)
    monkeypatch.setattr("importops.importers.slack.SlackImporter.messages", told)
    run_operation(operation)
    logging.getLogger("some.library").warning("afterwards")
    (odd,) = [line for line in lines() if line["event"] == "odd: 7"]
    (afterwards,) = [line for line in lines() if line["event"] == "afterwards"]

    piece = operation.slices.get(phase="messages")
    about = {key: odd[key] for key in ("operation", "slice", "phase", "attempt", "worker")}
    assert about == {
        "operation": operation.public_id,
        "slice": piece.pk,
        "phase": "messages",
        "attempt": 1,
        "worker": piece.worker,
    }
    assert "operation" not in afterwards


@pytest.mark.django_db
def test_a_request_has_an_id_in_its_lines_and_its_answer(
    lines: Any, alice_client: ApiClient
) -> None:
    response = Client().get("/no-such-page", headers={"x-request-id": "from-the-proxy"})
    assert response["X-Request-ID"] == "from-the-proxy"
    (line,) = lines()
    assert (line["request_id"], line["logger"]) == ("from-the-proxy", "django.request")
    odd = Client().get("/no-such-page", headers={"x-request-id": "a b"})["X-Request-ID"]
    assert odd != "a b" and len(odd) == 16


def test_json_has_the_traceback_and_no_secret(lines: Any) -> None:
    try:
        raise ValueError("https://files.example.com/f?t=xoxe-123-abc")
    except ValueError:
        logging.getLogger("importops.x").exception("cannot fetch")
    (line,) = lines()

    assert "ValueError" in line["exception"]
    assert "xoxe-123" not in line["exception"] and "xox-REDACTED" in line["exception"]


def test_people_get_one_line_with_what_it_is_about(for_people: Read) -> None:
    with own_context():
        structlog.contextvars.bind_contextvars(operation="7PbvsnKJD9ZAqw38C")
        structlog.stdlib.get_logger("importops.x").info("phase done", seconds=1.5, token="abc")
    text = for_people()

    assert text.count("\n") == 1
    assert "phase done" in text and "operation=7PbvsnKJD9ZAqw38C" in text
    assert "seconds=1.5" in text and "token=REDACTED" in text


@pytest.mark.parametrize(
    "text",
    [
        "X-Auth-Token: SECRETsecret_-1",
        "{'HTTP_X_AUTH_TOKEN': 'SECRETsecret_-1'}",
        '"x-auth-token": "SECRETsecret_-1"',
        "Authorization: Bearer SECRETsecret_-1",
        "postgres://importops:SECRETsecret_-1@db.example.com/importops",
        "https://files.example.com/x?t=xoxe-SECRETsecret_-1",
    ],
)
def test_secrets_in_text_are_masked(text: str) -> None:
    assert "SECRET" not in mask(text).replace("REDACTED", "")
    assert "REDACTED" in mask(text)


def test_what_is_no_secret_stays() -> None:
    text = "phase done: http://127.0.0.1:3000/admin/ a token was issued"
    assert mask(text) == text
