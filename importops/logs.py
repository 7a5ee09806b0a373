"""What a log line looks like, and what it always carries.

Lines for people, or with IMPORTOPS_LOG_FORMAT=json an object each. Whatever writes the line (ours,
Django, a library), it gets what is bound at that moment: a request's id; of a slice that is worked on
the operation, slice, phase, attempt and worker. Secrets are masked last of all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from importops.redaction import redact

LINES, JSON = "lines", "json"
MASK = "REDACTED"
_SECRET_NAME = re.compile(r"token|password|secret|authorization|cookie", re.IGNORECASE)
_CREDENTIAL = re.compile(
    r"""(?ix)
    ( \b(?:x-auth-token|http_x_auth_token) ["']? \s* [:=] \s* ["']?
    | \bauthorization ["']? \s* [:=] \s* ["']? (?:bearer|basic|token) \s+ )
    [^\s"',}]+
    """
)
_PASSWORD_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)")


@contextmanager
def own_context() -> Iterator[None]:
    """What is bound inside is forgotten at the end; usable as a decorator."""
    before = get_contextvars()
    try:
        yield
    finally:
        clear_contextvars()
        bind_contextvars(**before)


def mask(text: str) -> str:
    """`text` without tokens of exports, credentials of requests, and passwords in URLs."""
    text = _PASSWORD_IN_URL.sub(rf"\g<1>{MASK}", redact(text))
    return _CREDENTIAL.sub(rf"\g<1>{MASK}", text)


def mask_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if _SECRET_NAME.search(name):
            event[name] = MASK
        else:
            event[name] = _masked(value)
    return event


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {name: MASK if _SECRET_NAME.search(str(name)) else _masked(each)
                for name, each in value.items()}  # fmt: skip
    if isinstance(value, (list, tuple, set)):
        return [_masked(each) for each in value]
    # What it would be printed as may hold anything.
    return value if isinstance(value, (int, float, bool, type(None))) else mask(str(value))


def logging_config(level: str, form: str) -> dict[str, Any]:
    """Django's LOGGING; structlog's own lines go the same way."""
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": before,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    mask_secrets,
                    _renderer(form),
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # With a handler of its own, Django would write its lines twice, and in another shape.
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.server": {"handlers": [], "level": "INFO", "propagate": True},
            "django_tasks": {"level": "WARNING"},
            "django_tasks_db": {"level": "WARNING"},
            "axes": {"level": "WARNING"},
        },
    }


def _renderer(form: str) -> Processor:
    if form == JSON:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), pad_event_to=0, sort_keys=False
    )
