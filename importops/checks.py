"""System checks: what would fail in the middle of an import is said at start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register
from django.db import connection

from importops.conf import conf

DATABASES = ("sqlite", "postgresql")


@register()
def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The engine writes SQL of its own, for these databases only."""
    if connection.vendor in DATABASES:
        return []
    return [
        Error(
            f"importops does not run on {connection.vendor}.",
            hint="Set DATABASE_URL to a PostgreSQL server, or leave it out to use SQLite.",
            id="importops.E001",
        )
    ]


@register()
def check_data_dir(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Everything is kept below the data directory."""
    if os.access(conf().data_dir, os.W_OK | os.X_OK):
        return []
    return [
        Error(
            f"The data directory {conf().data_dir} cannot be written to.",
            hint="Give it to the user that runs importops, or set IMPORTOPS_DATA_DIR.",
            id="importops.E002",
        )
    ]
