"""What nobody else does: taking up what crashed processes left behind. Every turn may run anywhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import close_old_connections
from django.db.models import F, Q
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from importops.conf import conf
from importops.engine.outside import mend_connection, reason_to_wait, remind
from importops.engine.progress import worker_seen
from importops.engine.running import advance
from importops.engine.slices import QUEUE_GRACE, settle_stopped
from importops.errors import MustWait
from importops.models import ImportOperation, ImportSlice
from importops.models.operations import ENDED, ImportSliceQuerySet
from importops.tasks.jobs import enqueue_slices

logger = logging.getLogger(__name__)

RESULTS_KEPT = timedelta(days=1)
LEFTOVERS_KEPT = timedelta(days=1)


class Sweeper:
    def run(self, over: threading.Event) -> None:
        """A round every `sweep_seconds`, until `over`."""
        while not over.is_set():
            try:
                close_old_connections()
                self.turn()
            except Exception:
                logger.exception("a round failed; the next one tries again")
            over.wait(conf().sweep_seconds)

    def turn(self) -> None:
        """One round. What outside prevents (the database is away) is left for the next one."""
        steps: tuple[Callable[[], object], ...] = (
            worker_seen,
            self.requeue_slices,
            self.settle_operations,
            self.forget_results,
            self.remove_leftovers,
        )
        for step in steps:
            try:
                step()
            except Exception as error:
                # One that cannot be done keeps none of the others from being done.
                if (reason := reason_to_wait(error)) is None:
                    raise
                remind(f"sweeping ({step.__name__})", reason)
                mend_connection()

    def requeue_slices(self) -> int:
        """Queue slices that are ready, or whose worker has gone silent, and that nobody queued lately;
        how many."""
        now = timezone.now()
        # A lease that ran out is not left alone as what was just queued is: nobody works on it.
        # Queueing it moves the time past this, so that it happens once.
        abandoned = Q(
            status=ImportSlice.Status.RUNNING,
            look_again_at__lte=F("lease_until") + QUEUE_GRACE,
        )
        waiting = ImportSlice.objects.claimable(now).of_active_operations()
        if self._are_queued(waiting):
            waiting = waiting.filter(abandoned)
        else:
            waiting = waiting.filter(Q(look_again_at__lte=now) | abandoned)
        # Of several sweepers one moves the time on, so a long queue does not fill with copies.
        mine = [
            pk
            for pk in list(waiting.order_by("pk").values_list("pk", flat=True)[:100])
            if waiting.filter(pk=pk).update(look_again_at=now + QUEUE_GRACE)
        ]
        enqueue_slices(mine)
        return len(mine)

    def _are_queued(self, waiting: ImportSliceQuerySet) -> bool:
        """Whether our own queue holds a task for all that wait: they wait for workers, not for us.

        Of a broker's queue this cannot be known; what is on it twice is done once.
        """
        ready = waiting.filter(status=ImportSlice.Status.READY).count()
        return 0 < ready <= DBTaskResult.objects.ready().count()

    def settle_operations(self) -> None:
        """Bring operations on whose last worker died between finishing a slice and saying so."""
        unsettled = ImportOperation.objects.exclude(status__in=ENDED)
        for pk in unsettled.exclude(cancel_requested_at=None).values_list("pk", flat=True):
            settle_stopped(pk)
        for pk in ImportOperation.objects.active().values_list("pk", flat=True):
            with suppress(MustWait):
                enqueue_slices(advance(pk))

    def remove_leftovers(self) -> None:
        """What processes that were killed left behind: parts of uploads, signs of life. Nothing of
        that kind is in use after a day."""
        before = (timezone.now() - LEFTOVERS_KEPT).timestamp()
        for folder in (Path(settings.FILE_UPLOAD_TEMP_DIR), conf().data_dir / "run"):
            for path in folder.glob("*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()

    def forget_results(self) -> None:
        """The queue's own records of finished tasks are of no use to anybody after a day; nor are those
        of tasks that run no more, because their worker was killed: the queue never looks at them again.
        """
        before = timezone.now() - RESULTS_KEPT
        DBTaskResult.objects.finished().filter(finished_at__lt=before).delete()
        DBTaskResult.objects.running().filter(started_at__lt=before).delete()
