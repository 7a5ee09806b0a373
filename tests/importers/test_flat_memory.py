"""Single files of any size are read in flat memory: a day of messages, the list of users.

Small files, with limits lowered as much: what is measured is what Python itself holds at the peak.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from importops.importers.base import Directory
from importops.importers.slack import SlackImporter
from importops.limits import Limits
from tests.exports import slack_message, slack_room, slack_user, slack_zip

WHOLE = 64 * 1024
LIMITS = Limits(whole_entry_bytes=WHOLE, max_ratio=100_000)
PADDING = "words " * 300


def export(path: Path, *, messages: int = 1, users: int = 1) -> Path:
    return slack_zip(
        path,
        users=[slack_user(f"U{n}", f"u{n}", profile={"x": PADDING}) for n in range(users)],
        channels=[slack_room("C1", "general", ["U0"])],
        messages={
            "general": {
                "2024-01-02": [
                    slack_message(PADDING, f"{1_704_189_600 + n}.000100") for n in range(messages)
                ]
            }
        },
    )


def peak(work: Callable[[], int]) -> tuple[int, int]:
    """What `work` returns, and how many bytes were held at most while it ran."""
    tracemalloc.start()
    try:
        found = work()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read_messages(path: Path, index: Path) -> int:
    with path.open("rb") as file, closing(SlackImporter.open(file, index, LIMITS)) as source:
        (span,) = source.spans()
        directory = Directory(folders={"general": "C1"})
        return sum(len(chunk.records) for chunk in source.messages(span, span.start, directory))


def count_messages(path: Path, index: Path) -> int:
    with path.open("rb") as file, closing(SlackImporter.open(file, index, LIMITS)) as source:
        (span,) = source.spans()
        scans = source.scan(span, span.start, {"general": "C1"}, set())
        return sum(room.messages for scan in scans for room in scan.rooms.values())


def read_users(path: Path, index: Path) -> int:
    with path.open("rb") as file, closing(SlackImporter.open(file, index, LIMITS)) as source:
        return sum(1 for _ in source.workspace())


@pytest.mark.parametrize("read", [read_messages, count_messages])
def test_a_large_day_is_read_in_the_memory_of_a_few_batches(
    tmp_path: Path, read: Callable[[Path, Path], int]
) -> None:
    few = export(tmp_path / "few.zip", messages=3000)
    many = export(tmp_path / "many.zip", messages=12_000)  # 22 MB

    assert (usual := peak(lambda: read(few, tmp_path / "few")))[0] == 3000
    assert (large := peak(lambda: read(many, tmp_path / "many")))[0] == 12_000
    assert large[1] < 1.3 * usual[1]


def test_a_large_list_of_users_is_read_in_flat_memory(tmp_path: Path) -> None:
    few = export(tmp_path / "few.zip", users=1500)
    many = export(tmp_path / "many.zip", users=6000)  # 12 MB

    assert (usual := peak(lambda: read_users(few, tmp_path / "few")))[0] == 1501
    assert (large := peak(lambda: read_users(many, tmp_path / "many")))[0] == 6001
    # Their ids are remembered, about 100 bytes each; the file is 2 KB for each.
    assert large[1] - usual[1] < 4500 * 250


def test_without_zlib_ng_the_standard_library_inflates(tmp_path: Path) -> None:
    """Where there is no wheel for the platform: slower, and the same."""
    path = export(tmp_path / "export.zip", messages=5)
    code = f"""
import sys
sys.modules["zlib_ng"] = None
from importops.importers import archive
from tests.importers.test_flat_memory import Path, read_messages
print(archive.zlib.__name__, read_messages(Path({str(path)!r}), Path({str(tmp_path / "i")!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "zlib 5\n"
