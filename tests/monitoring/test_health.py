"""`/healthz` and `/readyz`: whether the process lives, and whether it can serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from pytest_django import Settings

from importops.engine.progress import worker_seen
from importops.monitoring import health
from importops.monitoring.health import Health, Migrations, Prober


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importops.monitoring.views.prober", Prober())


def ready() -> Any:
    return Client().get("/readyz")


def test_alive_asks_no_database_and_no_name() -> None:
    # Without the `db` fixture a statement would raise.
    response = Client(SERVER_NAME="10.1.2.3").get("/healthz")

    assert (response.status_code, response.json()) == (200, {"alive": True})
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies


@pytest.mark.django_db(transaction=True)
def test_ready_when_everything_is_there() -> None:
    worker_seen()
    response = ready()

    assert response.status_code == 200
    body = response.json()
    assert body["ready"] is True
    names = ("database", "migrations", "data_dir", "storage")
    assert body["checks"] == dict.fromkeys(names, "ok")
    assert body["worker"]["alive"] is True
    assert body["worker"]["silentSeconds"] < 5


@pytest.mark.django_db(transaction=True)
def test_no_worker_is_told_and_does_not_count() -> None:
    response = ready()

    assert response.status_code == 200
    assert response.json()["worker"] == {"alive": False, "silentSeconds": None}


@pytest.mark.django_db(transaction=True)
def test_not_ready_while_a_migration_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(health.CHECKS, "migrations", Migrations())
    rows = MigrationRecorder.Migration.objects.filter(app="importops")
    last = rows.order_by("pk").last()
    assert last is not None
    last.delete()
    try:
        response = ready()
    finally:
        MigrationRecorder.Migration.objects.create(app=last.app, name=last.name)

    assert response.status_code == 503
    assert response.json()["checks"]["migrations"] == "1 not applied; run manage.py bootstrap"


@pytest.mark.django_db(transaction=True)
def test_not_ready_without_its_data_folder(settings: Settings, tmp_path: Path) -> None:
    settings.IMPORTOPS = replace(settings.IMPORTOPS, data_dir=tmp_path / "gone")
    response = ready()

    assert response.status_code == 503
    assert response.json()["checks"]["data_dir"] == "cannot be written to"
    assert str(tmp_path) not in response.content.decode()


@pytest.mark.django_db(transaction=True)
def test_not_ready_when_stored_files_cannot_be_reached(settings: Settings) -> None:
    storages = {name: dict(value) for name, value in settings.STORAGES.items()}
    settings.STORAGES = storages | {"default": {"BACKEND": f"{__name__}.StoreThatIsAway"}}
    response = ready()

    assert response.status_code == 503
    assert response.json()["checks"]["storage"] == "out of reach"
    assert "secret" not in response.content.decode()


class StoreThatIsAway:
    def exists(self, name: str) -> bool:
        raise ConnectionError("https://key:secret@store.example.com does not answer")


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What a check waits for until it is set."""
    event = threading.Event()
    yield event
    event.set()


def test_what_hangs_costs_a_bounded_time_and_one_thread(hanging: threading.Event) -> None:
    rounds = 0

    def hang() -> Health:
        nonlocal rounds
        rounds += 1
        hanging.wait(30)
        return Health({"database": "ok"}, None)

    prober = Prober(hang)
    began = time.monotonic()
    answers = [prober.health(wait=0.05) for _ in range(3)]

    assert time.monotonic() - began < 5
    assert [answer.is_ready for answer in answers] == [False] * 3
    assert rounds == 1
    hanging.set()
    assert prober.health(wait=10).is_ready


def test_who_asks_at_once_shares_one_round() -> None:
    rounds: list[int] = []

    def look() -> Health:
        rounds.append(1)
        return Health({"database": "ok"}, None)

    prober = Prober(look)
    assert all(prober.health().is_ready for _ in range(50))
    assert len(rounds) == 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_only_reading_is_allowed(path: str) -> None:
    assert Client().post(path).status_code == 405
