"""On SQLite there is one writer at a time, and who waits for it looks again after longer and longer
pauses, up to a tenth of a second. An importer that takes the lock again at once is then found
holding it every time, and a login waits for seconds. So it leaves the lock alone for a while.
"""

from __future__ import annotations

import time

from django.db import connection

FREE = 0.5
"""For each second of lock, seconds without it. Measured with locks of 20 ms, what a small write waits
(p99): 2.4 s at 0.05, 1.1 s at 0.25, 130 ms at 0.5, 43 ms at 1. Reading and converting the next batch
counts, so an import that does both in turn pays nothing; one that only writes pays a third."""
LONGEST = 1.0
"""Seconds: a disk that is slow for a moment does not make the import slow for long."""


class Turns:
    """When a worker of SQLite may take the lock again; elsewhere at once."""

    def __init__(self) -> None:
        self._taken_at = self._free_at = 0.0
        self._held = 0.0

    def wait(self) -> None:
        """Let others have the lock first, for as long as is still owed."""
        if connection.vendor != "sqlite":
            return
        owed = min(LONGEST, FREE * self._held) - (time.monotonic() - self._free_at)
        if owed > 0:
            time.sleep(owed)

    def taken(self) -> None:
        self._taken_at = time.monotonic()

    def given_back(self) -> None:
        self._free_at = time.monotonic()
        self._held = self._free_at - self._taken_at
