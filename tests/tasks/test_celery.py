"""The queue over a broker, as far as no worker is needed for it: tests/acceptance/test_machines.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

pytest.importorskip("celery", reason="requirements-celery.txt is not installed")

import kombu.pools

from importops.deployment import Queue
from importops.models import ImportOperation, ImportSlice, Phase, Status
from importops.tasks.celery_app import PATIENCE, QUEUE, app
from importops.tasks.jobs import enqueue_slices, work_on_slice
from importops.tasks.sweeper import Sweeper
from tests.factories import ImportOperationFactory
from tests.servers import Broker, free_port, rabbitmq, redis

pytestmark = [pytest.mark.process, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module", params=["rabbitmq", "redis"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    kinds = {"rabbitmq": rabbitmq, "redis": redis}
    with kinds[request.param](tmp_path_factory.mktemp(request.param)) as broker:
        yield broker


@pytest.fixture
def slices(db: None) -> list[ImportSlice]:
    """Of a running import, not on any queue."""
    operation: ImportOperation = ImportOperationFactory.create(
        status=Status.IMPORTING_MESSAGES, phase=Phase.MESSAGES
    )
    return [
        ImportSlice.objects.create(operation=operation, phase=Phase.MESSAGES, number=number)
        for number in (1, 2, 3)
    ]


def use(settings: Settings, url: str) -> None:
    settings.TASKS = Queue("celery", url).tasks()
    app.conf.broker_url = app.conf.broker_write_url = url
    # It keeps connections to the broker of the test before.
    kombu.pools.reset()
    app._pool = app.amqp._producer_pool = None


def waiting() -> int:
    with app.connection_for_read() as connection:
        return int(connection.default_channel.queue_declare(QUEUE, passive=True).message_count)


def test_a_task_goes_to_our_own_queue_with_one_id(
    broker: Broker, settings: Settings, slices: list[ImportSlice]
) -> None:
    use(settings, broker.url)
    enqueue_slices([slices[0].pk])
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(QUEUE).get(timeout=10)
        message.ack()
        assert message.payload[:2] == [[slices[0].pk], {}]
        assert message.headers["task"] == work_on_slice.module_path


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_is_away_delays_no_one_and_loses_nothing(
    settings: Settings, slices: list[ImportSlice], scheme: str
) -> None:
    use(settings, f"{scheme}://127.0.0.1:{free_port()}/0")
    later = timezone.now() + timedelta(hours=1)
    ImportSlice.objects.update(look_again_at=later)
    began = time.monotonic()
    enqueue_slices(piece.pk for piece in slices)

    assert time.monotonic() - began < PATIENCE + 2
    # All three wait for the next round of the sweeper, not for the grace of what is queued.
    assert ImportSlice.objects.filter(look_again_at__lte=timezone.now()).count() == 3


def test_the_sweeper_puts_back_what_a_broker_has_lost(
    broker: Broker, settings: Settings, slices: list[ImportSlice]
) -> None:
    use(settings, f"redis://127.0.0.1:{free_port()}/0")
    assert Sweeper().requeue_slices() == 3
    use(settings, broker.url)
    assert Sweeper().requeue_slices() == 3
    assert waiting() == 3
    assert Sweeper().requeue_slices() == 0
