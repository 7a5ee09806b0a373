"""A small disk of the harness's own (a tmpfs), which can be filled up and emptied again."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

MIB = 1024**2


@cache
def can_mount() -> bool:
    """Tried, not guessed: root inside of a container often may not."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            SmallDisk(Path(folder), 1).remove()
        except (OSError, subprocess.SubprocessError):
            return False
    return True


class SmallDisk:
    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)],
            check=True,
            timeout=20,
        )
        self._ballast = folder / "ballast"

    @property
    def free(self) -> int:
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    def fill(self, *, leave: int = 0) -> None:
        """Let a ballast file have everything but `leave` bytes, whatever others write meanwhile."""
        with self._ballast.open("ab") as file:
            while (more := self.free - leave) > 0:
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.tell(), more)
                file.seek(0, os.SEEK_END)

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True, timeout=20)
