"""What a person sees whose logins failed too often."""

from __future__ import annotations

from typing import Any

from axes.helpers import get_lockout_message
from django.http import HttpRequest, HttpResponse

from importops.actions.login import seconds_locked
from importops.clients import attempted_name


def lockout_response(
    request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """429, in one sentence. django-axes calls this; the API has an answer of its own."""
    seconds = seconds_locked(request, attempted_name(request, credentials))
    return HttpResponse(
        get_lockout_message(),
        status=429,
        content_type="text/plain; charset=utf-8",
        headers={"Retry-After": str(seconds)},
    )
