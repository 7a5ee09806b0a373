"""The Celery application: how tasks are put on a broker, and taken off it.

A message is acknowledged before the work begins. So no time-out of a broker (RabbitMQ's for
consumers, Redis' visibility) hands a long slice to a second worker or closes a channel; what a worker
takes along when it dies, the lease gives back.
"""

from __future__ import annotations

from celery import Celery
from django.conf import settings

QUEUE = "importops"
PATIENCE = 4
"""Seconds until a broker that does not answer is given up: there may be a request behind us."""

app = Celery("importops", broker=settings.QUEUE.broker_url, set_as_current=False)
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=False,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    # Later it ends, and is started again by whoever stands over it: consumers that reconnect by
    # themselves have been seen to be connected and take nothing.
    broker_connection_retry=False,
    broker_connection_max_retries=None,
    broker_connection_timeout=PATIENCE,
    # The process that would have to send heartbeats is busy with a slice.
    broker_heartbeat=0,
    broker_transport_options={
        # Of a sender. A worker tries for ever (above).
        "max_retries": 1,
        "interval_start": 0,
        "socket_connect_timeout": PATIENCE,
        "socket_keepalive": True,
    },
)
