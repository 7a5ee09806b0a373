from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from importops.models import Status, User
from tests.commands.conftest import Run
from tests.factories import ImportOperationFactory


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
