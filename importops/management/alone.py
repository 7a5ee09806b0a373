"""One process at a time, over all machines: what two that start together must not both do."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection

from importops.conf import conf

LOCK = 0x696D706F7274  # of this database; any number that nobody else takes
LOOK_EVERY = 0.5


@contextmanager
def alone(on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds a lock of the database server, or of the data folder on SQLite, which ends with the
    process. `on_wait` is called once when somebody else has it."""
    lock = _server_lock() if connection.vendor == "postgresql" else _folder_lock()
    with lock as is_mine:
        if not is_mine():
            on_wait()
            while not is_mine():
                time.sleep(LOOK_EVERY)
        yield


@contextmanager
def _server_lock() -> Iterator[Callable[[], bool]]:
    def is_mine() -> bool:
        # Not the call that waits: time-outs of the connection are shorter than a long migration.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            return bool(cursor.fetchone()[0])

    try:
        yield is_mine
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")


@contextmanager
def _folder_lock() -> Iterator[Callable[[], bool]]:
    with (conf().data_dir / "bootstrap.lock").open("w") as file:

        def is_mine() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        yield is_mine
