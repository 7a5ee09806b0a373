"""Tasks over Celery: what django-tasks asks of a backend, for a site that runs RabbitMQ or Redis.

Owned rather than taken from django-tasks-fennel (0.1, its one release, 700 lines): nearly all of that
is for results, priorities and times, which our tasks do not have, and an `enqueue` there raises for
as long as Celery likes to retry while the broker is away, in the midst of a request. Here it fails
within seconds, and the sweeper queues the slice later.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.utils import timezone
from django_tasks.backends.base import BaseTaskBackend
from django_tasks.base import Task, TaskResult, TaskResultStatus
from kombu.exceptions import OperationalError

from importops.errors import QueueAway
from importops.tasks.celery_app import app


class CeleryBackend(BaseTaskBackend):
    """Puts tasks on the broker, by their path; `celery_app` knows what to run."""

    def enqueue(self, task: Task[Any, Any], args: Any, kwargs: Any) -> TaskResult[Any]:
        """Raises `QueueAway` when the broker does not take it."""
        self.validate_task(task)
        id = str(uuid4())
        try:
            app.send_task(task.module_path, args=args, kwargs=kwargs, task_id=id, retry=False)
        except (OperationalError, OSError) as error:
            raise QueueAway(f"The broker cannot be reached: {error}") from error
        return TaskResult(
            task=task,
            id=id,
            status=TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=list(args),
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
