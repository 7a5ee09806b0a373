"""The writer for the database in use: one explicit table."""

from __future__ import annotations

from django.db import connection

from importops.engine.rows import FileRow, MessageRow
from importops.engine.writers.base import Writer
from importops.engine.writers.postgresql import PostgresqlWriter
from importops.engine.writers.sqlite import SqliteWriter

WRITERS: dict[str, type[Writer]] = {
    "sqlite": SqliteWriter,
    "postgresql": PostgresqlWriter,
}

__all__ = ["WRITERS", "FileRow", "MessageRow", "Writer", "writer_for"]


def writer_for(operation_id: int) -> Writer:
    return WRITERS[connection.vendor](operation_id)
