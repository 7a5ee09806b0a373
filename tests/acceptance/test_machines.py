"""Many workers on one PostgreSQL, without a broker and with each kind: the same workspace comes out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.benchmarks.generate import build
from tests.machines import Machine, name_of, own_database
from tests.object_store import object_store, settings_of
from tests.servers import Broker, rabbitmq, redis
from tests.tasks.installation import children, kill, until

pytestmark = [
    pytest.mark.process,
    pytest.mark.postgresql,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]

MESSAGES = 12_000
SLOWLY = {
    # A transaction for every few messages, so that there is time to disturb it.
    "IMPORTOPS_BATCH_ROWS": "10",
    "IMPORTOPS_LEASE_SECONDS": "3",
    "IMPORTOPS_SWEEP_SECONDS": "1",
}
STOPS_WITHIN = 5.0


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "export.zip"
    build(path, messages=MESSAGES, seed=3, users=60, per_day=5)
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that is set up, with nothing in it."""
    with own_database() as database:
        Machine(tmp_path_factory.mktemp("template"), database).manage("bootstrap")
        yield name_of(database)


@pytest.fixture(scope="module")
def expected(template: str, export: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the workspace after an undisturbed import in one process."""
    with own_database(template) as database:
        alone = Machine(tmp_path_factory.mktemp("alone"), database)
        alone.manage("import_file", export)
        return alone.act("hash")


@pytest.fixture
def database(template: str) -> Iterator[str]:
    with own_database(template) as database:
        yield database


@pytest.fixture(scope="module", params=["rabbitmq", "redis"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    pytest.importorskip("celery", reason="requirements-celery.txt is not installed")
    kinds = {"rabbitmq": rabbitmq, "redis": redis}
    with kinds[request.param](tmp_path_factory.mktemp(request.param)) as broker:
        yield broker


def over(broker: Broker) -> dict[str, str]:
    return {"IMPORTOPS_QUEUE": "celery", "IMPORTOPS_BROKER_URL": broker.url}


def begin(machine: Machine, export: Path) -> None:
    """Queue the export, wait until a worker has read it, and start."""
    machine.act("queue", export)
    machine.wait_for("importer_user_selection")
    machine.act("start")


def workers_of(machine: Machine) -> int:
    """How many processes worked on slices."""
    return int(machine.ask("SELECT COUNT(DISTINCT worker) FROM importops_importslice"))


@contextmanager
def all_running(machines: list[Machine]) -> Iterator[list[int]]:
    """An `import_worker` on each; their process ids."""
    with ExitStack() as stack:
        yield [stack.enter_context(each.running("import_worker")).pid for each in machines]


def test_machines_that_share_a_database_and_a_store_import_together(
    database: str, export: Path, expected: str, tmp_path: Path
) -> None:
    pytest.importorskip("storages", reason="requirements-s3.txt is not installed")
    with object_store(tmp_path) as front:
        store = settings_of(front)
        shared = {
            "IMPORTOPS_STORAGE": "s3",
            "IMPORTOPS_S3_BUCKET": store.bucket,
            "IMPORTOPS_S3_ENDPOINT": store.endpoint,
            "IMPORTOPS_S3_REGION": store.region,
            "IMPORTOPS_S3_ACCESS_KEY": store.access_key,
            "IMPORTOPS_S3_SECRET_KEY": store.secret_key,
        }
        web, *workers = [Machine(tmp_path / name, database, **SLOWLY, **shared) for name in "wab"]
        with all_running(workers) as supervisors:
            until(lambda: web.act("alive") == "True", 30, "a worker is heard of")
            begin(web, export)
            until(lambda: web.messages > 0, 30, "messages arrive")
            # Whichever machine has the slice: one is lost altogether, the other takes over.
            busy = str(web.ask("SELECT worker FROM importops_importslice WHERE status = 'running'"))
            lost = next(m for m in workers if int(busy.rpartition(":")[2]) in m.processes())
            for pid in [supervisors[workers.index(lost)], *lost.processes()]:
                kill(pid, signal.SIGKILL)
            web.wait_for("importer_done")

        assert web.act("hash") == expected
        assert web.messages == MESSAGES
        # The archive never came to any machine, the index did.
        assert not (web.folder / "storage").exists()
        assert list((workers[0].folder / "indexes").iterdir())
        assert list((workers[1].folder / "indexes").iterdir())


def test_over_a_broker_two_workers_import_the_same(
    broker: Broker, database: str, export: Path, expected: str, tmp_path: Path
) -> None:
    one, other = (Machine(tmp_path / "shared", database, **over(broker)) for _ in range(2))
    with all_running([one, other]):
        begin(one, export)
        one.wait_for("importer_done")

    assert one.act("hash") == expected
    assert one.ask("SELECT COUNT(*) FROM django_tasks_database_dbtaskresult") == 0


def test_over_a_broker_a_killed_worker_is_taken_over(
    broker: Broker, database: str, export: Path, expected: str, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "data", database, **SLOWLY, **over(broker))
    with all_running([machine]) as (supervisor,):
        begin(machine, export)
        until(lambda: machine.messages > 0, 30, "messages arrive")
        (worker,) = children(supervisor)
        kill(worker, signal.SIGKILL)
        until(lambda: children(supervisor) not in ([], [worker]), 10, "another worker")
        assert machine.messages < MESSAGES
        machine.wait_for("importer_done")

    assert machine.act("hash") == expected


def test_over_a_broker_a_stop_ends_the_slice_at_its_next_batch(
    broker: Broker, database: str, export: Path, expected: str, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "data", database, **SLOWLY, **over(broker))
    with machine.running("import_worker") as supervisor:
        begin(machine, export)
        until(lambda: machine.messages > 0, 30, "messages arrive")
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(STOPS_WITHIN) == 0
        assert machine.processes() == []
    # Given back, not lost: nobody has to wait for its lease.
    assert machine.ask("SELECT status FROM importops_importslice ORDER BY id DESC") == "ready"
    assert 0 < machine.messages < MESSAGES
    with machine.running("import_worker"):
        machine.wait_for("importer_done")

    assert machine.act("hash") == expected


def test_a_broker_that_dies_and_comes_back_costs_nothing(
    broker: Broker, database: str, export: Path, expected: str, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "data", database, **SLOWLY, **over(broker))
    with machine.running("import_worker"):
        machine.act("queue", export)
        machine.wait_for("importer_user_selection")
        broker.kill()
        machine.act("start")
        assert machine.status == "importer_importing_started"
        broker.start()
        until(lambda: machine.messages > 0, 60, "messages arrive")
        broker.kill()
        broker.start()
        machine.wait_for("importer_done")

    assert machine.act("hash") == expected
