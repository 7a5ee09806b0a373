"""Our own settings: name, type, default and meaning, in one place.

`project/settings.py` reads them from the environment (`IMPORTOPS_` and the field's name in capitals)
into `settings.IMPORTOPS`; everything else asks `conf()`. Sizes are bytes, times seconds.
docs/running.md lists them; a test holds that list against this class.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast, get_type_hints

from django.conf import settings
from environs import Env, ValidationError, validate

from importops.limits import Limits

MIB = 1024**2
GIB = 1024**3
UNIX_SOCKET = "unix"
"""Among the trusted proxies: whoever speaks to us through a Unix socket."""


@dataclass(frozen=True, slots=True)
class Conf:
    data_dir: Path
    """Everything this installation keeps: database, archives, stored files, secret key."""

    # What an upload or an export may be.
    max_upload_bytes: int = 100 * GIB
    """Largest accepted upload, after Base64 decoding."""
    max_entries: int = 2_000_000
    """Entries in an archive."""
    max_entry_bytes: int = 4 * GIB
    """Unpacked size of one entry."""
    max_total_bytes: int = 1024 * GIB
    """Unpacked size of all entries together."""
    max_ratio: int = 200
    """Unpacked size : packed size."""
    max_record_bytes: int = 4 * MIB
    """One record; a larger one fails alone."""
    min_free_bytes: int = 512 * MIB
    """Free disk space below which no import is prepared."""
    reserve_bytes: int = 128 * MIB
    """Free disk space below which a running import waits, so that there is room to clean up."""

    # How the engine works.
    batch_rows: int = 1000
    """Rows written in one transaction."""
    reader_process_bytes: int = 16 * MIB
    """Unpacked size of a part from which on its messages are read by a second process."""
    lease_seconds: int = 20
    """How long a slice stays claimed without a committed batch before others may take it over."""
    sweep_seconds: int = 5
    """How often the worker looks for abandoned and unqueued slices."""
    refresh_seconds: float = 1.0
    """How often an operation's totals are brought up to date while it runs."""
    worker_processes: int = 1
    """Worker processes an `import_worker` keeps running. On SQLite one is best."""
    raw_failure_bytes: int = 16 * 1024
    """How much of a failed record is kept with its failure."""
    raw_failures_bytes: int = 256 * MIB
    """How much raw text all failures of one operation keep; past it place and code only."""

    # Accounts.
    login_token_days: int = 90
    """Days until a token of kind `login` expires."""
    login_failures: int = 5
    """Failed logins of one name from one address after which both together are locked."""
    login_lock_seconds: int = 900
    """How long they are locked, and how long a failed login is remembered."""
    ask_password_for_tokens: bool = False
    """Whether making and removing personal access tokens asks for the password again."""

    # Who calls.
    rate_limit: bool = True
    """Whether calls of the API are limited for users without `bypass_rate_limit`."""
    rate_limit_calls: int = 60
    """Calls of one endpoint from one address in a window."""
    rate_limit_seconds: int = 60
    """Length of a window."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose `X-Forwarded-For` is believed; `unix` for Unix sockets."""

    def limits(self) -> Limits:
        """The bounds that importers hold exports to."""
        return Limits(
            max_entries=self.max_entries,
            max_entry_bytes=self.max_entry_bytes,
            max_total_bytes=self.max_total_bytes,
            max_ratio=self.max_ratio,
            max_record_bytes=self.max_record_bytes,
        )


def read(env: Env, *, data_dir: Path) -> Conf:
    """Settings from the environment, each checked for its type, and numbers for being above zero.

    `env` collects what is wrong, all at once; `env.seal()` raises it.
    """
    hints = get_type_hints(Conf)
    values: dict[str, Any] = {}
    for field in fields(Conf):
        if field.name == "data_dir":
            continue
        name, default = f"IMPORTOPS_{field.name.upper()}", cast(Any, field.default)
        if hints[field.name] is bool:
            values[field.name] = env.bool(name, default=default)
        elif hints[field.name] in (int, float):
            parse: Any = env.float if hints[field.name] is float else env.int
            above_zero = validate.Range(min=0, min_inclusive=False)
            values[field.name] = parse(name, default=default, validate=above_zero)
        else:
            wanted: list[str] | None = env.list(name, default=list(default), validate=_networks)
            values[field.name] = tuple(wanted or ())
    return Conf(data_dir=data_dir, **values)


def _networks(names: list[str]) -> None:
    """Raise for what is neither an address, nor a network, nor the word for Unix sockets."""
    for name in names:
        try:
            if name != UNIX_SOCKET:
                ip_network(name)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def conf() -> Conf:
    """The settings in force."""
    return settings.IMPORTOPS
