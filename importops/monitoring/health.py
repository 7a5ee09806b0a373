"""What has to be there before this process can serve: asked quickly, and never for long.

The checks run in a thread of their own, one round at a time. So whoever asks waits `WAIT` seconds at
most, whatever a database or a store that hangs does to the round; a hundred who ask at once make
one round; and what hangs is not asked again before it has let go.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import NamedTuple

from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from importops.conf import conf
from importops.engine.progress import worker_silence

logger = logging.getLogger(__name__)

WAIT = 3.0
"""Seconds that a probe waits for its answer."""
FRESH = 1.0
"""Seconds that an answer is given again."""
OK = "ok"


class Health(NamedTuple):
    checks: Mapping[str, str]
    """Check -> `ok`, or what is wrong, without any secret."""
    worker_silence: float | None

    @property
    def is_ready(self) -> bool:
        return all(answer == OK for answer in self.checks.values())


class NotReady(Exception):
    """The message is for whoever asks: the cause, which may name hosts and users, is for the log."""


def check_database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:
        raise NotReady("out of reach") from error


class Migrations:
    """Once applied they stay so: then it costs nothing to ask again."""

    def __init__(self) -> None:
        self._applied = False

    def __call__(self) -> None:
        if self._applied:
            return
        try:
            executor = MigrationExecutor(connection)
            waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except Exception as error:
            raise NotReady("unknown, as the database is out of reach") from error
        if waiting:
            raise NotReady(f"{len(waiting)} not applied; run manage.py bootstrap")
        self._applied = True


def check_data_dir() -> None:
    try:
        with tempfile.TemporaryFile(dir=conf().data_dir) as file:
            file.write(b"ready")
            file.flush()
    except OSError as error:
        raise NotReady("cannot be written to") from error


def check_storage() -> None:
    try:
        default_storage.exists("readyz")
    except Exception as error:
        raise NotReady("out of reach") from error
    if isinstance(default_storage, FileSystemStorage):
        location = default_storage.location
        # It is made with the first file.
        if os.path.exists(location) and not os.access(location, os.W_OK | os.X_OK):
            raise NotReady("cannot be written to")


CHECKS: dict[str, Callable[[], None]] = {
    "database": check_database,
    "migrations": Migrations(),
    "data_dir": check_data_dir,
    "storage": check_storage,
}


def look() -> Health:
    """One round of all checks, each with its answer; the log has the cause of what is wrong."""
    answers = {}
    for name, check in CHECKS.items():
        try:
            check()
            answers[name] = OK
        except NotReady as error:
            answers[name] = str(error)
            logger.warning("not ready: %s %s (%s)", name, error, error.__cause__)
    return Health(answers, _silence())


def _silence() -> float | None:
    try:
        return worker_silence()
    except Exception:
        # A cache that is away makes nobody unready.
        logger.warning("the cache cannot be read", exc_info=True)
        return None


class Prober:
    def __init__(self, round_: Callable[[], Health] = look) -> None:
        self._look = round_
        self._lock = threading.Lock()
        self._round: Future[Health] | None = None
        self._ended_at = 0.0

    def health(self, wait: float = WAIT) -> Health:
        """The latest round's answers; when it does not come to an end, that as the answer."""
        with self._lock:
            stale = time.monotonic() - self._ended_at > FRESH
            if self._round is None or (self._round.done() and stale):
                self._round = Future()
                threading.Thread(target=self._run, args=[self._round], daemon=True).start()
            latest = self._round
        try:
            return latest.result(timeout=wait)
        except TimeoutError:
            return Health({"checks": f"no answer within {wait:g} s"}, None)

    def _run(self, answer: Future[Health]) -> None:
        try:
            answer.set_result(self._look())
        except Exception:
            logger.exception("the checks failed")
            answer.set_result(Health({"checks": "failed; the log tells why"}, None))
        finally:
            self._ended_at = time.monotonic()
            connection.close()


prober = Prober()
