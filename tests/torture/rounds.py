"""One round: an import, a fault at a random moment, and whether the workspace is the undisturbed one."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from tests.benchmarks.generate import build
from tests.servers import RABBITMQ, REDIS, Broker, find_program, rabbitmq, redis
from tests.tasks.installation import Installation, until
from tests.torture.disk import SmallDisk, can_mount
from tests.torture.faults import Fault
from tests.torture.postgresql import Cluster, binaries
from tests.torture.site import SETUP, Site, now

MESSAGES = 3000
TEMPLATE = "template_site"
DISK_MEGABYTES = 96
BROKERS = {"rabbitmq": rabbitmq, "redis": redis}
SERVERS = {"rabbitmq": RABBITMQ, "redis": REDIS}


@dataclass(frozen=True)
class Outcome:
    recovered: float
    """Seconds from the moment it could go on until it did."""
    paused: bool
    strikes: int


class Bench:
    """What many rounds share: the export, what becomes of it undisturbed, and on PostgreSQL the server."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.folder = folder
        self.export = folder / "export.zip"
        build(self.export, messages=MESSAGES, seed=3, users=60, per_day=5)
        self._numbers = count(1)
        self._brokers: dict[str, Broker] = {}
        self._running = ExitStack()
        self.cluster = Cluster() if kind == "postgresql" else None
        self.template = Installation(folder / "template", database_url=self._new(TEMPLATE))
        self.template.folder.mkdir()
        self.template.manage("bootstrap")
        self.expected = self._undisturbed()

    def _new(self, name: str, tail: str = "") -> str:
        if self.cluster is None:
            return ""
        self.cluster.execute(f"CREATE DATABASE {name} {tail}")
        return self.cluster.url(name)

    def _undisturbed(self) -> dict[str, Any]:
        chance = random.Random(0)
        with self.site(Fault("nothing", lambda site: None), chance) as site:  # type: ignore[arg-type,return-value]
            site.looking.environment["IMPORTOPS_BATCH_ROWS"] = "1000"
            site.looking.manage("import_file", self.export)
            return site.verdict()

    @staticmethod
    def why_not(kind: str, fault: Fault) -> str:
        """Why this machine cannot do this to anybody; empty: it can."""
        if kind == "postgresql" and binaries() is None:
            return "PostgreSQL's initdb is not on this machine"
        if fault.disk and not can_mount():
            return "mounting a small disk needs root, and the right to mount"
        if fault.broker and find_spec("celery") is None:
            return "requirements-celery.txt is not installed"
        if fault.broker and find_program(*SERVERS[fault.broker]) is None:
            return f"{SERVERS[fault.broker][0]} is not installed"
        return ""

    def broker(self, name: str) -> Broker | None:
        """One of each for all rounds: it takes longer to start than a round."""
        if name and name not in self._brokers:
            folder = self.folder / name
            folder.mkdir()
            self._brokers[name] = self._running.enter_context(BROKERS[name](folder))
        return self._brokers.get(name)

    @contextmanager
    def site(self, fault: Fault, chance: random.Random) -> Iterator[Site]:
        name = f"site_{next(self._numbers)}"
        with ExitStack() as stack:
            below = tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self.folder)
            folder = Path(stack.enter_context(below))
            disk, tail = None, f"TEMPLATE {TEMPLATE}"
            if fault.disk:
                disk = SmallDisk(self._place_of_disk(fault, folder, name), DISK_MEGABYTES)
                stack.callback(disk.remove)
            if self.cluster and fault.disk == "tablespace" and disk:
                self.cluster.own(disk.folder)
                self.cluster.execute(f"CREATE TABLESPACE {name} LOCATION '{disk.folder}'")
                stack.callback(self.cluster.execute, f"DROP TABLESPACE {name}")
                tail += f" TABLESPACE {name}"
            self._new(name, tail)
            if self.cluster:
                drop = f"DROP DATABASE {name} WITH (FORCE)"
                stack.callback(self.cluster.execute, drop)
            site = Site(
                folder,
                self.template,
                chance,
                cluster=self.cluster,
                database=name,
                disk=disk,
                broker=self.broker(fault.broker),
                **fault.site,
            )
            stack.callback(site.remove)
            yield site

    def _place_of_disk(self, fault: Fault, folder: Path, name: str) -> Path:
        if fault.disk == "tablespace" and self.cluster:
            return self.cluster.folder / name
        return folder / "data"

    def remove(self) -> None:
        self._running.close()
        if self.cluster:
            self.cluster.remove()


def torture(bench: Bench, fault: Fault, seed: str, *, strikes: int = 1) -> Outcome:
    """Raises `AssertionError` when anything of what was promised does not hold."""
    chance = random.Random(seed)
    with bench.site(fault, chance) as site:
        recovered = 0.0
        try:
            site.start()
            site.act("queue", bench.export)
            if fault.pauses:
                strikes = 1  # early enough to be noticed
            while_reading = chance.random() < 0.25 and not fault.pauses
            if while_reading:
                wait_while_reading(site)
                recovered = strike(site, fault)
            site.wait_for(SETUP)
            site.act("start")
            for _ in range(strikes - while_reading):
                wait_while_importing(site, early=bool(fault.pauses))
                recovered = max(recovered, strike(site, fault))
            site.wait_for("importer_done")
            check(site, bench, fault)
        except AssertionError as error:
            raise AssertionError(
                f"{fault.name}, seed {seed}: {error}\n{site.log()[-6000:]}"
            ) from None
        return Outcome(recovered, bool(site.reasons), strikes)


def wait_while_reading(site: Site) -> None:
    wanted = site.chance.randrange(0, 60)
    query = "SELECT COUNT(*) FROM importops_stagedrecord"

    def reached() -> bool:
        return (site.look(query) or 0) >= wanted or site.status == SETUP

    until(reached, 60, "the file is read")


def wait_while_importing(site: Site, *, early: bool) -> None:
    """Until a random number of messages is there: a moment that a slow machine does not shift."""
    there = site.messages
    # What is noticed once a second needs some of the import to be noticed in.
    share = 4 if early else 2
    wanted = there + site.chance.randrange(0, max(1, (MESSAGES - there) // share))
    until(lambda: site.messages >= wanted or site.ended, 60, f"{wanted} messages")


def strike(site: Site, fault: Fault) -> float:
    """How long it took, from when it could, until the import had got on again."""
    if site.ended:
        return 0.0
    struck = fault.strike(site)
    site.wait_until_free(struck.victims)
    site.wait_for_progress()
    return now() - struck.since


def check(site: Site, bench: Bench, fault: Fault) -> None:
    verdict = site.verdict()
    assert verdict == bench.expected, f"{verdict} instead of {bench.expected}"
    for kind, numbers in verdict["counts"].items():
        assert 2 * numbers["total"] == sum(numbers.values()), f"{kind} do not add up: {numbers}"
    stuck = "SELECT COUNT(*) FROM importops_importslice WHERE status <> 'done'"
    assert site.look(stuck) == 0, "a slice is left"
    if fault.pauses:
        assert any(fault.pauses in reason for reason in site.reasons), site.reasons
    assert not site.reason, site.reason
