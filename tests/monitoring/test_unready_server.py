"""A real server whose database is away: it lives, it is not ready, and it says so at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.installation import ROOT, until

pytestmark = pytest.mark.process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    port, nowhere = free_port(), free_port()
    environment = os.environ | {
        "IMPORTOPS_DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"postgres://postgres:hidden-word@127.0.0.1:{nowhere}/importops",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "project.wsgi:application", "--bind"]
        + [f"127.0.0.1:{port}", "--worker-class=gthread", "--threads=2", "--log-level=error"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: answer(f"http://127.0.0.1:{port}/healthz")[0] == 200, 30, "alive")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def answer(url: str) -> tuple[int, str]:
    """Status and body; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - our own server
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_it_lives_and_is_not_ready(address: str) -> None:
    began = time.monotonic()
    status, body = answer(f"{address}/readyz")

    assert time.monotonic() - began < 8
    assert status == 503
    answers = json.loads(body)
    assert answers["ready"] is False
    assert answers["checks"]["database"] == "out of reach"
    assert (answers["checks"]["data_dir"], answers["checks"]["storage"]) == ("ok", "ok")
    assert "hidden-word" not in body and "127.0.0.1" not in body
    assert answer(f"{address}/healthz")[0] == 200
