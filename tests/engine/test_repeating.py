"""The sample export, again, and a week later: everything that an export can hold, met twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from importops.engine.progress import counts
from importops.models import Message, Status, User
from tests.canonical import canonical_dump
from tests.journeys import adds_up, import_all

pytestmark = pytest.mark.django_db

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SAMPLE = EXAMPLES / "slack-export.zip"


@pytest.fixture
def week_later(tmp_path: Path) -> Path:
    path = tmp_path / "later.zip"
    script = EXAMPLES / "make_slack_export.py"
    subprocess.run([sys.executable, script, "--week-later", path], check=True, capture_output=True)
    return path


def test_the_sample_export_twice_changes_nothing(alice: User) -> None:
    import_all(SAMPLE, alice)
    before = canonical_dump()
    again = import_all(SAMPLE, alice)

    assert again.status == Status.DONE
    assert canonical_dump() == before
    assert adds_up(again)
    assert all(not kind["created"] and not kind["updated"] for kind in counts(again).values())


def test_a_week_later_only_what_is_new_comes(alice: User, week_later: Path) -> None:
    import_all(SAMPLE, alice)
    here = Message.objects.count()
    operation = import_all(week_later, alice)
    numbers = counts(operation)["messages"]

    assert adds_up(operation)
    assert Message.objects.count() == here + numbers["created"]
    assert (numbers["created"], numbers["updated"]) == (21, 10)


def test_the_order_in_which_exports_come_does_not_matter_to_messages(
    alice: User, week_later: Path
) -> None:
    import_all(SAMPLE, alice)
    import_all(week_later, alice)
    both = messages()
    import_all(SAMPLE, alice)

    assert messages() == both


def messages() -> list[str]:
    return [line for line in canonical_dump() if line.startswith(('["message"', '["file"'))]
