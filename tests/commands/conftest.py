"""Commands as a shell sees them: what they print, and their exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from importops.models import User
from tests.exports import slack_message, slack_room, slack_user, slack_zip
from tests.factories import UserFactory


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which has to be one JSON value and nothing else."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run() -> Run:
    """`run("import_file", path, "--json")`; the error's text ends up in `err`, as in a shell."""

    def command(name: str, *arguments: object) -> Ran:
        out, err = StringIO(), StringIO()
        code = 0
        try:
            call_command(name, *map(str, arguments), stdout=out, stderr=err)
        except CommandError as error:
            code = error.returncode
            err.write(str(error))
        return Ran(code, out.getvalue(), err.getvalue())

    return command


@pytest.fixture
def root(db: None) -> User:
    return UserFactory.create(username="root", is_staff=True, is_superuser=True)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Two users, two rooms, three messages, nothing wrong."""
    return slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann"), slack_user("U2", "bea")],
        channels=[slack_room("C1", "general", ["U1", "U2"]), slack_room("C2", "plans", ["U1"])],
        messages={
            "general": {
                "2024-01-02": [slack_message("one", "1704189600.000100")],
                "2024-01-03": [slack_message("two", "1704276000.000100", user="U2")],
            },
            "plans": {"2024-01-04": [slack_message("three", "1704362400.000100")]},
        },
    )


@pytest.fixture
def flawed_export(tmp_path: Path) -> Path:
    """One good message and one without a time, which carries a secret."""
    url = "https://files.slack.com/a.pdf?t=xoxe-1-2"
    return slack_zip(
        tmp_path / "flawed.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={
            "general": {"2024-01-02": [slack_message(), {**slack_message(url), "ts": "never"}]}
        },
    )
