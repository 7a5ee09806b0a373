"""What a person sees while an import runs."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from django.core.management.base import OutputWrapper
from django.utils import timezone

from importops.management import progress_line as module
from importops.management.progress_line import duration, particulars, progress_line
from importops.models import ImportOperation, Phase, Status
from tests.factories import ImportOperationFactory

pytestmark = pytest.mark.django_db


class Terminal(StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def importing(**fields: Any) -> ImportOperation:
    values = {
        "status": Status.IMPORTING_MESSAGES,
        "phase": Phase.MESSAGES,
        "started_at": timezone.now(),
        "tally": {
            "users.total": 2,
            "users.created": 2,
            "messages.total": 98,
            "messages.created": 40,
            "messages.failed": 7,
        },
        "progress": {"rate": 12000.4, "eta": 61},
    }
    return ImportOperationFactory.build(**values | fields)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    terminal = Terminal()
    with progress_line(OutputWrapper(terminal)) as line:
        line.show(importing())
        line.show(importing(phase=Phase.FINISHING))
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "finishing" in seen
    assert "━" in seen
    assert "49%" in seen
    assert "12,000/s, 1m01s left, 2 users, 47 messages, 7 failed" in seen


def test_names_in_brackets_are_not_taken_for_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    terminal = Terminal()
    with progress_line(OutputWrapper(terminal)) as line:
        line.show(importing(phase="[red]"))
    assert "[red]" in terminal.getvalue()


def test_elsewhere_there_is_a_line_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    file = StringIO()
    with progress_line(OutputWrapper(file)) as line:
        for second in range(12):
            now[0] = 100.0 + second
            line.show(importing())
        line.show(importing(phase=Phase.FINISHING))
    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("importing messages 49% (12,000/s, 1m01s left, 2 users")
    assert lines[-1].startswith("finishing")


def test_reading_is_measured_in_bytes() -> None:
    reading = importing(
        started_at=None,
        status=Status.PREPARING_MESSAGES,
        phase=Phase.COUNTING,
        tally={"messages.total": 1500, "problems": 2, "bytes": 10, "scanned": 5},
        progress={"rate": 2.5 * 1024**2, "eta": 3},
    )
    assert particulars(reading) == "2.5 MiB/s, 3s left, 1,500 messages, 2 failed"


def test_what_waits_for_a_person_has_no_rate() -> None:
    assert "/s" not in particulars(importing(status=Status.DONE, phase=Phase.NONE))
    ready = importing(status=Status.USER_SELECTION, phase=Phase.NONE, started_at=None)
    assert "left" not in particulars(ready)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.6, "1m00s"), (187, "3m07s"), (7500, "2h05m"), (90000, "25h00m")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
