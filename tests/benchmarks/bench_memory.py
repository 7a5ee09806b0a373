"""Peak memory with single files that are very large: a day of 300 MB, a users.json of 200 MB.

    python tests/benchmarks/bench_memory.py [--database postgres://…/name]

Each export is generated, imported in a process of its own and deleted. Everything is to stay under
200 MiB, and within 30 MiB of an ordinary export.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import run
from generate import build

from tests.exports import slack_message, slack_room, slack_user

MIB = 1024**2
GOAL = 200


def write_array(archive: zipfile.ZipFile, name: str, items: Iterator[object], size: int) -> int:
    """Write a JSON array of about `size` bytes, element by element; how many elements."""
    count = written = 0
    with archive.open(name, "w", force_zip64=True) as file:
        for item in items:
            data = (b",\n" if count else b"[\n") + json.dumps(item, indent=4).encode()
            file.write(data)
            written += len(data)
            count += 1
            if written >= size:
                break
        file.write(b"\n]")
    return count


def messages() -> Iterator[object]:
    at = 1_704_189_600_000_000
    while True:
        at += 1000
        ts = f"{at // 1_000_000}.{at % 1_000_000:06d}"
        reactions = [{"name": "tada", "users": ["U1", "U2"], "count": 2}]
        text = f"message of {ts}: " + "some words that people write, again and again; " * 12
        yield slack_message(text, ts, "U1", reactions=reactions)


def users() -> Iterator[object]:
    number = 0
    while True:
        number += 1
        profile = {"title": "member of the staff " * 60}
        yield slack_user(f"U{number}", f"user.{number}", profile=profile)


def large_export(path: Path, day_bytes: int, users_bytes: int) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        people = write_array(archive, "users.json", users(), users_bytes)
        rooms = [slack_room("C1", "general", ["U1", "U2"])]
        archive.writestr("channels.json", json.dumps(rooms))
        posts = write_array(archive, "general/2024-01-02.json", messages(), day_bytes)
    return f"{people:,} users, {posts:,} messages in one day"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", default="")
    parser.add_argument("--day-mib", type=int, default=300)
    parser.add_argument("--users-mib", type=int, default=200)
    options = parser.parse_args()
    where = ["--database", options.database] if options.database else []
    with tempfile.TemporaryDirectory(prefix="importops-bench-") as name:
        export = Path(name) / "export.zip"
        made = build(export, messages=100_000)
        row(f"{made['messages']:,} messages in {made['entries']:,} days", export, where)
        for title, day, people in (
            (f"a day of {options.day_mib} MiB", options.day_mib * MIB, 1),
            (f"a users.json of {options.users_mib} MiB", 1, options.users_mib * MIB),
        ):
            what = large_export(export, day, people)
            row(f"{title} ({what})", export, where)


def row(title: str, export: Path, where: list[str]) -> None:
    result = run("bench_import.py", export, *where)
    export.unlink()
    assert result["status"] == "importer_done", result
    print(
        f"{title}\n    preparing {result['preparing_rss_mib']:.0f} MiB, importing "
        f"{result['peak_rss_mib']:.0f} MiB, reader {result['reader_rss_mib']:.0f} MiB "
        f"(goal under {GOAL}); {result['preparing_seconds']:.0f} + "
        f"{result['importing_seconds']:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
