"""A small process tree: children that are started, watched, restarted and stopped; and the sweeper.

The queue's worker runs one task at a time and may exit (a database locked too long) or hang (stopped
by the kernel while it holds the database). So somebody has to stand over it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from django.conf import settings

from importops.conf import conf
from importops.tasks.heartbeat import heartbeat_path
from importops.tasks.sweeper import Sweeper

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.2
STOP_WITHIN = 4.0
QUICK_DEATH = 2.0
MOST_RESTART_DELAY = 30.0
START_WITHIN = 30.0
"""How long a child may take to its first heartbeat: it holds nothing yet, and machines are busy."""
PR_SET_PDEATHSIG = 1
# Opened here: between fork and exec nothing should be loaded, the sweeper's thread may be in there.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """On Linux: be told to stop when the supervisor is gone, even if it was killed with -9."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """A process to keep running. With `beats` it has to touch its heartbeat file or be replaced."""

    name: str
    command: Sequence[str]
    beats: bool = False
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    start_after: float = field(default=0.0)

    def start(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            self.command,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        self.started_at = time.monotonic()
        if self.beats:
            first = time.time() + START_WITHIN
            # On a full disk it may have to go without; it is then not watched, until it beats.
            with suppress(OSError):
                path = heartbeat_path(self.process.pid)
                path.touch()
                os.utime(path, (first, first))

    def look(self) -> None:
        """Start it, or start it again; a child that dies at once is given more and more time."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_after:
                self._try_to_start(now)
            return
        code = self.process.poll()
        if code is None:
            self.check_heartbeat()
            return
        self.forget()
        quick = now - self.started_at < QUICK_DEATH
        self.deaths = self.deaths + 1 if quick else 0
        delay = min(MOST_RESTART_DELAY, 2.0**self.deaths) if quick else 0.0
        logger.warning("%s ended with %s; starting it again in %.0f s", self.name, code, delay)
        self.process, self.start_after = None, now + delay

    def _try_to_start(self, now: float) -> None:
        try:
            self.start()
        except OSError as error:
            # No memory, or too many processes: that passes, and the others go on.
            logger.error("%s cannot be started: %s", self.name, error)
            self.start_after = now + MOST_RESTART_DELAY

    def check_heartbeat(self) -> None:
        """Kill a child that was stopped while it may hold the database: no fence can free that."""
        if not self.beats or self.process is None:
            return
        try:
            silent = time.time() - heartbeat_path(self.process.pid).stat().st_mtime
        except OSError:
            return
        if silent > conf().lease_seconds:
            logger.error("%s has been silent for %.0f s; replacing it", self.name, silent)
            self.kill()

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, until: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(max(0.05, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            # What it was doing is safe: an uncommitted batch is done again by the next worker.
            self.kill()
            self.process.wait()
        self.forget()

    def kill(self) -> None:
        """End it and what it has started: each child leads a process group of its own."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def forget(self) -> None:
        if self.beats and self.process is not None:
            with suppress(OSError):
                heartbeat_path(self.process.pid).unlink(missing_ok=True)


class Supervisor:
    """Runs children and the sweeper until SIGINT or SIGTERM, then stops them within five seconds."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = children
        self.sweeper = Sweeper()
        self._stopping = False
        self._over = threading.Event()

    def run(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._stop)
        # In a thread: a stopped child may hold the database that a round waits for, and only this
        # loop can kill it.
        sweeping = threading.Thread(target=self.sweeper.run, args=[self._over], daemon=True)
        sweeping.start()
        try:
            while not self._stopping:
                for child in self.children:
                    child.look()
                time.sleep(LOOK_EVERY)
        finally:
            self._over.set()
            self.stop_children()
        if sweeping.is_alive():
            # It may wait for a locked database for as long as that is locked; ending the interpreter
            # in order would wait with it. A round that is cut off is simply not committed.
            logging.shutdown()
            os._exit(0)

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self._stopping = True

    def stop_children(self) -> None:
        until = time.monotonic() + STOP_WITHIN
        for child in self.children:
            child.ask_to_stop()
        for child in self.children:
            child.wait(until)


def manage(*arguments: str) -> list[str]:
    """The command line of one of our own commands, in this Python."""
    return [sys.executable, str(Path(sys.argv[0]).resolve()), *arguments]


def worker_children(processes: int) -> list[Child]:
    """Of the queue that is configured; they keep the same promises."""
    return [
        Child(f"worker {number}", worker_command(number), beats=True)
        for number in range(1, processes + 1)
    ]


def worker_command(number: int) -> list[str]:
    if settings.QUEUE.kind == "database":
        return manage("import_worker", "--child")
    return [
        *(sys.executable, "-m", "celery", "--quiet"),
        f"--workdir={Path(sys.argv[0]).resolve().parent}",
        *("--app=importops.tasks.celery_worker", "worker", "--pool=solo"),
        f"--hostname=importops-{os.getpid()}-{number}@%h",
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"),
    ]
