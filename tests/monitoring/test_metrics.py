"""`/metrics`: the database's own numbers, for who has the token."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from importops.engine.progress import worker_seen
from importops.engine.timing import BUCKETS, buckets_of, timing_of
from importops.models import ImportSlice, Phase, Status, User
from tests.exports import slack_messages, slack_room, slack_user, slack_zip
from tests.factories import ImportFailureFactory, ImportOperationFactory, ImportSliceFactory
from tests.journeys import import_all

pytestmark = pytest.mark.django_db
TOKEN = "a-long-token-of-the-operators"


@pytest.fixture
def token(settings: Settings) -> str:
    settings.METRICS_TOKEN = TOKEN
    return TOKEN


def scrape(**headers: str) -> Any:
    return Client(SERVER_NAME="10.1.2.3").get("/metrics", headers=headers)


def numbers() -> dict[str, float]:
    """Every sample: `name{label="value"}` -> number."""
    response = scrape(authorization=f"Bearer {TOKEN}")
    assert response.status_code == 200
    found = {}
    for family in text_string_to_metric_families(response.content.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_without_a_token_in_the_settings_there_is_no_such_page() -> None:
    assert scrape().status_code == 404
    assert scrape(authorization="Bearer ").status_code == 404


@pytest.mark.parametrize(
    "given", ["", TOKEN, "Bearer ", "Bearer wrong", f"Basic {TOKEN}", "Bearer é"]
)
def test_without_the_right_token_nothing_is_told(token: str, given: str) -> None:
    response = scrape(authorization=given)

    assert response.status_code == 401
    assert b"importops_" not in response.content
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_before_the_first_import_everything_is_nothing(token: str) -> None:
    found = numbers()

    assert found['importops_operations{status="importer_done"}'] == 0
    assert found["importops_batch_seconds_count"] == 0
    assert found["importops_records_per_second"] == 0
    assert found["importops_worker_silent_seconds"] == float("inf")


def test_an_import_is_in_the_numbers(token: str, tmp_path: Path, alice: User) -> None:
    export = slack_zip(
        tmp_path / "export.zip",
        users=[slack_user("U1", "ann")],
        channels=[slack_room("C1", "general", ["U1"])],
        messages={"general": {"2024-01-02": [*slack_messages(5), 17]}},
    )
    import_all(export, alice)
    worker_seen()
    found = numbers()

    assert found['importops_operations{status="importer_done"}'] == 1
    assert found['importops_records{kind="messages",outcome="created"}'] == 5
    assert found['importops_records{kind="messages",outcome="failed"}'] == 1
    assert found['importops_records{kind="messages",outcome="total"}'] == 6
    assert sum(found[key] for key in found if key.startswith("importops_failures{")) == 1
    assert found["importops_batch_seconds_count"] >= 4
    assert found["importops_batch_seconds_sum"] > 0
    assert (
        found['importops_batch_seconds_bucket{le="+Inf"}'] == found["importops_batch_seconds_count"]
    )
    assert found["importops_worker_silent_seconds"] < 10
    assert found["importops_idle_seconds"] == 0


def test_what_waits_and_what_stands_still_is_told(token: str, alice: User) -> None:
    now = timezone.now()
    operation = ImportOperationFactory.create(
        user=alice,
        status=Status.IMPORTING_MESSAGES,
        phase=Phase.MESSAGES,
        started_at=now,
        updated_at=now - timedelta(minutes=2),
        progress={"at": now.timestamp(), "rate": 250.5},
        tally={"takeovers": 2, **timing_of(0.02)},
    )
    running = ImportSlice.Status.RUNNING
    ImportSliceFactory.create_batch(3, operation=operation)
    ImportSliceFactory.create(
        operation=operation, status=running, lease_until=now + timedelta(hours=1)
    )
    ImportSliceFactory.create(
        operation=operation, status=running, lease_until=now - timedelta(hours=1)
    )
    ImportFailureFactory.create(operation=operation, code="importer-x")
    found = numbers()

    states = {
        state: found[f'importops_slices{{state="{state}"}}'] for state in ("waiting", "running")
    }
    assert states == {"waiting": 3, "running": 1}
    assert found['importops_slices{state="abandoned"}'] == 1
    assert found["importops_takeovers_total"] == 2
    assert found["importops_records_per_second"] == 250.5
    assert 119 < found["importops_idle_seconds"] < 180
    assert found['importops_failures{code="importer-x"}'] == 1
    assert found['importops_batch_seconds_bucket{le="0.025"}'] == 1
    assert found['importops_batch_seconds_bucket{le="0.01"}'] == 0


def test_a_scrape_is_a_few_statements_and_never_counts_what_grows(token: str, alice: User) -> None:
    for _ in range(20):
        ImportOperationFactory.create(user=alice, status=Status.DONE)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        numbers()
    asked = [query["sql"] for query in captured]

    assert len(asked) <= 10
    for table in ("message", "file", "membership", "user", "stagedrecord"):
        assert not [sql for sql in asked if f'FROM "importops_{table}"' in sql]


def test_buckets_hold_what_took_no_longer() -> None:
    tally = {"batches": 0, "batch_us": 0}
    for seconds in (0.001, 0.04, 0.04, 99.0):
        for key, number in timing_of(seconds).items():
            tally[key] = tally.get(key, 0) + number
    found = dict(buckets_of(tally))

    assert (found["0.01"], found["0.05"], found[str(BUCKETS[-1])], found["+Inf"]) == (1, 3, 3, 4)
