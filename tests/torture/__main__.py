"""Torture for as long as one likes: `make torture`, an hour unless SECONDS says otherwise.

Random faults strike imports at random moments, until the time is over; then comes the table. Each
round has a seed of its own, made of SEED, the fault and a number, and prints it when it fails;
`make torture SECONDS=1 SEED=… FAULT=…` begins with the same rounds again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.torture.faults import BOTH, FAULTS, Fault
from tests.torture.rounds import Bench, Outcome, torture

Key = tuple[str, str]
MOST_STRIKES = 3


class Results:
    def __init__(self) -> None:
        self.outcomes: dict[Key, list[Outcome]] = defaultdict(list)
        self.failures: dict[Key, list[str]] = defaultdict(list)
        self.skipped: dict[Key, str] = {}

    def table(self) -> str:
        """Fault, runs, outcome, time to recover: GitHub's table, so that it can be pasted."""
        lines = [
            "| fault | database | runs | strikes | outcome | recovery, median | max |",
            "|---|---|---|---|---|---|---|",
        ]
        for fault in FAULTS:
            lines += [self._row(fault.name, kind) for kind in fault.databases]
        return "\n".join(lines)

    def _row(self, name: str, kind: str) -> str:
        key = name, kind
        if key in self.skipped:
            return f"| {name} | {kind} | 0 | 0 | skipped: {self.skipped[key]} | | |"
        done, failed = self.outcomes[key], len(self.failures[key])
        if not done and not failed:
            return f"| {name} | {kind} | 0 | 0 | not reached | | |"
        parts = [f"same workspace {len(done)}"] if done else []
        if waited := sum(outcome.paused for outcome in done):
            parts.append(f"after a pause {waited}")
        if failed:
            parts.append(f"FAILED {failed}")
        times = [outcome.recovered for outcome in done] or [0.0]
        return (
            f"| {name} | {kind} | {len(done) + failed} | {sum(each.strikes for each in done)} "
            f"| {', '.join(parts)} | {statistics.median(times):.1f} s | {max(times):.1f} s |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--fault", default="", help="only faults with these words in their name")
    parser.add_argument("--database", choices=BOTH, action="append")
    parser.add_argument("--first", type=int, default=1, help="number of the first round of a fault")
    options = parser.parse_args()
    say(f"seed {options.seed}")
    results = Results()
    wanted = [
        (fault, kind)
        for kind in options.database or BOTH
        for fault in FAULTS
        if options.fault in fault.name and kind in fault.databases
    ]
    with tempfile.TemporaryDirectory(prefix="importops-torture-") as folder:
        run(Path(folder), wanted, options.seed, options.first, options.seconds, results)
    say("", results.table(), f"seed {options.seed}")
    return 1 if any(results.failures.values()) else 0


def run(
    folder: Path,
    wanted: list[tuple[Fault, str]],
    seed: str,
    first: int,
    seconds: float,
    results: Results,
) -> None:
    order, benches = random.Random(seed), {}
    try:
        for kind in sorted({kind for _, kind in wanted}):
            (folder / kind).mkdir()
            benches[kind] = Bench(folder / kind, kind)
        until = time.monotonic() + seconds  # setting up does not count
        number = first
        while time.monotonic() < until:
            # Each fault once, then again in another order: all of them get their turn.
            for fault, kind in order.sample(wanted, len(wanted)):
                if time.monotonic() < until:
                    one_round(benches[kind], fault, f"{seed}:{number}", results)
            number += 1
    finally:
        for bench in benches.values():
            bench.remove()


def one_round(bench: Bench, fault: Fault, seed: str, results: Results) -> None:
    key = fault.name, bench.kind
    if reason := Bench.why_not(bench.kind, fault):
        results.skipped[key] = reason
        return
    began = time.monotonic()
    seed = f"{seed}:{fault.name}:{bench.kind}"
    strikes = random.Random(seed).randint(1, MOST_STRIKES)
    try:
        outcome = torture(bench, fault, seed, strikes=strikes)
    except Exception as error:  # noqa: BLE001 - the next round still tells something
        results.failures[key].append(seed)
        say(f"FAILED {seed}", str(error))
    else:
        results.outcomes[key].append(outcome)
        took = time.monotonic() - began
        say(f"{seed}: {outcome.recovered:.1f} s to recover, {took:.0f} s in all")


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
