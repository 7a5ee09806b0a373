"""The queue's worker, as one of our children: it stops at the next batch and says that it lives."""

from __future__ import annotations

import os
import time
from types import FrameType

from django.db import DatabaseError, InterfaceError, connection
from django_tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME
from django_tasks_db.management.commands.db_worker import Worker

from importops.engine.outside import growing, reason_to_wait, remind
from importops.tasks.heartbeat import start_beating
from importops.tasks.jobs import stopping

POLL_SECONDS = 0.5
LONGEST_WAIT = 10.0
"""Seconds until a database that was away is tried again, at the most."""


class SliceWorker(Worker):
    """`db_worker`'s loop, whose first signal also ends the slice at its next batch."""

    def __init__(self) -> None:
        super().__init__(
            queue_names=[DEFAULT_TASK_QUEUE_NAME],
            interval=POLL_SECONDS,
            batch=False,
            backend_name=DEFAULT_TASK_BACKEND_ALIAS,
            startup_delay=False,
            max_tasks=None,
            worker_id=f"{os.uname().nodename}-{os.getpid()}"[:64],
            excluded_queue_names=[],
        )

    def shutdown(self, signum: int, frame: FrameType | None) -> None:
        stopping.set()
        super().shutdown(signum, frame)

    def run(self) -> None:
        start_beating()
        delays = growing(POLL_SECONDS, LONGEST_WAIT)
        while self.running:
            began = time.monotonic()
            try:
                super().run()
            except (DatabaseError, InterfaceError) as error:
                if (reason := reason_to_wait(error)) is None:
                    raise
                remind("the queue cannot be read", reason)
                # It may be broken, or in the middle of a transaction.
                connection.close()
                if time.monotonic() - began > LONGEST_WAIT:
                    delays = growing(POLL_SECONDS, LONGEST_WAIT)
                time.sleep(next(delays))  # a signal ends the process from here
