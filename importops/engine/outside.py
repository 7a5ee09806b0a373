"""Troubles that come from outside of the export and of our code: a full disk, a database that is away.

They pass when somebody mends them, so an import that meets one waits and says why; it never fails of
it. Everything else is either a bad record or a defect, and is none of this file's business.
"""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator

from django.db import DatabaseError, InterfaceError, OperationalError, connection

from importops.conf import conf
from importops.errors import MustWait

logger = logging.getLogger(__name__)

TELL_EVERY = 60.0
LONGEST_NAP = 0.2
GOES_ON = "The import goes on by itself."

_FULL = "The disk of the database is full. Make room there."
_BROKEN = "The disk of the database cannot be read or written (I/O error). Look at its hardware."
_READ_ONLY = "The database takes no changes at present: it is read-only."
_AWAY = "The database does not answer"
_BUSY = "Another process holds what the import needs in the database."
_MEMORY = "The database has no memory left."

_OF_POSTGRESQL = {
    "53100": _FULL,
    "53200": _MEMORY,
    "53300": "The database has no connection left for the import.",
    "25006": _READ_ONLY,
    "25P03": "The database ended a connection that had fallen silent.",
    "55P03": _BUSY,
    "40P01": _BUSY,
    "40001": _BUSY,
    "57014": "The database broke off a statement that took too long.",
    "58030": _BROKEN,
}
_OF_SQLITE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _BROKEN,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: "The database file cannot be opened. Look at its folder and its disk.",
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_NOMEM: _MEMORY,
}
_NETWORK_DISK = "A network disk or a storage server does not answer"
_OF_SYSTEM = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EIO: "A disk cannot be read or written",
    errno.EROFS: "A disk is read-only",
    errno.EACCES: "A file may not be opened",
    errno.EPERM: "A file may not be opened",
    errno.EMFILE: "Too many files are open",
    errno.ENFILE: "Too many files are open",
    errno.ENOMEM: "The machine has no memory left",
    errno.ENODEV: "A disk is gone",
    errno.ENXIO: "A disk is gone",
    **dict.fromkeys(
        (
            errno.ESTALE,
            errno.ENOTCONN,
            errno.ETIMEDOUT,
            errno.ECONNREFUSED,
            errno.ECONNRESET,
            errno.ECONNABORTED,
            errno.EPIPE,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
            errno.ENETDOWN,
            errno.ENETUNREACH,
        ),
        _NETWORK_DISK,
    ),
}


def reason_to_wait(error: BaseException) -> str | None:
    """The sentence that says why the import has to wait; None when waiting would not help."""
    if isinstance(error, MustWait):
        return error.message
    if isinstance(error, (DatabaseError, InterfaceError)):
        reason = _of_database(error)
    elif isinstance(error, sqlite3.Error):
        reason = _of_sqlite(error)  # the index beside the archive
    elif isinstance(error, OSError):
        reason = _of_system(error)
    else:
        return None
    return reason and f"{reason} {GOES_ON}"


def _of_database(error: Exception) -> str | None:
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(cause)
    state = getattr(cause, "sqlstate", None) or ""
    if state in _OF_POSTGRESQL:
        return _OF_POSTGRESQL[state]
    lost = not state and isinstance(error, (OperationalError, InterfaceError))
    if lost or state.startswith(("08", "57P")):
        return f"{_AWAY}: {_first_line(error)}."
    return None


def _of_sqlite(error: sqlite3.Error) -> str | None:
    # The lowest byte is the kind; the rest tells which of several places it was.
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _OF_SQLITE.get(code & 0xFF)


def _of_system(error: OSError) -> str | None:
    what = _OF_SYSTEM.get(error.errno or 0)
    if what is None:
        return None
    where = f" ({error.filename})" if error.filename else ""
    return f"{what}: {error.strerror}{where}."


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def low_disk() -> str | None:
    """Why nothing more should be written to our disk; None while there is room.

    Costs one system call. It strikes before the disk is full, so that whoever has to make room finds
    a database, sessions and a log that can be written.
    """
    reserve = conf().reserve_bytes
    free = shutil.disk_usage(conf().data_dir).free
    if free >= reserve:
        return None
    return (
        f"The disk of {conf().data_dir} is nearly full: {free >> 20} MiB are free, and the last "
        f"{reserve >> 20} MiB are kept for cleaning up. Make room there. {GOES_ON}"
    )


def mind_the_disk() -> None:
    """Raise `MustWait` when our disk is nearly full."""
    if (reason := low_disk()) is not None:
        raise MustWait(reason)


def growing(first: float, longest: float) -> Iterator[float]:
    """Seconds to wait before each further try."""
    while True:
        yield first
        first = min(longest, first * 2)


def nap(seconds: float, stop: Callable[[], bool]) -> None:
    """Sleep so long, or until shortly after `stop()` has become true."""
    until = time.monotonic() + seconds
    while not stop() and (left := until - time.monotonic()) > 0:
        time.sleep(min(LONGEST_NAP, left))


def mend_connection() -> None:
    """Let go of a connection that is broken, so that the next statement makes a new one."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


class Reminder:
    """Logs what goes on and on once a minute, not at every try."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __call__(self, what: str, reason: str) -> None:
        now = time.monotonic()
        if now - self._told.get(what, -TELL_EVERY) >= TELL_EVERY:
            self._told[what] = now
            logger.warning("%s: %s", what, reason)


remind = Reminder()
