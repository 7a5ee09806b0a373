"""What probes are answered. None of it tells a secret, and only the numbers ask for a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from django.conf import settings
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from importops.engine.progress import WORKER_SILENT
from importops.monitoring.collector import OperationsCollector
from importops.monitoring.health import prober

NO_STORE = {"Cache-Control": "no-store"}

registry = CollectorRegistry(auto_describe=False)
registry.register(OperationsCollector())


@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    """That this process answers, and nothing else: restarting it would mend nothing outside it."""
    return _json({"alive": True})


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Whether requests can be served: 200 or 503, each check with its answer.

    That no worker has been heard of is told, but does not count: without one the pages and the API
    serve as well, and taking this process out of rotation would bring no worker back.
    """
    health = prober.health()
    silence = health.worker_silence
    body = {
        "ready": health.is_ready,
        "checks": health.checks,
        "worker": {
            "alive": silence is not None and silence <= WORKER_SILENT,
            "silentSeconds": None if silence is None else round(silence, 1),
        },
    }
    return _json(body, 200 if health.is_ready else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The numbers, for who knows `IMPORTOPS_METRICS_TOKEN`; where there is none, no such page."""
    token = settings.METRICS_TOKEN
    if not token:
        return HttpResponse("Not found\n", status=404, content_type="text/plain")
    given = request.META.get("HTTP_AUTHORIZATION", "")
    if not constant_time_compare(given, f"Bearer {token}"):
        challenge = {"WWW-Authenticate": 'Bearer realm="importops"'}
        return HttpResponse(
            "Unauthorized\n", status=401, headers=challenge, content_type="text/plain"
        )
    encode, content_type = choose_encoder(request.META.get("HTTP_ACCEPT", ""))
    try:
        text = encode(registry)
    except OperationalError:
        return HttpResponse("The database is out of reach\n", status=503, content_type="text/plain")
    return HttpResponse(text, content_type=content_type, headers=NO_STORE)


def _json(body: Mapping[str, Any], status: int = 200) -> HttpResponse:
    return HttpResponse(
        msgspec.json.encode(body), status=status, content_type="application/json", headers=NO_STORE
    )
