"""Answers probes before anything else does.

A probe comes by address and not by name, so no allowed host may be asked for; it has no session; and
whether we are alive must not depend on what other middleware needs. So these paths stand here, in
front of all middleware, and not in a `urls.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from importops.monitoring.views import alive, metrics, ready

PROBES: dict[str, Callable[[HttpRequest], HttpResponseBase]] = {
    "/healthz": alive,
    "/readyz": ready,
    "/metrics": metrics,
}


class Probes:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.others = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return PROBES.get(request.path_info, self.others)(request)
