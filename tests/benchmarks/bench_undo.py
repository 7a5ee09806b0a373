"""One import and its undo in a fresh database, in this process: rows, seconds, peak memory.

    python tests/benchmarks/bench_undo.py [--messages 500000]

`DATABASE_URL` chooses an (empty) database; else it is SQLite. Prints one JSON line. The longest batch is
measured from the first write to the commit's end: how long others wait for the lock on SQLite.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_import import ROOT, cpu, peak_mib
from generate import build


def measure(export: Path) -> dict[str, Any]:
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    from importops.actions.accounts import bootstrap
    from importops.actions.operations import create_operation_in_place, start_operation
    from importops.actions.undoing import rollback_operation
    from importops.engine.progress import counts
    from importops.engine.running import run_operation
    from importops.engine.slices import Work
    from importops.models import Message, Room

    call_command("migrate", verbosity=0)
    user = bootstrap().user
    target = create_operation_in_place(user=user, importer_key="slack", path=export)
    run_operation(target)
    everything = {"users": {"all": True}, "channels": {"all": True}}
    started = time.perf_counter()
    start_operation(target, everything, user, queue=False)
    run_operation(target)
    imported = time.perf_counter() - started
    batches: list[float] = []
    batch = Work.batch

    def timed(work: Work) -> Any:
        context = batch(work)
        enter, leave = context.__enter__, context.__exit__

        class Timed:
            def __enter__(self) -> Any:
                entered = enter()
                self.began = time.perf_counter()
                return entered

            def __exit__(self, *error: Any) -> Any:
                try:
                    return leave(*error)
                finally:
                    batches.append(time.perf_counter() - self.began)

        return Timed()

    Work.batch = timed  # type: ignore[method-assign, assignment]
    base, base_cpu = peak_mib(), cpu()
    started = time.perf_counter()
    operation = rollback_operation(target, user, queue=False)
    run_operation(operation)
    took = time.perf_counter() - started
    batches.sort()
    return {
        "database": connection.vendor,
        "status": operation.status,
        "rows": counts(operation)["messages"]["removed"],
        "left": Message.objects.count() + Room.objects.count(),
        "import_seconds": round(imported, 2),
        "seconds": round(took, 2),
        "cpu_s": round(cpu() - base_cpu, 2),
        "batches": len(batches),
        "batch_ms_median": round(1000 * batches[len(batches) // 2], 1),
        "batch_ms_p99": round(1000 * batches[len(batches) * 99 // 100], 1),
        "rss_before_mib": base,
        "peak_rss_mib": peak_mib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=500_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="importops-bench-") as folder:
        os.environ["IMPORTOPS_DATA_DIR"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
        sys.path.insert(0, str(ROOT))
        export = Path(folder) / "export.zip"
        build(export, messages=options.messages)
        print(json.dumps(measure(export)))


if __name__ == "__main__":
    main()
