"""The task functions that the queue calls. A task carries one id and nothing else.

State, attempts and delays are in our own tables, so any queue that delivers at least once will do;
what it loses, the sweeper puts back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from functools import partial

from django.db import transaction
from django.utils import timezone
from django_tasks import task

from importops.engine.running import run_slice
from importops.errors import MustWait, QueueAway, WorkerStopping
from importops.models import ImportSlice

logger = logging.getLogger(__name__)

stopping = threading.Event()
"""Set when this process has been asked to end: the slice at hand ends with its present batch."""


@task()
def work_on_slice(slice_id: int) -> None:
    """Run a slice, then queue what it made possible."""
    try:
        made = run_slice(slice_id, stop=stopping.is_set)
    except WorkerStopping:
        return
    except MustWait as error:
        logger.warning("slice %s waits: %s", slice_id, error.message)
        return  # the sweeper finds it again
    enqueue_slices(made)


def enqueue_slices(slice_ids: Iterable[int]) -> None:
    """Queue slices once the present transaction is committed. A queue that is away is no error: what
    was to be done is done, and the sweeper queues them when it can."""
    wanted = list(slice_ids)
    if wanted:
        transaction.on_commit(partial(_put_on_queue, wanted))


def _put_on_queue(slice_ids: list[int]) -> None:
    for done, slice_id in enumerate(slice_ids):
        try:
            work_on_slice.enqueue(slice_id)
        except QueueAway as error:
            left = slice_ids[done:]
            logger.warning("%s %d slice(s) are queued later.", error.message, len(left))
            # Without the grace of what is on the queue: the sweeper's next round has them.
            ImportSlice.objects.filter(pk__in=left).update(look_again_at=timezone.now())
            return
