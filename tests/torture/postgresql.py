"""A PostgreSQL server of the harness's own, on a free port, which may be broken as one likes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

from tests.torture.proxy import free_port

USER = "torture"


def binaries() -> Path | None:
    """Where `initdb` and `pg_ctl` are; None: not on this machine."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: path.parts[-3].zfill(4)
    )
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


class Cluster:
    def __init__(self) -> None:
        bin_folder = binaries()
        assert bin_folder is not None, "PostgreSQL's initdb is not on this machine"
        self._bin = bin_folder
        self._root = os.geteuid() == 0
        # Not below pytest's folders: the server runs as another user, who has to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="importops-torture-pg-"))
        self.own(self.folder)
        self.port = free_port()
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", USER, "--no-sync")
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def own(self, folder: Path) -> None:
        """Let the server's user have `folder`: it refuses to run as root."""
        if self._root:
            shutil.chown(folder, "postgres", "postgres")

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._bin / program), *map(str, arguments)]
        if self._root:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        done = subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def _control(self, action: str, *arguments: object) -> None:
        log = self.folder / "server.log"
        # What the server's processes hold open must not be the pipe that is waited for.
        self._run("pg_ctl", action, "-D", self.data, "-l", log, "-w", "-s", *arguments)

    def start(self) -> None:
        # The machine stays up, so what is not on disk yet is not lost: fsync would only cost time.
        options = f"-p {self.port} -k {self.folder} -h 127.0.0.1 -c fsync=off -c max_connections=60"
        self._control("start", "-o", options)

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def restart(self) -> None:
        """As after a crash: every session is cut off, and the log is played back."""
        self._control("restart", "-m", "immediate")

    def url(self, name: str, port: int | None = None) -> str:
        return f"postgres://{USER}@127.0.0.1:{port or self.port}/{name}"

    def execute(self, sql: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5) as server:
            server.execute(sql)  # type: ignore[call-overload]

    def end_sessions(self, name: str) -> None:
        """End every session in one database, whatever it is in the midst of."""
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )

    def remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
