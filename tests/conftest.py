"""People, clients and a data directory of their own for every test run.

alice runs imports, bob is an ordinary member, charlie has left (inactive).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

if "IMPORTOPS_DATA_DIR" not in os.environ:
    # Before the settings are read: tests never write into the var/ of an installation.
    os.environ["IMPORTOPS_DATA_DIR"] = tempfile.mkdtemp(prefix="importops-tests-")
    atexit.register(shutil.rmtree, os.environ["IMPORTOPS_DATA_DIR"], ignore_errors=True)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django
import pytest
from django.db import connection
from pytest_django import Settings

django.setup()

from django.contrib.auth.models import Group  # noqa: E402

from importops.models import ApiToken, User  # noqa: E402
from tests.clients import ApiClient  # noqa: E402
from tests.factories import ApiTokenFactory, UserFactory, secret_of  # noqa: E402


def pytest_sessionstart(session: pytest.Session) -> None:
    """Without its server the suite says so once, instead of failing a thousand times."""
    if connection.vendor != "postgresql" or hasattr(session.config, "workerinput"):
        return
    import psycopg

    asked = connection.settings_dict
    try:
        psycopg.connect(
            host=asked["HOST"] or None,
            port=asked["PORT"] or None,
            user=asked["USER"] or None,
            password=asked["PASSWORD"] or None,
            dbname="postgres",  # where Django connects to create the test database
            connect_timeout=5,
        ).close()
    except psycopg.OperationalError as error:
        where = f"{asked['HOST'] or 'the local socket'}, port {asked['PORT'] or 5432}"
        pytest.exit(f"No PostgreSQL server answers at {where} (DATABASE_URL): {error}", 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A transactional test empties all tables: restore what migrations made.

    Tests about one database are left out on the other one; CI runs the suite on both.
    """
    other = "postgresql" if connection.vendor == "sqlite" else "sqlite"
    elsewhere = [item for item in items if item.get_closest_marker(other)]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if not item.get_closest_marker(other)]
    for item in items:
        marker = item.get_closest_marker("django_db")
        if marker is not None and marker.kwargs.get("transaction"):
            restoring = {**marker.kwargs, "serialized_rollback": True}
            item.add_marker(pytest.mark.django_db(**restoring), append=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With IMPORTOPS_NO_SKIPS (CI) a test that was skipped is a test that failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("IMPORTOPS_NO_SKIPS"):
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"{len(skipped)} skipped, and IMPORTOPS_NO_SKIPS is set", red=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """SQLite in a real file: other threads and processes see the same database."""
    if connection.vendor != "sqlite":
        request.getfixturevalue("django_db_modify_db_settings_parallel_suffix")
        return
    name = tmp_path_factory.mktemp("database") / "test.sqlite3"
    connection.settings_dict["TEST"]["NAME"] = str(name)


@pytest.fixture(autouse=True)
def _own_files(settings: Settings, tmp_path: Path) -> None:
    """Files of one test lie in its own directory, and so does its cache: nothing is in it before."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    settings.FILE_UPLOAD_TEMP_DIR = uploads
    storages = {name: dict(value) for name, value in settings.STORAGES.items()}
    options = dict(storages["default"].get("OPTIONS", {}))
    storages["default"]["OPTIONS"] = options | {"location": tmp_path / "storage"}
    storages["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = storages
    # Not one for all: tests that run side by side would empty it under each other.
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    default = {"BACKEND": backend, "LOCATION": str(tmp_path / "cache")}
    settings.CACHES = {**settings.CACHES, "default": default}


@pytest.fixture
def uploads(settings: Settings) -> Path:
    """Where uploads wait until they are complete; empty again after every request."""
    return Path(settings.FILE_UPLOAD_TEMP_DIR)


@pytest.fixture
def alice(db: None) -> User:
    return UserFactory.create(username="alice", name="Alice", groups=["admin"])


@pytest.fixture
def bob(db: None) -> User:
    return UserFactory.create(username="bob", name="Bob", groups=["user"])


@pytest.fixture
def charlie(db: None) -> User:
    return UserFactory.create(username="charlie", name="Charlie", is_active=False)


@pytest.fixture
def alice_token(alice: User) -> ApiToken:
    return ApiTokenFactory.create(user=alice)


@pytest.fixture
def alice_client(alice_token: ApiToken) -> ApiClient:
    return ApiClient(alice_token.user.public_id, secret_of(alice_token))


@pytest.fixture
def bob_client(bob: User) -> ApiClient:
    return ApiClient(bob.public_id, secret_of(ApiTokenFactory.create(user=bob)))


@pytest.fixture
def charlie_client(charlie: User) -> ApiClient:
    return ApiClient(charlie.public_id, secret_of(ApiTokenFactory.create(user=charlie)))


@pytest.fixture
def nobody_client(db: None) -> ApiClient:
    """Without any credentials."""
    return ApiClient()


@pytest.fixture
def admins(db: None) -> Group:
    return Group.objects.get(name="admin")
