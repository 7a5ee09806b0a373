"""Servers that tests start for themselves, on free ports, and end for certain."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.tasks.installation import kill, tree, until


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# The wrapper that packages install insists on the system's own user and folders.
RABBITMQ = ("rabbitmq-server", "/usr/lib/rabbitmq/bin")
REDIS = ("redis-server",)


def find_program(name: str, *places: str) -> str | None:
    """Where a server's program is; None on a machine that does not have it."""
    return shutil.which(name, path=os.pathsep.join([*places, os.environ["PATH"], "/usr/sbin"]))


def program(name: str, *places: str) -> str:
    """The same; skips the test where there is none."""
    found = find_program(name, *places)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def process(
    command: Sequence[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, ended with all that it started."""
    with log.open("ab") as output:
        server = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield server
        finally:
            for pid in tree(server.pid):
                kill(pid, signal.SIGKILL)
            server.wait()


@contextmanager
def s3_server(folder: Path, **environment: str) -> Iterator[int]:
    """The port of an S3 server with nothing in it."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with process(command, folder / "s3.log", environment):
        until(lambda: answers(port), 60, "an S3 server")
        yield port


class Broker:
    """A message broker that can be ended at once, and started again on the same port."""

    def __init__(self, url: str, port: int, start: Callable[[], ExitStack]) -> None:
        self.url = url
        self.port = port
        self._start = start
        self._running = ExitStack()

    def start(self) -> None:
        self._running = self._start()
        until(lambda: answers(self.port), 60, "a broker")

    def kill(self) -> None:
        self._running.close()


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Broker]:
    """A RabbitMQ of its own: node, ports, and the port mapper that Erlang wants."""
    server = program(*RABBITMQ)
    port, distribution, mapper = free_port(), free_port(), free_port()
    (folder / "plugins").write_text("[].")
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"importops{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }

    def start() -> ExitStack:
        running = ExitStack()
        running.enter_context(process([server], folder / "rabbitmq.log", environment))
        return running

    # Not as the daemon that the server would make of it: that one would stay.
    with process([program("epmd"), "-port", str(mapper)], folder / "epmd.log", environment):
        until(lambda: answers(mapper), 20, "the port mapper")
        broker = Broker(f"amqp://guest:guest@127.0.0.1:{port}//", port, start)
        broker.start()
        try:
            yield broker
        finally:
            broker.kill()


@contextmanager
def redis(folder: Path) -> Iterator[Broker]:
    """A Redis that keeps nothing: what was on it is lost with it."""
    server, port = program(*REDIS), free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]

    def start() -> ExitStack:
        running = ExitStack()
        running.enter_context(process([*command, "--save", ""], folder / "redis.log"))
        return running

    broker = Broker(f"redis://127.0.0.1:{port}/0", port, start)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
