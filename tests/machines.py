"""Several machines for tests: each has a folder of its own, and all share one PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from django.db import connection

from tests.tasks.installation import Installation

SECRET_KEY = "the same on all machines"


class Machine(Installation):
    """One that is set up by the environment alone."""

    def __init__(self, folder: Path, database: str, **environment: str) -> None:
        super().__init__(folder)
        folder.mkdir(exist_ok=True)
        self.database = database
        self.environment |= {"DATABASE_URL": database, "SECRET_KEY": SECRET_KEY, **environment}

    def ask(self, sql: str, *parameters: Any) -> Any:
        with psycopg.connect(self.database, autocommit=True) as database:
            row = database.execute(sql, parameters or None).fetchone()
            return row and row[0]


def server_url(name: str) -> str:
    asked = connection.settings_dict
    who = f"{asked['USER']}:{asked['PASSWORD']}@" if asked["USER"] else ""
    where = f"{asked['HOST']}:{asked['PORT'] or 5432}" if asked["HOST"] else ""
    return f"postgres://{who}{where}/{name}"


@contextmanager
def own_database(template: str = "template1") -> Iterator[str]:
    """The address of a new database on the server that the tests run on."""
    name = f"importops_{uuid4().hex[:12]}"
    with psycopg.connect(server_url("postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield server_url(name)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def name_of(database: str) -> str:
    return database.rpartition("/")[2]
