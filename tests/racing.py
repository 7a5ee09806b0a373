"""Two workers at one place in one moment, on PostgreSQL: the second starts while the first is not committed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, connection, transaction

from tests.tasks.installation import until


class Second:
    """Runs `work` in a transaction of its own, in a thread; `answer` or `error` hold afterwards."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.answer: Any = None
        self.error: DatabaseError | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run)

    def start_and_wait_for_the_first(self) -> None:
        """Returns when it waits for what the caller's transaction holds."""
        self._thread.start()
        until(lambda: waits() or not self._thread.is_alive(), 10, "the second waits or is done")

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with transaction.atomic():
                self.answer = self._work()
        except DatabaseError as error:
            self.error = error
        finally:
            connection.close()


def waits() -> bool:
    """Whether somebody waits for what this connection has locked."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted"
            " AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return bool(cursor.fetchone()[0])
