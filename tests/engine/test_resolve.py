"""Who an incoming user is, and what becomes of one, record by record."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from importops.engine.importing_users import UserBatch
from importops.engine.resolve import FreeNames, suggest_username
from importops.engine.slices import Batch
from importops.engine.stand_ins import UserDirectory
from importops.models import ImportOperation, StagedRecord, User, UserEmail, UserImportId
from importops.records import SYSTEM_BOT, UserRecord
from tests.factories import ImportOperationFactory, UserEmailFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def operation(alice: User) -> ImportOperation:
    return ImportOperationFactory.create(user=alice)


def bring(operation: ImportOperation, *records: UserRecord) -> Batch:
    """Import `records` in one batch; what was counted and what failed."""
    rows = [
        StagedRecord.objects.create(
            operation=operation,
            kind=StagedRecord.Kind.USER,
            import_id=record.import_ids[0],
            data=msgspec.to_builtins(record),
        )
        for record in records
    ]
    batch = Batch()
    users = UserBatch(operation, rows, batch)
    users.decide()
    users.write()
    return batch


def member(import_id: str, username: str = "", *emails: str, **fields: Any) -> UserRecord:
    return UserRecord(import_ids=[import_id], username=username, emails=list(emails), **fields)


def of(import_id: str) -> User:
    return User.objects.get(import_ids__import_id=import_id)


def known_as(user: User, import_id: str) -> None:
    UserImportId.objects.create(user=user, source="slack", import_id=import_id)


def test_the_import_id_comes_before_the_address(operation: ImportOperation) -> None:
    by_id, by_email = UserFactory.create(), UserFactory.create()
    known_as(by_id, "U1")
    UserEmailFactory.create(user=by_email, address="ann@example.com")
    bring(operation, member("U1", "ann", "ann@example.com"))

    assert of("U1") == by_id
    assert UserEmail.objects.get(address="ann@example.com").user == by_email
    assert "stays there" in operation.staged.get().note


def test_the_address_comes_before_the_name(operation: ImportOperation) -> None:
    by_email = UserFactory.create(username="someone")
    UserFactory.create(username="ann")
    UserEmailFactory.create(user=by_email, address="Ann@Example.com")
    bring(operation, member("U1", "ann", "ann@example.COM"))

    assert of("U1") == by_email


def test_a_name_is_enough_when_one_side_has_no_address(operation: ImportOperation) -> None:
    here = UserFactory.create(username="Ann")
    bring(operation, member("U1", "ann", "ann@example.com"))

    assert of("U1") == here
    assert not here.emails.exists()  # an added address could reset the password


def test_a_name_is_not_enough_for_two_of_one_workspace(operation: ImportOperation) -> None:
    known_as(UserFactory.create(username="ann"), "U1")
    bring(operation, member("U2", "ann"))

    assert of("U2").username == "ann-1"


def test_nobody_becomes_the_built_in_bot(operation: ImportOperation) -> None:
    bring(operation, member("U1", SYSTEM_BOT))

    assert of("U1").public_id != SYSTEM_BOT


def test_two_members_with_one_address_are_one_person(operation: ImportOperation) -> None:
    batch = bring(
        operation, member("U1", "ann", "ann@example.com"), member("U2", "ann2", "ANN@example.com")
    )

    assert of("U1") == of("U2")
    assert batch.tally == {"users.created": 1, "users.updated": 1}


def test_without_name_and_address_it_fails_alone(operation: ImportOperation) -> None:
    batch = bring(operation, member("U1"), member("U2", "ben"))

    assert [failure.code for failure in batch.failures] == [
        "importer-user-missing-email-and-username"
    ]
    assert batch.tally == {"users.failed": 1, "users.created": 1}


def test_a_missing_name_is_made_from_the_address(operation: ImportOperation) -> None:
    bring(operation, member("U1", "", "Ann.Smith+x@example.com"))

    assert of("U1").username == "ann.smith.x"
    assert suggest_username(member("U2", name="Ann of York")) == "ann.of.york"


@pytest.mark.parametrize("granted", [True, False])
def test_roles_are_granted_only_when_that_was_said(
    granted: bool, operation: ImportOperation
) -> None:
    operation.selection = {"grantRoles": granted}
    bring(operation, member("U1", "ann", roles=["admin", "no-such-role"]))

    roles = set(of("U1").groups.values_list("name", flat=True))
    assert roles == ({"user", "admin"} if granted else {"user"})
    assert "roles not granted: " in operation.staged.get().note
    assert not of("U1").is_staff and not of("U1").is_superuser


def test_free_names_count_up_and_ignore_case(operation: ImportOperation) -> None:
    UserFactory.create(username="JOHN")
    UserFactory.create(username="john-1")
    names = FreeNames()

    assert [names.take("John"), names.take("john"), names.take("jo")] == ["John-2", "john-3", "jo"]


def test_the_directory_knows_accounts_then_the_export_then_nobody(
    operation: ImportOperation,
) -> None:
    known_as(UserFactory.create(username="ann"), "U1")
    row = {"import_ids": ["U2"], "username": "ben"}
    StagedRecord.objects.create(operation=operation, kind="user", import_id="U2", data=row)
    users = UserDirectory(operation)

    assert (users.get("U1"), users.get("U2"), users.get("U3")) == ("ann", "ben", None)
    assert users["U2"] == "ben" and set(users) == {"U1", "U2", SYSTEM_BOT} and len(users) == 3
    with pytest.raises(KeyError):
        users["U3"]
    assert users.missing(["U1", "U2", "U3"]) == ["U2", "U3"]


def test_who_is_missing_is_looked_for_once_more(operation: ImportOperation) -> None:
    users = UserDirectory(operation)
    known_as(UserFactory.create(username="late"), "U9")

    assert users.missing(["U9"]) == []
    assert users.get("U9") == "late"
