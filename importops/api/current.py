"""The current operation, read as cheaply as it can be: this is what a thousand clients poll.

One statement, written out, because building the query is what costs time with the ORM, not
answering it (docs/benchmarks.md). It names the same row as `ImportOperation.objects.current()`;
a test holds the two together.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from importops.models import ImportOperation, User
from importops.models.operations import IMPORTING

_DOCUMENTS = {"tally", "progress"}
_WANTED = {
    *("id", "public_id", "importer_key", "type", "status", "phase", "valid", "user_id"),
    *("ts", "updated_at", "started_at", "finished_at", "cancel_requested_at"),
    *("file", "content_type", *_DOCUMENTS),
}
# `from_db` takes values in the model's own order.
_NAMES = [
    field.attname for field in ImportOperation._meta.concrete_fields if field.attname in _WANTED
]

# The statuses stand in the text as they do in the condition of the index `one_running_operation`,
# which is how the database knows that it may use it.
_SELECT = f"""
    SELECT {", ".join(f"o.{name}" for name in _NAMES)}, u.public_id
    FROM importops_importoperation o JOIN importops_user u ON u.id = o.user_id
    WHERE o.id = COALESCE(
        (SELECT id FROM importops_importoperation
            WHERE status IN ({", ".join(f"'{status.value}'" for status in IMPORTING)})
            ORDER BY ts DESC, id DESC LIMIT 1),
        (SELECT id FROM importops_importoperation ORDER BY ts DESC, id DESC LIMIT 1)
    )
"""  # noqa: S608


def read_current_operation() -> ImportOperation | None:
    """The one that is importing, else the latest, with its user's public id; None: there is none.

    What it did not read is fetched when asked for, at the price of another statement.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SELECT)
        row = cursor.fetchone()
    if row is None:
        return None
    *values, user_public_id = map(_convert, (*_NAMES, ""), row)
    operation = ImportOperation.from_db(connection.alias, _NAMES, values)
    operation.user = User.from_db(
        connection.alias, ("id", "public_id"), (operation.user_id, user_public_id)
    )
    return operation


def _convert(name: str, value: Any) -> Any:
    """What the ORM would do: SQLite hands out times without their zone, and JSON as text."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return json.loads(value) if name in _DOCUMENTS else value
