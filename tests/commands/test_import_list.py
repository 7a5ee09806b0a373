from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from importops.models import Status, User
from tests.commands.conftest import Run
from tests.factories import ImportOperationFactory
from tests.tasks.installation import ROOT, Installation


def test_the_latest_comes_first(run: Run, root: User) -> None:
    now = timezone.now()
    tally = {"messages.total": 1500, "messages.created": 1498, "messages.failed": 2}
    old = ImportOperationFactory.create(ts=now - timedelta(days=1), file="old.zip", tally=tally)
    new = ImportOperationFactory.create(ts=now, file="new.zip", status=Status.CANCELLED)
    _, first, second = run("import_list").out.splitlines()
    assert first.startswith(new.public_id)
    assert "canceled" in first
    assert second.split()[0] == old.public_id
    assert second.split()[-3:] == ["1,498", "2", "old.zip"]


def test_json_is_an_array_of_what_import_status_tells(run: Run, root: User) -> None:
    operation = ImportOperationFactory.create()
    ran = run("import_list", "--json")
    assert ran.json == [run("import_status", operation.public_id, "--json").json]


def test_without_imports_it_is_empty(run: Run, db: None) -> None:
    assert run("import_list", "--json").json == []
    assert len(run("import_list").out.splitlines()) == 1


def test_it_asks_the_database_once(
    run: Run, root: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ImportOperationFactory.create_batch(3)
    with django_assert_num_queries(1):
        run("import_list", "--json")


def test_it_says_what_was_taken_back_or_replaced(run: Run, root: User) -> None:
    now = timezone.now()
    taken = ImportOperationFactory.create(status=Status.DONE, rolled_back_at=now)
    replaced = ImportOperationFactory.create(status=Status.USER_SELECTION, valid=False)
    lines = {line.split()[0]: line for line in run("import_list").out.splitlines()}

    assert " taken back " in lines[taken.public_id]
    assert " replaced " in lines[replaced.public_id]
    told = run("import_status", replaced.public_id).out
    assert "A newer operation has taken its place" in told


def test_a_reader_that_has_read_enough_ends_it_quietly(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.manage("migrate", "--verbosity=0")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "manage.py", "import_list"],
        cwd=ROOT,
        env=installation.environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)

    assert "Traceback" not in done.stderr
    assert "BrokenPipeError" not in done.stderr
