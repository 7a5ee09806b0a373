"""Preparing, importing and polling, each beside its raw baseline, measured in turn in one run.

    make bench                                  everything; about fifteen minutes on two cores
    BENCH_POSTGRESQL_URL=postgres://user@host/importops_bench make bench
    make bench ARGS="--messages 50000 --rounds 2 --skip-sizes --skip-seed --skip-responsiveness"

Each round runs the baselines and the product one after the other, so that a machine whose speed
drifts meets all of them; what is quoted is the median, and the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from bench_import import fresh_database
from generate import build

HERE = Path(__file__).resolve().parent


def run(script: str, *arguments: object) -> dict[str, Any]:
    """The JSON line that a script of this folder prints, run in a process of its own."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def speed(export: Path, messages: int, rounds: int) -> None:
    """SQLite: preparing, and the import phases against both forms of the baseline."""
    prepare, single, pipe, product = [], [], [], []
    for _ in range(rounds):
        prepare.append(run("baselines.py", "prepare", export))
        for mode, results in (("import", single), ("pipe", pipe)):
            out = export.with_name("baseline.db")
            results.append(run("baselines.py", mode, export, out))
            for file in export.parent.glob("baseline.db*"):
                file.unlink()
        product.append(imported(messages, export))
    print("SQLite")
    row("preparing", prepare, product, "preparing_seconds", 1.5)
    row("import, against one process", single, product, "importing_seconds", 1.0)
    row("import, against two (pipe)", pipe, product, "importing_seconds", 1.3)
    memory(product)


def on_postgresql(export: Path, messages: int, rounds: int, url: str) -> None:
    """The import phases with 1, 2 and 4 workers against the baseline, which reads in a second process."""
    if not answers(url):
        print(f"PostgreSQL: left out, as no server answers at {url}\n")
        return
    baseline: list[dict[str, Any]] = []
    product: dict[int, list[dict[str, Any]]] = {1: [], 2: [], 4: []}
    for _ in range(rounds):
        with fresh_database(url):
            baseline.append(run("baseline_postgresql.py", export, url))
        for workers, results in product.items():
            results.append(imported(messages, export, "--database", url, "--workers", workers))
    print("PostgreSQL")
    for workers, results in product.items():
        goal = 1.6 if workers == 1 else None
        row(f"import, {workers} workers", baseline, results, "importing_seconds", goal)
    memory([result for results in product.values() for result in results])


def imported(messages: int, export: Path, *options: object) -> dict[str, Any]:
    result = run("bench_import.py", export, *options)
    assert result["status"] == "importer_done" and result["messages"] == messages, result
    return result


def answers(url: str) -> bool:
    try:
        psycopg.connect(urlsplit(url)._replace(path="/postgres").geturl()).close()
    except psycopg.OperationalError:
        return False
    return True


def row(
    name: str,
    baseline: list[dict[str, Any]],
    product: list[dict[str, Any]],
    key: str,
    goal: float | None,
) -> None:
    ratios = [mine[key] / raw["seconds"] for raw, mine in zip(baseline, product, strict=True)]
    rate = product[0]["messages"] / median(product, key)
    aim = f"; goal {goal}" if goal else ""
    print(
        f"  {name:28} baseline {median(baseline, 'seconds'):6.2f} s   "
        f"importops {median(product, key):6.2f} s ({rate:,.0f} messages/s)   ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}{aim})"
    )


def memory(product: list[dict[str, Any]]) -> None:
    print(
        f"  CPU of the import phases, all processes of ours: "
        f"{median(product, 'importing_cpu_s'):.1f} s\n"
        f"  peak RSS: worker {max(result['peak_rss_mib'] for result in product):.0f} MiB "
        f"(Django alone {median(product, 'base_rss_mib'):.0f}), reader "
        f"{max(result['reader_rss_mib'] for result in product):.0f} MiB; goal under 200\n",
        flush=True,
    )


def median(results: list[dict[str, Any]], key: str) -> float:
    return statistics.median(result[key] for result in results)


def sizes(folder: Path, messages: int) -> None:
    """Memory: the same rooms with a tenth of the messages, and a million entries."""
    shape = {"rooms": 205, "users": 2000}
    few, many, sparse = (folder / f"{name}.zip" for name in ("few", "many", "sparse"))
    build(few, messages=messages // 10, **shape)
    build(many, messages=messages, **shape)
    build(sparse, sparse_entries=2 * messages)
    print("peak RSS of the importing process")
    base = None
    for name, export in (
        (f"{messages // 10:,} messages in 205 rooms", few),
        (f"{messages:,} messages in the same rooms", many),
        (f"{2 * messages:,} entries of one message", sparse),
    ):
        result = run("bench_import.py", export)
        base = base or result["peak_rss_mib"]
        seconds = result["preparing_seconds"], result["importing_seconds"]
        print(
            f"{name:36} {result['peak_rss_mib']:6.1f} MiB ({result['peak_rss_mib'] / base:.2f}x)"
            f"   prepared in {seconds[0]:.1f} s, imported in {seconds[1]:.1f} s"
        )
        export.unlink()
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--database",
        default=os.environ.get("BENCH_POSTGRESQL_URL", "postgres:///importops_bench"),
        help="a PostgreSQL database that is made anew and dropped; also BENCH_POSTGRESQL_URL",
    )
    parser.add_argument("--skip-sqlite", action="store_true")
    parser.add_argument("--skip-sizes", action="store_true")
    parser.add_argument("--skip-seed", action="store_true")
    parser.add_argument("--skip-responsiveness", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="importops-bench-") as name:
        export = Path(name) / "export.zip"
        made = build(export, messages=options.messages)
        print(f"{made['messages']:,} messages in {made['entries']:,} day files\n", flush=True)
        if not options.skip_sqlite:
            speed(export, options.messages, options.rounds)
        on_postgresql(export, options.messages, options.rounds, options.database)
        export.unlink()
        if not options.skip_sizes:
            sizes(Path(name), options.messages)
            print("peak RSS with very large single files", flush=True)
            subprocess.run([sys.executable, str(HERE / "bench_memory.py")], check=True)
            print()
    if not options.skip_seed:
        print("seed endpoint, against DRF TokenAuthentication and an ORM view", flush=True)
        subprocess.run([sys.executable, str(HERE / "bench_seed.py")], check=True)
    if not options.skip_responsiveness:
        print("\nthe site during an import, on SQLite", flush=True)
        subprocess.run([sys.executable, str(HERE / "bench_responsiveness.py")], check=True)


if __name__ == "__main__":
    main()
