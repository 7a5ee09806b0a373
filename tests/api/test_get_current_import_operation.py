"""`GET getCurrentImportOperation`: the seed, byte by byte."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from importops.api.current import read_current_operation
from importops.models import ApiToken, ImportOperation, Status
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory, UserFactory

SEED = "getCurrentImportOperation"
DOCUMENTED = (
    b'{"success":true,"operation":{"_id":"7PbvsnKJD9ZAqw38C","type":"Pending Avatars",'
    b'"importerKey":"pending-avatars","ts":1635337234169,"status":"importer_done","valid":true,'
    b'"user":"d26x6zSkaPSe5gCyy","_updatedAt":"2021-10-27T12:20:34.184Z"}}'
)


def documented_operation(**fields: Any) -> ImportOperation:
    """The operation of the documentation's example."""
    return ImportOperationFactory.create(
        public_id="7PbvsnKJD9ZAqw38C",
        type="Pending Avatars",
        importer_key="pending-avatars",
        ts=datetime(2021, 10, 27, 12, 20, 34, 169_000, tzinfo=UTC),
        updated_at=datetime(2021, 10, 27, 12, 20, 34, 184_000, tzinfo=UTC),
        status=Status.DONE,
        user=UserFactory.create(public_id="d26x6zSkaPSe5gCyy"),
        **fields,
    )


def test_the_body_is_the_documented_one(alice_client: ApiClient) -> None:
    documented_operation()
    response = alice_client.get(SEED)
    assert (response.status_code, response.content) == (200, DOCUMENTED)
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert response["Pragma"] == "no-cache"


def test_optional_fields_follow_once_they_have_a_value(alice_client: ApiClient) -> None:
    documented_operation(
        content_type="application/zip",
        file="2021926111747_d26x6zSkaPSe5gCyy_export.zip",
        tally={
            "users.total": 3,
            "users.created": 1,
            "users.failed": 1,
            "users.skipped.deselected": 1,
            "channels.total": 1,
            "messages.total": 10,
            "messages.updated": 4,
        },
    )
    assert alice_client.get(SEED).content == DOCUMENTED[:-2] + (
        b',"contentType":"application/zip",'
        b'"file":"2021926111747_d26x6zSkaPSe5gCyy_export.zip",'
        b'"count":{"users":3,"channels":1,"messages":10,"total":14,"completed":5,"error":1,'
        b'"skipped":1}}}'
    )


def test_without_any_operation_it_is_null(alice_client: ApiClient) -> None:
    assert alice_client.get(SEED).content == b'{"success":true,"operation":null}'


@pytest.mark.parametrize(
    ("microsecond", "ts", "updated_at"),
    [
        (0, 1635337234000, "2021-10-27T12:20:34.000Z"),
        (999, 1635337234000, "2021-10-27T12:20:34.000Z"),
        (1_999, 1635337234001, "2021-10-27T12:20:34.001Z"),
        (999_999, 1635337234999, "2021-10-27T12:20:34.999Z"),
    ],
)
def test_times_are_cut_to_milliseconds(
    alice_client: ApiClient, microsecond: int, ts: int, updated_at: str
) -> None:
    moment = datetime(2021, 10, 27, 12, 20, 34, microsecond, tzinfo=UTC)
    ImportOperationFactory.create(ts=moment, updated_at=moment)
    operation = alice_client.get(SEED).json()["operation"]
    assert (operation["ts"], operation["_updatedAt"]) == (ts, updated_at)


def test_it_shows_the_latest(alice_client: ApiClient) -> None:
    now = timezone.now()
    latest = ImportOperationFactory.create(ts=now)
    ImportOperationFactory.create(ts=now - timedelta(days=1))
    assert alice_client.get(SEED).json()["operation"]["_id"] == latest.public_id


def test_it_shows_the_latest_even_when_invalid(alice_client: ApiClient) -> None:
    ImportOperationFactory.create(valid=False)
    assert alice_client.get(SEED).json()["operation"]["valid"] is False


def test_a_running_one_comes_before_a_later_one(alice_client: ApiClient) -> None:
    now = timezone.now()
    running = ImportOperationFactory.create(
        ts=now - timedelta(days=1), status=Status.IMPORTING_MESSAGES
    )
    ImportOperationFactory.create(ts=now)
    assert alice_client.get(SEED).json()["operation"]["_id"] == running.public_id


def test_it_reads_the_same_row_as_the_model(alice: Any) -> None:
    now = timezone.now()
    for days, status in enumerate(
        [Status.DONE, Status.USER_SELECTION, Status.IMPORTING_USERS, Status.FAILED]
    ):
        ImportOperationFactory.create(
            ts=now + timedelta(days=days), status=status, started_at=now, tally={"bytes": 1}
        )
        expected = ImportOperation.objects.select_related("user").current()
        found = read_current_operation()
        assert found is not None
        assert expected is not None
        assert found == expected
        for field in ("ts", "updated_at", "started_at", "finished_at", "tally", "progress"):
            assert getattr(found, field) == getattr(expected, field)
        assert (found.valid, found.state) == (expected.valid, expected.state)
        assert found.user.public_id == expected.user.public_id


def test_it_takes_two_statements(
    alice_client: ApiClient,
    alice_token: ApiToken,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    documented_operation(tally={"users.total": 3})
    ApiToken.objects.update(last_used_at=timezone.now())
    with django_assert_num_queries(2):
        assert alice_client.get(SEED).status_code == 200


@pytest.mark.sqlite
@pytest.mark.django_db
def test_finding_the_operation_scans_no_table() -> None:
    from importops.api.current import _SELECT

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {_SELECT}")
        plan = [row[3] for row in cursor.fetchall()]
    scans = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
    assert [step for step in scans if "importoperation" in step or "user" in step] == []


def test_it_takes_no_query(alice_client: ApiClient) -> None:
    response = alice_client.get(f"{SEED}?x=1")
    assert response.status_code == 400
    assert response.content == (
        b'{"success":false,"errorType":"error-invalid-params",'
        b'"error":"must NOT have additional properties"}'
    )
