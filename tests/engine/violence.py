"""An import done by several workers in one process: in any order, stopped, overtaken, and killed.

A worker's batch ends in `on_batch`; there another worker may do some batches before the first goes
on, which is how their steps come to lie between each other, and how one wakes up after it was given
up for dead. A killed worker is an exception that nothing of ours catches, out of any statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any

from django.db import connection
from django.utils import timezone

from importops.engine.running import advance, run_slice
from importops.errors import WorkerStopping
from importops.models import ImportOperation, ImportSlice, Phase

MOST_DEEP = 3
MOST_KILLED = 3  # a slice that five workers died on is given up, and rightly so
_BOUNDARIES = ("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT")


class Killed(BaseException):
    """The process is gone."""


class Workers:
    """Workers on `operation`; `look` is called after every batch, with what is committed then."""

    def __init__(
        self, operation: ImportOperation, random: Random, look: Callable[[], None]
    ) -> None:
        self.operation = operation
        self.random = random
        self.look = look
        self.killed = 0
        self._fuse = -1
        self._deep = 0

    def run(self) -> None:
        """Until the operation waits for a person or has ended."""
        with connection.execute_wrapper(self._execute):
            for _ in range(2_000):
                self.operation.refresh_from_db()
                if self.operation.phase == Phase.NONE or self.operation.finished_at:
                    return
                self._step()
        raise AssertionError("it goes on for ever")

    def _step(self) -> None:
        if self.random.random() < (0.3 if self._deep else 0.1):
            # Everybody has been silent for too long, also who is in the midst of a batch's end.
            self._slices().filter(status=ImportSlice.Status.RUNNING).update(
                lease_until=timezone.now() - timedelta(seconds=1)
            )
        ready = self._slices().claimable(timezone.now()).order_by("pk")
        keys = list(ready.values_list("pk", flat=True))
        with self._may_be_killed():
            if keys:
                self._work_on(self.random.choice(keys))
            else:
                advance(self.operation.pk)
        self.look()

    def _slices(self) -> Any:
        return ImportSlice.objects.filter(
            operation=self.operation, phase=self.operation.phase
        ).unfinished()

    def _work_on(self, pk: int) -> None:
        try:
            run_slice(pk, stop=lambda: self.random.random() < 0.3, on_batch=self._between)
        except WorkerStopping:
            return

    def _between(self) -> None:
        self.look()
        if self._deep < MOST_DEEP and self.random.random() < 0.3:
            self._deep += 1
            try:
                self._step()
            finally:
                self._deep -= 1

    @contextmanager
    def _may_be_killed(self) -> Iterator[None]:
        if self.killed < MOST_KILLED and self.random.random() < 0.2:
            self._fuse = self.random.randrange(60)
        try:
            yield
        except Killed:
            self.killed += 1
            self._slices().filter(status=ImportSlice.Status.RUNNING).update(
                lease_until=timezone.now() - timedelta(seconds=1)
            )
        finally:
            self._fuse = -1

    def _execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self._fuse >= 0 and not sql.startswith(_BOUNDARIES):
            self._fuse -= 1
            if self._fuse < 0:
                raise Killed
        return execute(sql, params, many, context)
