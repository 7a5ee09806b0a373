"""The settings that torture runs with: many small slices, and time-outs as much shorter as the lease is."""

from __future__ import annotations

from importops.importers import slack
from project.settings import *  # noqa: F403
from project.settings import DATABASES

if not hasattr(slack, "SPAN_ENTRIES"):
    raise AttributeError("slack.SPAN_ENTRIES has got another name")
slack.SPAN_ENTRIES = 60

if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"]["OPTIONS"]["options"] = (
        "-c lock_timeout=1s -c idle_in_transaction_session_timeout=1500ms"
    )
