"""The table of faults: what is broken, how, and when its cause is gone.

A fault strikes a site whose import is in the midst of something. `strike` returns when the cause is
gone, and hands back since when the import could have gone on and whose slices must be taken up.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.tasks.installation import children, kill, tree, until
from tests.torture.disk import MIB
from tests.torture.site import LEASE, WAITS_FOR, Site, is_stopped, now

BOTH = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Struck:
    since: float
    victims: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """One row of the table. `site` are the arguments of `Site` that it needs."""

    name: str
    strike: Callable[[Site], Struck]
    databases: tuple[str, ...] = BOTH
    site: dict[str, Any] = field(default_factory=dict)
    broker: str = ""
    """`rabbitmq` or `redis`: what the tasks go over, by Celery."""
    disk: str = ""
    """`data` or `tablespace`: what lies on a small disk that the fault fills."""
    pauses: str = ""
    """The operation must have said a sentence with these words."""


def kill_worker(site: Site) -> Struck:
    worker = site.a_worker()
    kill(worker, signal.SIGKILL)
    return Struck(now(), [worker])


def kill_supervisor(site: Site) -> Struck:
    supervisor = site.chance.choice(site.trees)
    workers = children(supervisor.pid)
    kill(supervisor.pid, signal.SIGKILL)
    since = now()
    supervisor.wait(WAITS_FOR)
    site.start()
    return Struck(since, workers)


def kill_everything(site: Site) -> Struck:
    workers = site.workers()
    site.kill_all()
    since = now()
    site.start()
    return Struck(since, workers)


def stop_worker(site: Site) -> Struck:
    """It stays stopped: its supervisor has to replace it, for it may hold the database."""
    worker = site.a_worker()
    kill(worker, signal.SIGSTOP)
    until(is_stopped(worker), 5, "the worker is stopped")
    return Struck(now(), [worker])


def stop_machine(site: Site) -> Struck:
    """A whole tree falls silent until others have its work, or its lease is over; then it wakes.

    Its worker first: the supervisor would replace it, and it is the zombie that must commit nothing.
    """
    process = site.chance.choice(site.trees)
    pids = tree(process.pid)
    for pid in pids:
        kill(pid, signal.SIGSTOP)
    since = now()
    if len(site.trees) > 1:
        # At once when they have it: the zombie is to meet them at the same slice.
        site.wait_until_free(pids)
    else:
        until(lambda: now() > since + 1.5 * LEASE, 2 * LEASE, "the lease has run out")
        since = now()
    for pid in pids[1:]:
        kill(pid, signal.SIGCONT)
    if len(site.trees) > 1:
        site.wait_for_progress()
    kill(pids[0], signal.SIGCONT)
    return Struck(since)


def restart_server(site: Site) -> Struck:
    assert site.cluster
    site.cluster.restart()
    return Struck(now())


def take_server_away(site: Site) -> Struck:
    """Until every worker has noticed."""
    assert site.cluster
    before = len(site.log())
    site.cluster.stop()
    try:
        site.wait_for_log("The database does not answer", before)
    finally:
        site.cluster.start()
    return Struck(now())


def start_without_server(site: Site) -> Struck:
    """Everything was down, and the service comes up before its database does."""
    assert site.cluster
    before = len(site.log())
    site.kill_all()
    site.cluster.stop()
    try:
        site.start()
        site.wait_for_log("The database does not answer", before)
    finally:
        site.cluster.start()
    return Struck(now())


def end_sessions(site: Site) -> Struck:
    """Three times, at random moments, all sessions at once."""
    assert site.cluster
    for _ in range(3):
        site.cluster.end_sessions(site.database)
        since = now()
        site.wait_for_progress()
    return Struck(since)


def cut_lines(site: Site) -> Struck:
    """Five times, after a random number of bytes: mostly in the middle of the rows of a batch."""
    assert site.proxy
    for number in range(1, 6):
        site.proxy.cut_after(site.chance.randrange(1, 60_000))
        until(lambda n=number: site.proxy.cuts >= n or site.at_rest, WAITS_FOR, "a cut")  # type: ignore[misc]
    return Struck(now())


def restart_broker(site: Site) -> Struck:
    """Three times, with all that was on it lost: the sweeper has to queue again."""
    assert site.broker
    for _ in range(3):
        site.broker.kill()
        since = now()
        site.broker.start()
        if site.at_rest:
            break
        site.wait_for_progress()
    return Struck(since)


def nearly_fill_data(site: Site) -> Struck:
    """Down to the reserve: the import pauses, and a person can still write."""
    assert site.disk
    site.disk.fill(leave=4 * MIB)
    until(lambda: site.reason or site.at_rest, WAITS_FOR, "a reason")
    site.working.manage("create_token", "admin")
    site.disk.empty()
    return Struck(now())


def fill_data(site: Site) -> Struck:
    """To the last byte, with no reserve: SQLite itself has to refuse."""
    assert site.disk
    before = len(site.log())
    site.disk.fill()
    until(
        lambda: (
            site.reason or "disk of the database is full" in site.log()[before:] or site.at_rest
        ),
        WAITS_FOR,
        "a reason",
    )
    site.disk.empty()
    return Struck(now())


def fill_tablespace(site: Site) -> Struck:
    assert site.disk
    site.disk.fill()
    until(lambda: site.reason or site.at_rest, WAITS_FOR, "a reason")
    site.disk.empty()
    return Struck(now())


SQLITE, POSTGRESQL = ("sqlite",), ("postgresql",)
FAULTS = [
    Fault("kill -9 of a worker", kill_worker),
    Fault("kill -9 of the supervisor", kill_supervisor),
    Fault("kill -9 of every process", kill_everything),
    Fault("kill -9 of web and worker", kill_everything, site={"serve": True}),
    Fault("SIGSTOP of a worker", stop_worker),
    Fault("SIGSTOP past the lease, SIGCONT", stop_machine),
    Fault("restart of PostgreSQL", restart_server, POSTGRESQL),
    Fault("PostgreSQL away for a while", take_server_away, POSTGRESQL),
    Fault("PostgreSQL away at the start", start_without_server, POSTGRESQL),
    Fault("sessions ended by the server", end_sessions, POSTGRESQL),
    Fault("lines cut in the middle of rows", cut_lines, POSTGRESQL, site={"proxy": True}),
    Fault("restart of RabbitMQ", restart_broker, POSTGRESQL, broker="rabbitmq"),
    Fault("restart of Redis", restart_broker, POSTGRESQL, broker="redis"),
    Fault(
        "disk nearly full",
        nearly_fill_data,
        SQLITE,
        site={"reserve_bytes": str(8 * MIB), "batch_rows": "2"},
        disk="data",
        pauses="is nearly full",
    ),
    Fault("disk full", fill_data, SQLITE, site={"reserve_bytes": "1"}, disk="data"),
    Fault(
        "disk of PostgreSQL full",
        fill_tablespace,
        POSTGRESQL,
        disk="tablespace",
        pauses="The disk of the database is full",
    ),
]
