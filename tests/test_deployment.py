"""Which queue and which store: what does not go together is said at start, all of it at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from importops.deployment import ObjectStore, Queue
from tests.tasks.installation import Installation

BROKER = "amqp://someone:opensesame@broker.example.com:5672/importops"
STORE = {"IMPORTOPS_STORAGE": "s3", "IMPORTOPS_S3_BUCKET": "exports", "SECRET_KEY": "shared"}


def problems(folder: Path, **environment: str) -> str:
    """What a process that is started with `environment` says; empty when it starts."""
    started = subprocess.run(
        [sys.executable, "-c", "import project.settings"],
        env=Installation(folder).environment | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return started.stderr.strip().rpartition("\n")[2] if started.returncode else ""


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"IMPORTOPS_QUEUE": "kafka"}, "IMPORTOPS_QUEUE is one of database, celery, not 'kafka'."),
        ({"IMPORTOPS_QUEUE": "celery"}, "needs IMPORTOPS_BROKER_URL"),
        ({"IMPORTOPS_BROKER_URL": BROKER}, "has no effect unless IMPORTOPS_QUEUE is celery"),
        (
            {"IMPORTOPS_QUEUE": "celery", "IMPORTOPS_BROKER_URL": "kafka://h:opensesame@x"},
            "is not the address of a broker",
        ),
        (
            {"IMPORTOPS_QUEUE": "celery", "IMPORTOPS_BROKER_URL": "amqp://h:opensesame@x:port"},
            "is not the address of a broker",
        ),
        ({"IMPORTOPS_STORAGE": "nfs"}, "IMPORTOPS_STORAGE is one of file, s3, not 'nfs'."),
        ({"IMPORTOPS_STORAGE": "s3", "SECRET_KEY": "x"}, "needs IMPORTOPS_S3_BUCKET"),
        ({"IMPORTOPS_S3_BUCKET": "exports"}, "has no effect unless IMPORTOPS_STORAGE is s3"),
        ({**STORE, "SECRET_KEY": ""}, "have to share SECRET_KEY"),
        ({**STORE, "IMPORTOPS_S3_SECRET_KEY": "opensesame"}, "go together"),
        ({**STORE, "IMPORTOPS_S3_ENDPOINT": "s3.example.com"}, "begins with http:// or https://"),
        ({"IMPORTOPS_STORAGE": "s3", "IMPORTOPS_QUEUE": "celery"}, "BROKER_URL (amqp"),
        ({"IMPORTOPS_STORAGE": "s3", "IMPORTOPS_QUEUE": "celery"}, "IMPORTOPS_S3_BUCKET"),
    ],
)
def test_what_does_not_go_together_stops_the_start(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    sentence = problems(tmp_path, **environment)
    assert said in sentence
    assert "opensesame" not in sentence


def test_what_goes_together_starts(tmp_path: Path) -> None:
    pytest.importorskip("celery", reason="requirements-celery.txt is not installed")
    pytest.importorskip("storages", reason="requirements-s3.txt is not installed")
    celery = {"IMPORTOPS_QUEUE": "celery", "IMPORTOPS_BROKER_URL": BROKER}
    assert problems(tmp_path) == ""
    assert problems(tmp_path, **celery, **STORE) == ""


def test_without_the_packages_it_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importops.deployment.find_spec", lambda name: None)
    assert list(Queue("celery", BROKER).problems()) == [
        "IMPORTOPS_QUEUE=celery needs more packages: pip install -r requirements-celery.txt."
    ]
    assert list(ObjectStore("exports").problems("s3", has_secret_key=True)) == [
        "IMPORTOPS_STORAGE=s3 needs more packages: pip install -r requirements-s3.txt."
    ]


def test_secrets_are_not_shown_with_the_settings() -> None:
    shown = repr([Queue("celery", BROKER), ObjectStore(secret_key="opensesame")])
    assert "opensesame" not in shown


@pytest.mark.postgresql
def test_beside_postgresql_the_cache_is_shared_by_all_machines(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from project import settings; print(settings.CACHES)"],
        env=Installation(tmp_path).environment | {"DATABASE_URL": os.environ["DATABASE_URL"]},
        capture_output=True,
        text=True,
    )
    assert "DatabaseCache" in said.stdout
    assert "importops_cache" in said.stdout
