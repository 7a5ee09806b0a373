"""Preparing, importing and polling, each beside its raw baseline, measured in turn in one run.

    make bench                                  everything; about ten minutes on two cores
    make bench ARGS="--messages 50000 --rounds 2 --skip-sizes --skip-seed --skip-responsiveness"

Each round runs the baselines and the product one after the other, so that a machine whose speed
drifts meets all of them; what is quoted is the median, and the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from generate import build

HERE = Path(__file__).resolve().parent


def run(script: str, *arguments: object) -> dict[str, Any]:
    """The JSON line that a script of this folder prints, run in a process of its own."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def speed(folder: Path, messages: int, rounds: int) -> None:
    export = folder / "export.zip"
    made = build(export, messages=messages)
    print(f"{made['messages']:,} messages in {made['entries']:,} day files\n")
    prepare, load, product = [], [], []
    for number in range(rounds):
        prepare.append(run("baselines.py", "prepare", export))
        load.append(run("baselines.py", "import", export, folder / f"baseline-{number}.db"))
        product.append(run("bench_import.py", export))
        assert product[-1]["status"] == "importer_done", product[-1]
        assert product[-1]["messages"] == messages, product[-1]
    row("preparing", prepare, product, "preparing_seconds", 1.5)
    row("import phases", load, product, "importing_seconds", 1.6)
    print(
        f"peak RSS: baseline {median(load, 'peak_rss_mib'):.0f} MiB, "
        f"importing process {median(product, 'peak_rss_mib'):.0f} MiB "
        f"(Django alone: {median(product, 'base_rss_mib'):.0f} MiB; goal under 200)\n"
    )


def row(
    name: str,
    baseline: list[dict[str, Any]],
    product: list[dict[str, Any]],
    key: str,
    goal: float,
) -> None:
    ratios = [mine[key] / raw["seconds"] for raw, mine in zip(baseline, product, strict=True)]
    rate = product[0]["messages"] / median(product, key)
    print(
        f"{name:14} baseline {median(baseline, 'seconds'):6.2f} s   "
        f"importops {median(product, key):6.2f} s ({rate:,.0f} messages/s)   ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; goal {goal})"
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
    parser.add_argument("--skip-sizes", action="store_true")
    parser.add_argument("--skip-seed", action="store_true")
    parser.add_argument("--skip-responsiveness", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="importops-bench-") as name:
        speed(Path(name), options.messages, options.rounds)
        if not options.skip_sizes:
            sizes(Path(name), options.messages)
    if not options.skip_seed:
        print("seed endpoint, against DRF TokenAuthentication and an ORM view", flush=True)
        subprocess.run([sys.executable, str(HERE / "bench_seed.py")], check=True)
    if not options.skip_responsiveness:
        print("\nthe site during an import, on SQLite", flush=True)
        subprocess.run([sys.executable, str(HERE / "bench_responsiveness.py")], check=True)


if __name__ == "__main__":
    main()
