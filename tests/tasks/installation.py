"""An installation of its own, in its own directory, for tests of real processes.

What is done in it is done by processes (`python -m tests.tasks.installation …` for what no command
does); the test only looks at its database. Nothing sleeps for a fixed time: `until` looks again.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float, what: str) -> T:
    """The first true answer of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.02)


class Installation:
    def __init__(self, folder: Path, *, database_url: str = "", **settings: str) -> None:
        """`database_url`: of a PostgreSQL database that is its own; else it has a SQLite file."""
        self.folder = folder
        self.database_url = database_url
        self.log = folder / "log"
        own = {f"IMPORTOPS_{name.upper()}": value for name, value in settings.items()}
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("IMPORTOPS_", "COV_", "PYTEST_"))
            and name not in ("DATABASE_URL", "CACHE_URL")
        }
        self.environment = (
            inherited
            | own
            | {
                "IMPORTOPS_DATA_DIR": str(folder),
                "DJANGO_SETTINGS_MODULE": "project.settings",
            }
            | ({"DATABASE_URL": database_url} if database_url else {})
        )

    def run(self, *arguments: object) -> str:
        """Output of a process that has to succeed."""
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def manage(self, *arguments: object) -> str:
        return self.run("manage.py", *arguments)

    def act(self, *arguments: object) -> str:
        return self.run("-m", "tests.tasks.installation", *arguments).strip()

    @contextmanager
    def running(self, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
        """`manage.py` with `arguments`, and whatever it started, gone at the end in any case."""
        process = self.spawn(*arguments)
        try:
            yield process
        finally:
            for pid in {*tree(process.pid), *self.processes()}:
                kill(pid, signal.SIGKILL)
            process.wait()

    def spawn(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start `manage.py` with `arguments`; whoever calls has to see to its end."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "manage.py", *map(str, arguments)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """Every living process of this installation, whoever its parent is now."""
        mine = f"IMPORTOPS_DATA_DIR={self.folder}".encode()
        return [pid for pid in living() if mine in environment_of(pid)]

    def ask(self, sql: str, *parameters: Any) -> Any:
        """The first value of the first row, read past everything of ours."""
        if self.database_url:
            with psycopg.connect(self.database_url, connect_timeout=5) as server:
                row = server.execute(sql.replace("?", "%s"), parameters or None).fetchone()
                return row and row[0]
        with closing(sqlite3.connect(self.folder / "importops.sqlite3", timeout=10)) as database:
            row = database.execute(sql, parameters).fetchone()
            return row and row[0]

    @property
    def status(self) -> str:
        return str(self.ask("SELECT status FROM importops_importoperation ORDER BY id DESC"))

    @property
    def messages(self) -> int:
        return int(self.ask("SELECT COUNT(*) FROM importops_message"))

    def wait_for(self, status: str, seconds: float = 60) -> None:
        def reached() -> bool:
            now = self.status
            assert now == status or now not in ("importer_import_failed", "importer_done"), now
            return now == status

        until(reached, seconds, f"status {status}")


def living() -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and stat_of(int(entry.name))[0] not in "ZX"
    ]


def stat_of(pid: int) -> tuple[str, int]:
    """State and parent of a process; `X`: there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[1])


def environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def children(pid: int) -> list[int]:
    return [each for each in living() if stat_of(each)[1] == pid]


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(each for child in children(pid) for each in tree(child))]


def kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def main(action: str, *arguments: str) -> None:
    """`queue EXPORT`, `start` what was queued, `hash` the workspace, is a worker `alive`, or the `verdict`
    on an import: its status, its counts and the hash."""
    import django

    django.setup()
    from django.core.files import File

    from importops.actions.operations import (
        create_operation,
        current_operation,
        start_operation,
    )
    from importops.engine.progress import counts, worker_alive
    from importops.models import User
    from tests.canonical import canonical_hash
    from tests.journeys import EVERYTHING

    admin = User.objects.get(username="admin")
    if action == "queue":
        with open(arguments[0], "rb") as file:
            create_operation(
                user=admin,
                importer_key="slack",
                upload=File(file),
                file_name="export.zip",
                content_type="application/zip",
            )
    elif action == "start":
        start_operation(current_operation(), EVERYTHING, admin)
    elif action == "alive":
        sys.stdout.write(str(worker_alive()))
    elif action == "hash":
        sys.stdout.write(canonical_hash())
    elif action == "verdict":
        operation = current_operation()
        told = {"status": operation.status, "error": operation.error, "counts": counts(operation)}
        sys.stdout.write(json.dumps(told | {"hash": canonical_hash()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
