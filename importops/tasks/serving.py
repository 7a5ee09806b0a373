"""Web server and worker together, one process tree."""

from __future__ import annotations

import sys
from pathlib import Path

from importops.conf import conf
from importops.tasks.supervisor import Child, Supervisor, worker_children


def serve(address: str, port: int, *, web_processes: int = 2, threads: int = 8) -> None:
    """Run both until SIGINT or SIGTERM."""
    run = conf().data_dir / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    host = f"[{address}]" if ":" in address else address
    web = Child(
        "web",
        [
            sys.executable,
            "-m",
            "gunicorn",
            "project.wsgi:application",
            f"--bind={host}:{port}",
            f"--workers={web_processes}",
            f"--threads={threads}",
            "--worker-class=gthread",
            # Long enough for a large upload over a slow line; threads report on their own.
            "--timeout=120",
            "--graceful-timeout=3",
            "--log-level=warning",
            "--no-control-socket",
            f"--chdir={Path(sys.argv[0]).resolve().parent}",
            f"--worker-tmp-dir={run}",
        ],
    )
    Supervisor([web, *worker_children(conf().worker_processes)]).run()
