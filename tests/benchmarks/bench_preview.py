"""A dry run beside the import that it foretells: into an empty workspace, and of the same export again.

    python tests/benchmarks/bench_preview.py [EXPORT.zip] [--messages 500000]

Both begin with a prepared operation; what preparing took is printed too. Goal: a third of the time.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the wall, and of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(export: Path) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    from importops.actions.accounts import bootstrap
    from importops.actions.operations import create_operation_in_place, start_operation
    from importops.actions.previewing import preview_operation
    from importops.engine.progress import counts, counts_of
    from importops.engine.running import run_operation

    call_command("migrate", verbosity=0)
    user = bootstrap().user
    everything = {"users": {"all": True}, "channels": {"all": True}}
    print(f"{'':24}{'preparing':>12}{'dry run':>12}{'import':>12}{'ratio':>8}{'CPU ratio':>11}")
    for name in ("into an empty workspace", "the same again"):
        operation = create_operation_in_place(user=user, importer_key="slack", path=export)
        preparing, _ = timed(lambda operation=operation: run_operation(operation))
        preview_operation(operation, everything, user, queue=False)
        dry_run, dry_cpu = timed(lambda operation=operation: run_operation(operation))
        promised = counts_of(operation.preview["tally"])
        start_operation(operation, everything, user, queue=False)
        real, cpu = timed(lambda operation=operation: run_operation(operation))
        for kind, numbers in counts(operation).items():
            assert promised[kind]["created"] == numbers["created"], (promised, numbers)
            assert promised[kind]["failed"] == numbers["failed"], (promised, numbers)
        print(
            f"{name:24}{preparing:10.2f} s{dry_run:10.2f} s{real:10.2f} s"
            f"{real / dry_run:8.1f}{cpu / dry_cpu:11.1f}"
        )
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("export", nargs="?", type=Path)
    parser.add_argument("--messages", type=int, default=500_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="importops-bench-") as folder:
        export = options.export
        if export is None:
            sys.path.insert(0, str(HERE))
            from generate import build

            export = Path(folder) / "export.zip"
            made = build(export, messages=options.messages)
            print(f"{made['messages']:,} messages in {made['entries']:,} day files")
        os.environ["IMPORTOPS_DATA_DIR"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
        sys.path.insert(0, str(HERE.parents[1]))
        measure(export.resolve())


if __name__ == "__main__":
    main()
