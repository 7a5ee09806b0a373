"""How often an endpoint may be called: so many calls from one address in a window of time.

Windows follow each other by the clock, so a count is one number in the cache, which all processes
share. A cache of files or in the database may lose a count when two calls meet in one moment; Redis
and Memcached lose none.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from typing import cast

from django.core.cache import cache
from rest_framework.request import Request

from importops.api.exceptions import TooManyCalls
from importops.clients import client_address
from importops.conf import conf
from importops.models import User

POLLED = frozenset(
    {
        "getCurrentImportOperation",
        "getImportProgress",
        "getImportFileData",
        "import.status",
        "import.report",
    }
)
"""Never limited: they are made to be asked again and again, and counting would cost as much as answering."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rate:
    limit: int
    remaining: int
    resets_at: int
    """Epoch seconds."""

    def headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.remaining)),
            "X-RateLimit-Reset": str(self.resets_at * 1000),
        }


def count_call(request: Request, endpoint: str) -> Rate | None:
    """Count this call, and say what is left; below zero it was one too many. None: not limited."""
    if endpoint in POLLED or not conf().rate_limit:
        return None
    user = cast("User | None", request.user)
    if user is not None and user.can_bypass_rate_limit:
        return None
    limit, seconds = conf().rate_limit_calls, conf().rate_limit_seconds
    window = int(time.time()) // seconds
    who = f"{endpoint} {request.method} {client_address(request._request)}"
    key = f"rate-{window}-{hashlib.sha256(who.encode()).hexdigest()}"
    try:
        cache.add(key, 0, timeout=seconds)
        calls = cache.incr(key)
    except ValueError:  # thrown out of the cache just now
        calls = 1
    except Exception as error:  # noqa: BLE001 - each cache has errors of its own
        # A cache that is away must not take the API along; failed logins are counted elsewhere.
        logger.warning("calls are not counted, the cache is away: %s", error)
        return None
    return Rate(limit, limit - calls, (window + 1) * seconds)


def refuse_if_too_many(rate: Rate | None) -> None:
    """Raise `TooManyCalls` for a call beyond the limit."""
    if rate is not None and rate.remaining < 0:
        raise TooManyCalls(max(1, rate.resets_at - int(time.time())))
