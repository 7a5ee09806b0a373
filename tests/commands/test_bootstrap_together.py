"""Several machines, or two terminals, that set up the same installation at the same moment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import connection

from tests.machines import Machine, own_database
from tests.tasks.installation import ROOT, Installation

pytestmark = pytest.mark.process

STARTS = 4


@pytest.fixture
def installations(tmp_path: Path) -> Iterator[list[Installation]]:
    with ExitStack() as stack:
        if connection.vendor == "sqlite":
            yield [Installation(tmp_path / "data")] * STARTS
        else:
            database = stack.enter_context(own_database())
            yield [Machine(tmp_path / str(number), database) for number in range(STARTS)]


def test_all_of_them_succeed_and_one_makes_the_administrator(
    installations: list[Installation],
) -> None:
    starts = [
        subprocess.Popen(
            [sys.executable, "manage.py", "bootstrap"],
            cwd=ROOT,
            env=each.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in installations
    ]
    said = [start.communicate(timeout=120) for start in starts]

    assert [start.returncode for start in starts] == [0] * STARTS, said
    assert sum("The first administrator." in out for out, _ in said) == 1
    assert sum("Already set up" in out for out, _ in said) == STARTS - 1
    assert installations[0].ask("SELECT COUNT(*) FROM importops_user WHERE is_superuser") == 1
