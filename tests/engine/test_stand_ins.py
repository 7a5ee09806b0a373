"""Accounts that stand for authors who have none: what they are called, and several workers making them."""

from __future__ import annotations

import pytest
from django.db import transaction

from importops.engine.slices import Batch
from importops.engine.stand_ins import UserDirectory, named_stand_ins
from importops.models import ImportOperation, StagedRecord, User, UserImportId
from tests.factories import ImportOperationFactory, UserFactory
from tests.racing import Second


def author(operation: ImportOperation, import_id: str, username: str = "") -> None:
    StagedRecord.objects.create(
        operation=operation,
        kind=StagedRecord.Kind.AUTHOR,
        import_id=import_id,
        data={"import_id": import_id, "username": username},
    )


def decide_names(operation: ImportOperation) -> dict[str, str]:
    for renamed in named_stand_ins(operation):
        StagedRecord.objects.bulk_update(renamed, ["stand_in"])
    return dict(UserDirectory(operation))


@pytest.mark.django_db
def test_names_are_given_in_the_order_of_import_ids() -> None:
    operation = ImportOperationFactory.create()
    UserFactory.create(username="Ghost")
    for import_id, name in (("U3", "ghost"), ("U1", "ghost-2"), ("U2", "ghost"), ("U4", "")):
        author(operation, import_id, name)

    names = decide_names(operation)

    assert {key: names[key] for key in ("U1", "U2", "U3", "U4")} == {
        "U1": "ghost-2",
        "U2": "ghost-1",
        "U3": "ghost-3",
        "U4": "U4",
    }


@pytest.mark.django_db
def test_a_name_stays_what_was_decided_when_the_others_are_in() -> None:
    operation = ImportOperationFactory.create()
    for import_id in ("U1", "U2", "U3"):
        author(operation, import_id, "ghost")
    decided = decide_names(operation)

    UserDirectory(operation).make_stand_ins(["U3"], Batch())
    UserDirectory(operation).make_stand_ins(["U2", "U1"], Batch())

    assert {known.import_id: known.user.username for known in UserImportId.objects.all()} == {
        key: decided[key] for key in ("U1", "U2", "U3")
    }


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql
def test_a_second_worker_waits_and_finds_the_stand_in_made() -> None:
    operation = ImportOperationFactory.create()
    author(operation, "U1", "ghost")
    first, other = UserDirectory(operation), UserDirectory(operation)
    second = Second(lambda: other.make_stand_ins(["U1"], Batch()))
    with transaction.atomic():
        first.make_stand_ins(["U1"], Batch())
        second.start_and_wait_for_the_first()
    second.join()

    assert second.error is None
    assert User.objects.filter(is_placeholder=True).count() == 1
