"""A worker over Celery: `celery -A importops.tasks.celery_worker worker --pool solo`.

`import_worker` starts it as its child. It stops at the next batch and says that it
lives, as the other kind does (`worker.py`).
"""

from __future__ import annotations

import os
from typing import Any

import django
from celery.signals import worker_init, worker_shutting_down

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()

from importops.tasks.celery_app import app  # noqa: E402
from importops.tasks.heartbeat import start_beating  # noqa: E402
from importops.tasks.jobs import stopping, work_on_slice  # noqa: E402

__all__ = ["app"]

app.task(name=work_on_slice.module_path)(work_on_slice.func)


def begin(**kwargs: Any) -> None:
    start_beating()


def end_at_next_batch(**kwargs: Any) -> None:
    stopping.set()


# Before it has reached the broker: waiting for that is no reason to be replaced.
worker_init.connect(begin)
worker_shutting_down.connect(end_at_next_batch)
