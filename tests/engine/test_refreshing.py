"""The operation's sums: brought up to date by one worker at a time, and never backwards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from importops.engine.progress import failures_by_code, refresh_totals
from importops.engine.slices import claim_slice
from importops.models import ImportOperation, ImportSlice, Phase, Status
from tests.factories import ImportFailureFactory, ImportOperationFactory, ImportSliceFactory

LONG_AGO = timedelta(minutes=1)


@pytest.fixture
def operation(db: None) -> ImportOperation:
    now = timezone.now()
    operation = ImportOperationFactory.create(
        status=Status.IMPORTING_MESSAGES,
        phase=Phase.MESSAGES,
        started_at=now - LONG_AGO,
        updated_at=now - LONG_AGO,
        base_tally={"messages.total": 10},
    )
    ImportSliceFactory.create(operation=operation, tally={"messages.created": 3})
    ImportSliceFactory.create(operation=operation, tally={"messages.created": 4})
    return operation


def total_of(operation: ImportOperation) -> int:
    operation.refresh_from_db()
    return int(operation.tally.get("messages.created", 0))


def test_it_is_the_sum_of_what_was_known_and_of_the_slices(operation: ImportOperation) -> None:
    refresh_totals(operation.pk)

    assert total_of(operation) == 7
    assert operation.tally["messages.total"] == 10
    assert timezone.now() - operation.updated_at < LONG_AGO


def test_within_a_second_it_is_done_once_unless_it_must_be(operation: ImportOperation) -> None:
    refresh_totals(operation.pk)
    ImportSlice.objects.filter(operation=operation).update(tally={"messages.created": 5})
    refresh_totals(operation.pk)
    assert total_of(operation) == 7
    refresh_totals(operation.pk, force=True)
    assert total_of(operation) == 10


def in_a_thread(work: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_worker_passes_by_a_row_that_another_one_holds(operation: ImportOperation) -> None:
    with transaction.atomic():
        ImportOperation.objects.select_for_update(no_key=True).get(pk=operation.pk)
        other = in_a_thread(lambda: refresh_totals(operation.pk))
        other.join(5)
        assert not other.is_alive(), "it waits for the row"
    assert total_of(operation) == 0


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_the_last_sum_waits_and_counts_what_was_committed_meanwhile(
    operation: ImportOperation,
) -> None:
    with transaction.atomic():
        ImportOperation.objects.select_for_update(no_key=True).get(pk=operation.pk)
        other = in_a_thread(lambda: refresh_totals(operation.pk, force=True))
        other.join(0.2)
        assert other.is_alive(), "it did not wait for the row"
        ImportSlice.objects.filter(operation=operation).update(tally={"messages.created": 5})
    other.join(5)
    assert total_of(operation) == 10


def test_taking_a_slice_from_a_silent_worker_is_counted(operation: ImportOperation) -> None:
    piece = ImportSlice.objects.filter(operation=operation).earliest("pk")
    first = claim_slice(piece.pk)
    assert first is not None and first.takeovers == 0
    assert claim_slice(piece.pk) is None
    ImportSlice.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    second = claim_slice(piece.pk)

    assert second is not None and (second.takeovers, second.attempt) == (1, 2)


def test_what_is_counted_quickly_is_always_counted_anew(operation: ImportOperation) -> None:
    for number in range(1, 3):
        ImportFailureFactory.create(operation=operation, code="importer-x", place=f"a[{number}]")
        assert failures_by_code(operation) == {"importer-x": number}


def test_an_answer_that_took_long_is_given_again(
    operation: ImportOperation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importops.engine.progress.QUICK_COUNT", -1.0)
    monkeypatch.setattr("importops.engine.progress.KEPT_FOR", 10**6)
    ImportFailureFactory.create(operation=operation, code="importer-x", place="a[1]")
    first = failures_by_code(operation)
    ImportFailureFactory.create(operation=operation, code="importer-x", place="a[2]")

    assert failures_by_code(operation) == first == {"importer-x": 1}
