"""Every number that is told to Prometheus, asked of the database at the moment of the scrape.

So all web processes tell the same, workers need no port, and no directory has to be shared. What
grows by the million is never counted here: sums stand in the operations' tallies, and slices and
waiting tasks have indexes. A scrape is seven short statements, whatever was imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from math import inf

from django.conf import settings
from django.db.models import Count, Min
from django.utils import timezone
from django_tasks_db.models import DBTaskResult
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from importops.engine.pace import pace_of
from importops.engine.progress import KINDS, Tally, counts_of, failures_by_code, worker_silence
from importops.engine.timing import MICROSECONDS, buckets_of
from importops.models import ImportOperation, ImportSlice, Status

DATABASE_QUEUE = "django_tasks_db.DatabaseBackend"


class OperationsCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        now = timezone.now()
        operations = list(ImportOperation.objects.only("tally"))
        yield self._by_status()
        yield self._records(operations)
        yield from self._running(now)
        yield from self._work(operations)
        yield from self._waiting(now)
        if settings.TASKS["default"]["BACKEND"] == DATABASE_QUEUE:
            yield from self._queue(now)
        yield self._worker()

    def _by_status(self) -> Metric:
        family = GaugeMetricFamily("importops_operations", "Import operations.", labels=["status"])
        rows = ImportOperation.objects.order_by().values_list("status")
        found = dict(rows.annotate(number=Count("pk")))
        for status in Status:  # also those that no operation is in: an alert needs a zero
            family.add_metric([status.value], found.get(status.value, 0))
        return family

    def _records(self, operations: list[ImportOperation]) -> Metric:
        # A gauge: trying failed records again, and success, takes from `failed`.
        family = GaugeMetricFamily(
            "importops_records", "Records of all operations.", labels=["kind", "outcome"]
        )
        sums: Counter[tuple[str, str]] = Counter()
        for operation in operations:
            for kind, numbers in counts_of(operation.tally).items():
                for outcome, number in numbers.items():
                    sums[kind, outcome] += number
        for kind in KINDS:
            for outcome in ("total", "created", "updated", "skipped", "failed"):
                family.add_metric([kind, outcome], sums[kind, outcome])
        return family

    def _running(self, now: datetime) -> Iterator[Metric]:
        current = ImportOperation.objects.current()
        pace = None if current is None or not current.has_started else pace_of(current, now)
        yield GaugeMetricFamily(
            "importops_records_per_second",
            "Records a second of the running import, over the last seconds; 0 when none runs.",
            value=(pace and pace.rate) or 0.0,
        )
        idle = 0.0
        active = ImportOperation.objects.active().aggregate(at=Min("updated_at"))["at"]
        if active is not None:
            idle = max(0.0, (now - active).total_seconds())
        yield GaugeMetricFamily(
            "importops_idle_seconds",
            "Seconds since an operation that should get on did; 0 when none should.",
            value=idle,
        )
        failures = GaugeMetricFamily(
            "importops_failures", "Failed records of the current operation.", labels=["code"]
        )
        for code, number in (failures_by_code(current) if current else {}).items():
            failures.add_metric([code], number)
        yield failures

    def _work(self, operations: list[ImportOperation]) -> Iterator[Metric]:
        tally: Tally = Counter()
        for operation in operations:
            tally.update(
                {
                    key: number
                    for key, number in operation.tally.items()
                    if key.startswith("batch") or key == "takeovers"
                }
            )
        batches = HistogramMetricFamily(
            "importops_batch_seconds", "How long batches took, one transaction each."
        )
        buckets = [(bound, float(number)) for bound, number in buckets_of(tally)]
        batches.add_metric([], buckets, sum_value=tally[MICROSECONDS] / 1_000_000)
        yield batches
        yield CounterMetricFamily(
            "importops_takeovers",
            "Slices that were taken from a worker whose lease had run out, and gone on with.",
            value=tally["takeovers"],
        )

    def _waiting(self, now: datetime) -> Iterator[Metric]:
        unfinished = ImportSlice.objects.unfinished().of_active_operations()
        numbers = {
            "waiting": unfinished.filter(status=ImportSlice.Status.READY).count(),
            "running": unfinished.held(now).count(),
            "abandoned": unfinished.filter(
                status=ImportSlice.Status.RUNNING, lease_until__lt=now
            ).count(),
        }
        family = GaugeMetricFamily(
            "importops_slices", "Slices of the present phase that are not done.", labels=["state"]
        )
        for state, number in numbers.items():
            family.add_metric([state], number)
        yield family

    def _queue(self, now: datetime) -> Iterator[Metric]:
        ready = DBTaskResult.objects.ready()
        asked = ready.order_by().aggregate(number=Count("pk"), oldest=Min("enqueued_at"))
        yield GaugeMetricFamily(
            "importops_queue_tasks", "Tasks that wait on the queue.", value=asked["number"]
        )
        oldest = asked["oldest"]
        yield GaugeMetricFamily(
            "importops_oldest_waiting_slice_seconds",
            "How long the oldest task has waited for a worker; 0 when none waits.",
            value=0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
        )

    def _worker(self) -> Metric:
        silence = worker_silence()
        return GaugeMetricFamily(
            "importops_worker_silent_seconds",
            "Seconds since a worker was heard of; infinite when none was, for a day.",
            value=inf if silence is None else silence,
        )
