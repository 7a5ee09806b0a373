"""How a supervisor knows that its child is alive: a file that the child touches."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

from importops.conf import conf
from importops.tasks.jobs import stopping

BEAT_SECONDS = 2.0


def heartbeat_path(pid: int) -> Path:
    """Machines may share the folder, and containers have the same few process ids."""
    folder = conf().data_dir / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"worker-{socket.gethostname()}-{pid}"


def start_beating() -> None:
    """From now on, in a thread: it falls silent when the process is stopped or gone, and only then."""
    threading.Thread(target=_beat, daemon=True).start()


def _beat() -> None:
    path = heartbeat_path(os.getpid())
    while True:
        with suppress(OSError):  # a full disk is no reason to fall silent
            path.touch()
        if stopping.wait(min(BEAT_SECONDS, conf().lease_seconds / 4)):
            return
