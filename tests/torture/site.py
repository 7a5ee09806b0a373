"""What is tortured: an installation, its process trees, and where they need it a server, a line, a disk."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from tests.servers import Broker
from tests.tasks.installation import Installation, children, kill, stat_of, tree, until
from tests.torture.disk import SmallDisk
from tests.torture.postgresql import Cluster
from tests.torture.proxy import Proxy, free_port

ENDED = ("importer_done", "importer_import_failed", "importer_import_cancelled")
LEASE, SWEEP = 2, 1
BATCH_ROWS = 5
SETUP = "importer_user_selection"
TAKEN_UP_WITHIN = 30.0
"""What was promised. The lease is short here, but a task that the queue lost waits for its real grace."""
ENDS_WITHIN = 90.0
WAITS_FOR = 20.0

HELD = "SELECT COUNT(*) FROM importops_importslice WHERE status = 'running' AND worker LIKE ?"
PROGRESS = """
    SELECT o.phase || ' ' || o.status || ' ' || (SELECT COUNT(*) FROM importops_message) || ' ' ||
        (SELECT COUNT(*) FROM importops_importslice WHERE status = 'done') || ' ' ||
        (SELECT COUNT(*) FROM importops_importfailure) || ' ' || (SELECT COUNT(*) FROM importops_stagedrecord)
        || ' ' || COALESCE((SELECT {together} FROM importops_importslice WHERE status <> 'done'), '')
    FROM importops_importoperation o ORDER BY o.id DESC LIMIT 1
"""
TOGETHER = {
    "sqlite": 'group_concat("cursor")',
    "postgresql": "string_agg(\"cursor\"::text, ' ' ORDER BY id)",
}


class Site:
    """One installation and everything around it; `remove` leaves nothing behind."""

    def __init__(
        self,
        folder: Path,
        template: Installation,
        chance: random.Random,
        *,
        cluster: Cluster | None = None,
        database: str = "",
        proxy: bool = False,
        disk: SmallDisk | None = None,
        broker: Broker | None = None,
        serve: bool = False,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.chance = chance
        self.cluster = cluster
        self.disk = disk
        self.broker = broker
        self.database = database
        self.proxy = Proxy(cluster.port) if cluster and proxy else None
        self.kind = "postgresql" if cluster else "sqlite"
        self.reasons: set[str] = set()
        data = folder / "data"
        shutil.copytree(template.folder, data, dirs_exist_ok=True)
        settings = {
            "batch_rows": str(BATCH_ROWS),
            "lease_seconds": str(LEASE),
            "sweep_seconds": str(SWEEP),
            "min_free_bytes": "1000000",
            **settings,
        }
        # The harness looks at the server itself; only the workers' line is cut.
        self.looking = Installation(
            data, database_url=cluster.url(database) if cluster else "", **settings
        )
        line = cluster.url(database, self.proxy.port) if cluster and self.proxy else None
        self.working = Installation(
            data, database_url=line or self.looking.database_url, **settings
        )
        for installation in (self.looking, self.working):
            installation.log = folder / "log"  # not on a disk that is going to be full
            installation.environment["DJANGO_SETTINGS_MODULE"] = "tests.torture.settings"
            if broker:
                installation.environment |= {
                    "IMPORTOPS_QUEUE": "celery",
                    "IMPORTOPS_BROKER_URL": broker.url,
                }
        self._command: tuple[object, ...] = ("import_worker",)
        if serve:
            self._command = ("serve", "--port", free_port())
        # On PostgreSQL two trees with a worker each, as on two machines.
        self._wanted = 2 if cluster and not serve else 1
        if serve and cluster:
            self.working.environment["IMPORTOPS_WORKER_PROCESSES"] = "2"
        self.trees: list[subprocess.Popen[bytes]] = []

    # Processes.

    def start(self) -> None:
        """Start what is not running, as a service manager does."""
        for process in self.trees:
            process.poll()
        self.trees = [process for process in self.trees if process.returncode is None]
        for _ in range(self._wanted - len(self.trees)):
            self.trees.append(self.working.spawn(*self._command))

    def workers(self) -> list[int]:
        """The worker processes that are running (not those of the web server)."""
        return [
            pid
            for process in self.trees
            for pid in children(process.pid)
            if b"--child" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def a_worker(self) -> int:
        return self.chance.choice(until(self.workers, 20, "a worker"))

    def kill_all(self) -> None:
        for pid in self.working.processes():
            kill(pid, signal.SIGKILL)
        for process in self.trees:
            process.wait(20)

    def remove(self) -> None:
        for process in self.trees:
            for pid in tree(process.pid):
                kill(pid, signal.SIGKILL)
        self.kill_all()
        if self.proxy:
            self.proxy.close()

    # What can be seen from outside.

    def look(self, sql: str, *parameters: Any) -> Any:
        """The answer, or None while the database gives none."""
        try:
            return self.looking.ask(sql, *parameters)
        except (sqlite3.Error, psycopg.Error):
            return None

    @property
    def status(self) -> str:
        return str(self.look("SELECT status FROM importops_importoperation ORDER BY id DESC") or "")

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def at_rest(self) -> bool:
        """Nothing is to be waited for: it has ended, or a person has to choose."""
        return self.status in (*ENDED, SETUP)

    @property
    def messages(self) -> int:
        return self.look("SELECT COUNT(*) FROM importops_message") or 0

    @property
    def reason(self) -> str:
        """Why the import waits; remembered in `reasons`."""
        found = self.look("SELECT paused_because FROM importops_importoperation ORDER BY id DESC")
        if found:
            self.reasons.add(found)
        return found or ""

    def progress(self) -> str | None:
        """Changes with every committed batch; None while the database is away."""
        found: str | None = self.look(PROGRESS.format(together=TOGETHER[self.kind]))
        return found

    def log(self) -> str:
        log = self.looking.log
        return log.read_text(errors="replace") if log.exists() else ""

    # Waiting, always bounded.

    def wait_for_progress(self, seconds: float = TAKEN_UP_WITHIN) -> None:
        """Until something is committed that was not when this was called, or all is over."""
        before = self.progress()

        def got_on() -> bool:
            _ = self.reason
            now = self.progress()
            changed = before is not None and now is not None and now != before
            return changed or self.at_rest

        until(got_on, seconds, f"a committed batch after {before}; {self.reason or 'no reason'}")

    def wait_until_free(self, pids: list[int]) -> None:
        """Until no slice is held by any of these processes."""

        def free() -> bool:
            return all(self.look(HELD, f"%:{pid}") == 0 for pid in pids)

        until(free, TAKEN_UP_WITHIN, f"the slices of {pids} are taken up")

    def wait_for_log(self, words: str, since: int) -> None:
        until(lambda: words in self.log()[since:], WAITS_FOR, f"{words!r} in the log")

    def wait_for(self, status: str) -> None:
        def reached() -> bool:
            _ = self.reason
            now = self.status
            assert now == status or now not in ENDED, f"{now}: {self.verdict()['error']}"
            return now == status

        until(reached, ENDS_WITHIN, f"{status}; {self.progress()}; {self.reason or 'no reason'}")

    # What a person does.

    def act(self, *arguments: object) -> str:
        """One of the actions of `tests/tasks/installation.py`; tried again, as a person would."""
        for _ in range(2):
            try:
                return self.looking.act(*arguments)
            except AssertionError:
                # The server is just coming back. Whatever was done already is refused below.
                if self.status.startswith("importer_importing"):
                    return ""
        return self.looking.act(*arguments)

    def verdict(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.act("verdict"))
        return told


def is_stopped(pid: int) -> Callable[[], bool]:
    return lambda: stat_of(pid)[0] == "T"


def now() -> float:
    return time.monotonic()
