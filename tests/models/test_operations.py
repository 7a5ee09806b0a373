"""An operation's summary, what may be current, and that one imports at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from importops.api.current import read_current_operation
from importops.models import ImportOperation, ImportSlice, Phase, Status, User
from importops.models.operations import ENDED, IMPORTING, LOADING
from tests.factories import ImportOperationFactory, ImportSliceFactory

pytestmark = pytest.mark.django_db

STATES = {
    "importer_new": "new",
    "importer_uploading": "loading",
    "importer_downloading_file": "loading",
    "importer_file_loaded": "loading",
    "importer_preparing_started": "loading",
    "importer_preparing_users": "loading",
    "importer_preparing_channels": "loading",
    "importer_preparing_messages": "loading",
    "importer_preparing_contacts": "loading",
    "importer_user_selection": "ready",
    "importer_importing_started": "importing",
    "importer_importing_users": "importing",
    "importer_importing_contacts": "importing",
    "importer_importing_channels": "importing",
    "importer_importing_messages": "importing",
    "importer_importing_files": "importing",
    "importer_finishing": "importing",
    "importer_done": "done",
    "importer_import_failed": "error",
    "importer_import_cancelled": "canceled",
}


def test_every_status_has_a_state() -> None:
    assert set(STATES) == set(Status.values)


@pytest.mark.parametrize(("status", "state"), STATES.items())
def test_the_state_sums_up_the_status(status: str, state: str) -> None:
    assert ImportOperation(status=status).state == state


@pytest.mark.parametrize("status", STATES)
def test_an_invalid_operation_is_in_error_unless_it_ended_well_or_was_cancelled(
    status: str,
) -> None:
    expected = {"importer_done": "done", "importer_import_cancelled": "canceled"}

    assert ImportOperation(status=status, valid=False).state == expected.get(status, "error")


def test_it_is_cancelling_until_it_is_cancelled() -> None:
    operation = ImportOperation(status=Status.IMPORTING_MESSAGES)
    assert not operation.is_cancelling
    operation.cancel_requested_at = timezone.now()
    assert operation.is_cancelling
    operation.status = Status.CANCELLED
    assert not operation.is_cancelling


@pytest.mark.parametrize("status", IMPORTING)
def test_one_operation_imports_at_a_time(alice: User, status: Status) -> None:
    ImportOperationFactory.create(user=alice, status=Status.IMPORTING_MESSAGES)

    one = pytest.raises(IntegrityError, match=r"one_running_operation|singleton")
    with one, transaction.atomic():
        ImportOperationFactory.create(user=alice, status=status)


@pytest.mark.parametrize("status", [*LOADING, *ENDED, Status.NEW, Status.USER_SELECTION])
def test_any_number_may_wait_or_have_ended(alice: User, status: Status) -> None:
    ImportOperationFactory.create_batch(2, user=alice, status=status)
    ImportOperationFactory.create(user=alice, status=Status.FINISHING)


def test_a_status_moves_only_from_where_it_was_expected(alice: User) -> None:
    operation = ImportOperationFactory.create(user=alice, status=Status.DONE)
    mine = ImportOperation.objects.filter(pk=operation.pk)

    assert not mine.move(Status.USER_SELECTION, status=Status.IMPORTING_STARTED)
    assert not mine.move((Status.FAILED, Status.CANCELLED), status=Status.IMPORTING_STARTED)
    operation.refresh_from_db()
    assert operation.status == Status.DONE
    before = operation.updated_at
    assert mine.move((Status.FAILED, Status.DONE), status=Status.FAILED)
    operation.refresh_from_db()
    assert operation.status == Status.FAILED and operation.updated_at > before


def test_the_one_that_imports_is_current_before_a_later_one(alice: User) -> None:
    now = timezone.now()
    first = ImportOperationFactory.create(user=alice, ts=now - timedelta(hours=1))
    last = ImportOperationFactory.create(user=alice, ts=now)
    assert both_say() == last
    first.status = Status.IMPORTING_USERS
    first.save(update_fields=["status"])
    assert both_say() == first


def test_of_two_at_the_same_moment_the_later_row_is_current(alice: User) -> None:
    now = timezone.now()
    _, second = ImportOperationFactory.create_batch(2, user=alice, ts=now)

    assert both_say() == second


def test_without_any_operation_none_is_current() -> None:
    assert both_say() is None


def both_say() -> ImportOperation | None:
    """The ORM's answer, which the written-out statement of the seed endpoint has to share."""
    current = ImportOperation.objects.current()
    assert read_current_operation() == current
    return current


def test_only_slices_of_the_present_phase_of_an_active_operation_count(alice: User) -> None:
    operation = ImportOperationFactory.create(
        user=alice, status=Status.IMPORTING_MESSAGES, phase=Phase.MESSAGES
    )
    mine = ImportSliceFactory.create(operation=operation, phase=Phase.MESSAGES)
    ImportSliceFactory.create(operation=operation, phase=Phase.FINISHING)
    assert ImportSlice.objects.of_active_operations().get() == mine

    now = timezone.now()
    for change, back in [
        ({"valid": False}, {"valid": True}),
        ({"cancel_requested_at": now}, {"cancel_requested_at": None}),
        ({"finished_at": now}, {"finished_at": None}),
    ]:
        ImportOperation.objects.update(**change)
        assert not ImportSlice.objects.of_active_operations().exists()
        ImportOperation.objects.update(**back)
