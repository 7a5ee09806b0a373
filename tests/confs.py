"""Our own settings, changed for one test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_django import Settings


def with_conf(settings: Settings, **changes: Any) -> None:
    settings.IMPORTOPS = replace(settings.IMPORTOPS, **changes)
