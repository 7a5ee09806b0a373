"""One import of an export into a fresh database: seconds of each part, peak memory of each process.

    python tests/benchmarks/bench_import.py EXPORT.zip
    python tests/benchmarks/bench_import.py EXPORT.zip --database postgres://…/name --workers 2

Without `--database` it is SQLite; the PostgreSQL database is made anew, and dropped at the end. More
workers are more processes that take slices of the same import. Prints one JSON line. Peak memory is of
whole processes, Django and all; `reader` is the largest of the processes that only read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = {"users": {"all": True}, "channels": {"all": True}}


def peak_mib(who: int = resource.RUSAGE_SELF) -> float:
    return round(resource.getrusage(who).ru_maxrss / 1024, 1)


class Readers:
    """Watches the peak memory of this process's children while they run (Linux).

    (What `getrusage` says of children begins with the size of the process that forked them.)
    """

    peak = 0.0

    def look(self, _: object = None) -> None:
        for task in Path("/proc/self/task").glob("*/children"):
            for pid in task.read_text().split():
                with suppress(OSError):
                    self._look_at(Path(f"/proc/{pid}"))

    def _look_at(self, process: Path) -> None:
        if b"reader_process" not in (process / "cmdline").read_bytes():
            return
        for line in (process / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self.peak = max(self.peak, round(int(line.split()[1]) / 1024, 1))


def cpu() -> float:
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(who)[:2]) for who in both)


@contextmanager
def fresh_database(url: str) -> Iterator[None]:
    """The PostgreSQL database that `url` names, made anew."""
    import psycopg

    server, name = urlsplit(url)._replace(path="/postgres").geturl(), urlsplit(url).path[1:]
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        db.execute(f'CREATE DATABASE "{name}"')
    try:
        yield
    finally:
        with psycopg.connect(server, autocommit=True) as db:
            db.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def helpers(count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ready to take slices; they begin when they are given an operation's id."""
    command = [sys.executable, __file__, "--join"]
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(count)
        ]
        for helper in started:
            assert helper.stdout and helper.stdout.readline() == "ready\n"
        yield started


def join() -> None:
    """Be a helper."""
    import django

    django.setup()
    from importops.engine.running import run_operation
    from importops.models import ImportOperation

    print("ready", flush=True)
    operation = ImportOperation.objects.get(pk=int(sys.stdin.readline()))
    before, readers = cpu(), Readers()
    run_operation(operation, on_progress=readers.look)
    print(
        json.dumps(
            {
                "rss": peak_mib(),
                "reader": readers.peak,
                "cpu": cpu() - before,
            }
        )
    )


def measure(export: Path, workers: int) -> dict[str, Any]:
    import django
    from django.core.management import call_command

    django.setup()
    from importops.actions.accounts import bootstrap
    from importops.actions.operations import create_operation_in_place, start_operation
    from importops.engine.progress import counts
    from importops.engine.running import run_operation

    call_command("migrate", verbosity=0)
    user = bootstrap().user
    base = peak_mib()
    started = time.perf_counter()
    operation = create_operation_in_place(user=user, importer_key="slack", path=export)
    run_operation(operation)
    preparing = time.perf_counter() - started
    prepared_rss, prepared_cpu = peak_mib(), cpu()
    with helpers(workers - 1) as others:
        started = time.perf_counter()
        start_operation(operation, EVERYTHING, user, queue=False)
        for other in others:
            assert other.stdin
            print(operation.pk, file=other.stdin, flush=True)
        readers = Readers()
        run_operation(operation, on_progress=readers.look)
        importing = time.perf_counter() - started
        theirs = [json.loads(other.stdout.readline()) for other in others if other.stdout]
    numbers = counts(operation)
    return {
        "status": operation.status,
        "messages": numbers["messages"]["created"],
        "failed": sum(kind["failed"] for kind in numbers.values()),
        "preparing_seconds": round(preparing, 3),
        "importing_seconds": round(importing, 3),
        "importing_cpu_s": round(cpu() - prepared_cpu, 2),
        "base_rss_mib": base,
        "preparing_rss_mib": prepared_rss,
        "peak_rss_mib": max([peak_mib(), *(other["rss"] for other in theirs)]),
        "reader_rss_mib": max([readers.peak, *(other["reader"] for other in theirs)]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path, nargs="?")
    parser.add_argument("--database", default="")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--join", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
    if options.join:
        join()
        return
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="importops-bench-"))
        os.environ["IMPORTOPS_DATA_DIR"] = folder
        os.environ.pop("DATABASE_URL", None)
        if options.database:
            stack.enter_context(fresh_database(options.database))
            os.environ["DATABASE_URL"] = options.database
        print(json.dumps(measure(options.export.resolve(), options.workers)))


if __name__ == "__main__":
    main()
