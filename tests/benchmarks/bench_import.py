"""One import of an export into a fresh database, in this process: seconds of each part, peak memory.

    python tests/benchmarks/bench_import.py EXPORT.zip

Prints one JSON line. Peak memory is of the whole process, Django and all.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PREPARING = ("listing", "counting")


def peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def cpu() -> float:
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


def measure(export: Path) -> dict[str, Any]:
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
    prepared = time.perf_counter()
    prepared_rss, prepared_cpu = peak_mib(), cpu()
    everything = {"users": {"all": True}, "channels": {"all": True}}
    start_operation(operation, everything, user, queue=False)
    run_operation(operation)
    done = time.perf_counter()
    numbers = counts(operation)
    return {
        "status": operation.status,
        "messages": numbers["messages"]["created"],
        "failed": sum(kind["failed"] for kind in numbers.values()),
        "preparing_seconds": round(prepared - started, 3),
        "importing_seconds": round(done - prepared, 3),
        "importing_cpu_s": round(cpu() - prepared_cpu, 2),
        "base_rss_mib": base,
        "preparing_rss_mib": prepared_rss,
        "peak_rss_mib": peak_mib(),
    }


def main() -> None:
    export = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="importops-bench-") as folder:
        os.environ["IMPORTOPS_DATA_DIR"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
        os.environ.pop("DATABASE_URL", None)
        sys.path.insert(0, str(ROOT))
        print(json.dumps(measure(export)))


if __name__ == "__main__":
    main()
