"""The task functions that the queue calls. A task carries one id and nothing else.

State, attempts and delays are in our own tables, so any queue that delivers at least once will do;
what it loses, the sweeper puts back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from django.db import transaction
from django_tasks import task

from importops.engine.running import run_slice
from importops.errors import MustWait, WorkerStopping

stopping = threading.Event()
"""Set when this process has been asked to end: the slice at hand ends with its present batch."""


@task()
def work_on_slice(slice_id: int) -> None:
    """Run a slice, then queue what it made possible."""
    try:
        made = run_slice(slice_id, stop=stopping.is_set)
    except (WorkerStopping, MustWait):
        return  # the sweeper finds it again
    enqueue_slices(made)


def enqueue_slices(slice_ids: Iterable[int]) -> None:
    """Queue slices once the present transaction is committed."""
    for slice_id in slice_ids:
        transaction.on_commit(lambda pk=slice_id: work_on_slice.enqueue(pk))  # type: ignore[misc]
