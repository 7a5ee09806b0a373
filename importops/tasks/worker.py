"""The queue's worker, as one of our children: it stops at the next batch and says that it lives."""

from __future__ import annotations

import os
import threading
from types import FrameType

from django_tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME
from django_tasks_db.management.commands.db_worker import Worker

from importops.conf import conf
from importops.tasks.jobs import stopping
from importops.tasks.supervisor import heartbeat_path

POLL_SECONDS = 0.5
BEAT_SECONDS = 2.0


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
        threading.Thread(target=self._beat, daemon=True).start()
        super().run()

    def _beat(self) -> None:
        # A thread: it falls silent when the process is stopped or gone, and only then.
        path = heartbeat_path(os.getpid())
        while True:
            path.touch()
            if stopping.wait(min(BEAT_SECONDS, conf().lease_seconds / 4)):
                return
