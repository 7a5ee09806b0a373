"""Real process trees: they work, survive the loss of any of their parts, and leave nothing behind."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.generate import build
from tests.tasks.installation import Installation, children, kill, living, stat_of, tree, until

pytestmark = [
    pytest.mark.process,
    pytest.mark.sqlite,  # each installation has its own SQLite file
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]

MESSAGES = 30_000
LEASE, SWEEP = 2, 1
STOPS_WITHIN = 5.0


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "export.zip"
    build(path, messages=MESSAGES, seed=3, users=60, per_day=5)
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Set up, with nothing in it."""
    made = Installation(tmp_path_factory.mktemp("template"))
    made.manage("bootstrap")
    return made


@pytest.fixture(scope="module")
def expected(template: Installation, export: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the workspace after an undisturbed import."""
    undisturbed = copy_of(template, tmp_path_factory.mktemp("undisturbed"))
    undisturbed.manage("import_file", export)
    return undisturbed.act("hash")


@pytest.fixture
def installation(template: Installation, tmp_path: Path) -> Installation:
    """Its import takes long enough to be disturbed: a transaction for every few messages."""
    return copy_of(
        template,
        tmp_path / "data",
        batch_rows="10",
        lease_seconds=str(LEASE),
        sweep_seconds=str(SWEEP),
    )


def copy_of(template: Installation, folder: Path, **settings: str) -> Installation:
    shutil.copytree(template.folder, folder, dirs_exist_ok=True)
    return Installation(folder, **settings)


def start_importing(installation: Installation, export: Path) -> None:
    """Queue the export, wait until a worker has read it, start, and wait for the first messages."""
    installation.act("queue", export)
    installation.wait_for("importer_user_selection")
    installation.act("start")
    until(lambda: installation.messages > 0, 30, "messages arrive")
    assert installation.messages < MESSAGES


def worker_of(supervisor: int) -> int:
    return until(lambda: children(supervisor), 10, "a worker")[0]


def another_worker(supervisor: int, than: int) -> Callable[[], list[int]]:
    return lambda: [pid for pid in children(supervisor) if pid != than]


def slice_in_work(installation: Installation) -> int | None:
    return installation.ask(
        "SELECT attempt FROM importops_importslice WHERE phase = 'messages' AND status = 'running'"
    )


def all_gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: not set(pids) & set(living())


def test_a_queued_import_is_done_in_the_background(
    installation: Installation, export: Path, expected: str
) -> None:
    with installation.running("import_worker"):
        installation.act("queue", export)
        installation.wait_for("importer_user_selection")
        installation.act("start")
        installation.wait_for("importer_done")

    assert installation.messages == MESSAGES
    assert installation.act("hash") == expected


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_worker_that_is_lost_is_replaced_and_the_import_goes_on(
    installation: Installation, export: Path, expected: str, number: signal.Signals
) -> None:
    with installation.running("import_worker") as supervisor:
        worker = worker_of(supervisor.pid)
        start_importing(installation, export)
        kill(worker, number)
        until(another_worker(supervisor.pid, worker), LEASE + 10, "another worker")
        # The slice was queued a moment ago: only its lease has to run out.
        until(lambda: (slice_in_work(installation) or 0) > 1, 15, "the slice is taken up again")
        installation.wait_for("importer_done")
        assert stat_of(worker)[0] in "XZ"

    assert installation.messages == MESSAGES
    assert installation.act("hash") == expected


def test_a_worker_that_lives_is_left_alone(installation: Installation, export: Path) -> None:
    """The heartbeat is quicker than the shortest lease."""
    with installation.running("import_worker") as supervisor:
        worker = worker_of(supervisor.pid)
        beat = installation.folder / "run" / f"worker-{socket.gethostname()}-{worker}"
        first = until(lambda: beat.exists() and beat.stat().st_mtime, 10, "a heartbeat")
        beats: set[float] = set()

        def has_outlived_leases() -> bool:
            beats.add(beat.stat().st_mtime)
            return max(beats) - min(beats | {time.time()}) > 0 and len(beats) > 4 * LEASE

        until(has_outlived_leases, 30, "many heartbeats")
        assert children(supervisor.pid) == [worker]
        assert first


def test_sigterm_ends_all_and_gives_the_slice_back(
    installation: Installation, export: Path, expected: str
) -> None:
    with installation.running("import_worker") as supervisor:
        start_importing(installation, export)
        pids = tree(supervisor.pid)
        assert len(pids) >= 2  # itself, the worker, and what reads for it
        supervisor.send_signal(signal.SIGTERM)
        until(all_gone(pids), STOPS_WITHIN, "all processes are gone")
    assert installation.processes() == []
    assert supervisor.returncode == 0
    left = installation.ask(
        "SELECT status || ' ' || (lease_until IS NULL) || ' ' || stalled "
        "FROM importops_importslice WHERE phase = 'messages' AND status != 'done'"
    )
    assert left == "ready 1 0"
    assert installation.status == "importer_importing_messages"
    assert 0 < installation.messages < MESSAGES

    with installation.running("import_worker"):
        installation.wait_for("importer_done")
    assert installation.act("hash") == expected


def test_the_workers_end_when_the_supervisor_is_killed(
    installation: Installation, export: Path
) -> None:
    with installation.running("import_worker") as supervisor:
        start_importing(installation, export)
        pids = tree(supervisor.pid)
        assert len(pids) >= 2  # itself, the worker, and what reads for it
        kill(supervisor.pid, signal.SIGKILL)
        until(all_gone(pids), STOPS_WITHIN, "all processes are gone")
    assert installation.status == "importer_importing_messages"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes] | None:
    """Status and body; None while nobody listens."""
    request = urllib.request.Request(url, headers=headers or {})  # noqa: S310 - this machine
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_serve_answers_and_imports_and_leaves_nothing_behind(
    installation: Installation, export: Path, number: signal.Signals
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1/getCurrentImportOperation"
    lines = installation.manage("create_token", "admin").splitlines()
    pair = dict(line.split(": ", 1) for line in lines)

    with installation.running("serve", "--port", port) as server:
        assert until(lambda: answer(url, pair), 30, "an answer") == (
            200,
            b'{"success":true,"operation":null}',
        )
        assert answer(url) == (401, b'{"success":false,"error":"unauthorized"}')
        start_importing(installation, export)
        now = answer(url, pair)
        assert now is not None and b'"status":"importer_importing_messages"' in now[1]
        pids = tree(server.pid)
        assert len(pids) >= 4  # itself, gunicorn's master and its workers, the import worker
        server.send_signal(number)
        until(all_gone(pids), STOPS_WITHIN, "all processes are gone")
        assert installation.processes() == []
    assert answer(url) is None
    if number == signal.SIGINT:
        assert server.returncode == 0
