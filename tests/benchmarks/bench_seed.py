"""How fast the seed endpoint answers pollers, beside a bare DRF view that gives the same body.

    python tests/benchmarks/bench_seed.py [--rounds 5] [--seconds 3] [--connections 8]

Both run under gunicorn (gthread, 2 processes of 4 threads) on loopback at the same time, each on a
database of its own in a temporary directory, and are loaded in turn, so that whatever else the
machine does meets both. The client is one process around a selector: it takes CPU from the
servers, the same from each. Prints a JSON line a round, and one with the medians and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PATH = "/api/v1/getCurrentImportOperation"
WARM_UP = 1.5
APPLICATION = "django.core.wsgi:get_wsgi_application()"

# Run by each project's own Django: tables, a user, a token, an operation that is half done.
PREPARE = """
import datetime, sys
import django
django.setup()
from django.contrib.auth.models import Group
from django.core.management import call_command
from importops.models import ImportOperation, User
call_command("migrate", verbosity=0)
user = User.objects.create_user("alice", None, public_id="d26x6zSkaPSe5gCyy")
user.groups.add(Group.objects.get(name="admin"))
moment = datetime.datetime(2021, 10, 27, 12, 20, 34, 169000, tzinfo=datetime.timezone.utc)
for day in range(20):
    operation = ImportOperation.objects.create(
        public_id=f"7PbvsnKJD9ZAqw3{day:02}", type="Slack", importer_key="slack",
        source="slack", status="importer_done", user=user,
        content_type="application/zip", file="2021926111747_d26x6zSkaPSe5gCyy_export.zip",
        ts=moment + datetime.timedelta(days=day), updated_at=moment,
        tally={"users.total": 10, "users.created": 10, "messages.total": 500000,
               "messages.created": 250000, "messages.failed": 3, "bytes": 10**9},
    )
"""
OUR_TOKEN = """
from importops.actions.accounts import issue_token
print(issue_token(user)[1])
"""
BARE_TOKEN = """
from rest_framework.authtoken.models import Token
print(Token.objects.create(user=user).key)
"""


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    request: bytes
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        """Spent by the worker processes so far (Linux only; 0 elsewhere)."""
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            stats = [Path(f"/proc/{pid}/stat").read_text() for pid in children.read_text().split()]
        except OSError:
            return 0.0
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return sum(int(row[11]) + int(row[12]) for row in fields) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def prepare(settings: str, token_code: str, environ: dict[str, str]) -> str:
    """The token of a fresh database."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + token_code],
        env=environ | {"DJANGO_SETTINGS_MODULE": settings},
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.strip()


@contextmanager
def gunicorn(
    settings: str, port: int, environ: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        *(sys.executable, "-m", "gunicorn", APPLICATION, "--bind", f"127.0.0.1:{port}"),
        *("--worker-class", "gthread", "--workers", "2", "--threads", "4"),
        *("--log-level", "warning", "--keep-alive", "30", "--worker-tmp-dir", environ["BENCH_DIR"]),
    ]
    process = subprocess.Popen(
        command, env=environ | {"DJANGO_SETTINGS_MODULE": settings}, cwd=ROOT
    )
    try:
        wait_until_open(port, process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the server on port {port} did not start")


def request_with(headers: dict[str, str]) -> bytes:
    lines = [f"GET {PATH} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def read_response(connection: socket.socket) -> tuple[int, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise SystemExit("the server closed the connection")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    fields = [line.split(b":", 1) for line in head.split(b"\r\n")[1:]]
    length = next(int(value) for name, value in fields if name.lower() == b"content-length")
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), body


def ask(server: Server) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(server.request)
        status, body = read_response(connection)
    if status != 200:
        raise SystemExit(f"{server.name} answered {status}: {body!r}")
    return body


def load(
    server: Server, body: bytes, seconds: float, connections: int
) -> tuple[float, list[float]]:
    """Answers a second, and how long each took."""
    times: list[float] = []
    sent: dict[socket.socket, float] = {}
    received: dict[socket.socket, bytes] = {}
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", server.port))
            stack.enter_context(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection, selectors.EVENT_READ)
            sent[connection], received[connection] = time.perf_counter(), b""
            connection.sendall(server.request)
        began = time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            for key, _ in selector.select(timeout=1):
                connection = key.fileobj  # type: ignore[assignment]
                data = connection.recv(65536)
                if not data:
                    raise SystemExit(f"{server.name} closed a connection")
                received[connection] += data
                if not received[connection].endswith(body):
                    continue
                if not received[connection].startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"{server.name}: {received[connection]!r}")
                now = time.perf_counter()
                times.append(now - sent[connection])
                sent[connection], received[connection] = now, b""
                connection.sendall(server.request)
        elapsed = time.perf_counter() - began
    return len(times) / elapsed, times


def measure(servers: list[Server], rounds: int, seconds: float, connections: int) -> None:
    bodies = {server.name: ask(server) for server in servers}
    if len(set(bodies.values())) != 1:
        raise SystemExit(f"the bodies differ: {bodies}")
    rates: dict[str, list[float]] = {server.name: [] for server in servers}
    costs: dict[str, list[float]] = {server.name: [] for server in servers}
    for number in range(rounds + 1):
        for server in servers:
            duration = seconds if number else WARM_UP
            cpu = server.cpu_seconds()
            rate, times = load(server, bodies[server.name], duration, connections)
            cpu = server.cpu_seconds() - cpu
            if number == 0:
                continue
            rates[server.name].append(rate)
            costs[server.name].append(cpu / len(times) * 1000)
            times.sort()
            line = {
                "bench": "seed",
                "view": server.name,
                "round": number,
                "requests_per_second": round(rate),
                "cpu_ms": round(costs[server.name][-1], 2),
                "p50_ms": round(times[len(times) // 2] * 1000, 2),
                "p99_ms": round(times[len(times) * 99 // 100] * 1000, 2),
            }
            print(json.dumps(line), flush=True)
    ours, bare = (server.name for server in servers)
    rate_of = {name: statistics.median(values) for name, values in rates.items()}
    cost_of = {name: statistics.median(values) for name, values in costs.items()}
    summary = {
        "bench": "seed",
        "connections": connections,
        "requests_per_second": {name: round(rate) for name, rate in rate_of.items()},
        "ratio": round(rate_of[ours] / rate_of[bare], 2),
        "cpu_ms": {name: round(cost, 2) for name, cost in cost_of.items()},
        "cpu_ratio": round(cost_of[bare] / (cost_of[ours] or 1), 2),
    }
    print(json.dumps(summary), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="importops-bench-") as directory, ExitStack() as stack:
        environ = {
            **os.environ,
            "BENCH_DIR": directory,
            "IMPORTOPS_DATA_DIR": directory,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
        }
        environ.pop("DATABASE_URL", None)
        token = prepare("project.settings", OUR_TOKEN, environ)
        headers = {"X-User-Id": "d26x6zSkaPSe5gCyy", "X-Auth-Token": token}
        port = free_port()
        process = stack.enter_context(gunicorn("project.settings", port, environ))
        ours = Server("importops", port, request_with(headers), process)
        token = prepare("bare_drf", BARE_TOKEN, environ)
        headers = {"Authorization": f"Token {token}"}
        port = free_port()
        process = stack.enter_context(gunicorn("bare_drf", port, environ))
        bare = Server("bare_drf", port, request_with(headers), process)
        measure([ours, bare], options.rounds, options.seconds, options.connections)


if __name__ == "__main__":
    main()
