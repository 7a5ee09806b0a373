"""Secrets that exports carry inside, made unreadable before a person or a log sees them."""

from __future__ import annotations

import re

_SLACK_TOKEN = re.compile(r"\bxox[a-z](?:\.xox[a-z])?-[\w%.-]+", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with the access tokens in it (Slack's `…?t=xoxe-…`) replaced by `xox-REDACTED`."""
    return _SLACK_TOKEN.sub("xox-REDACTED", text) if "xox" in text.lower() else text
