"""A whole import in the test's own process, through the actions that the doors use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from importops.actions.operations import create_operation_in_place, start_operation
from importops.actions.previewing import preview_operation
from importops.engine.progress import counts
from importops.engine.running import run_operation
from importops.models import ImportOperation, User

EVERYTHING = {"users": {"all": True}, "channels": {"all": True}}


def prepare(path: Path, user: User, **options: Any) -> ImportOperation:
    operation = create_operation_in_place(user=user, importer_key="slack", path=path, **options)
    run_operation(operation)
    return operation


def import_all(
    path: Path, user: User, selection: dict[str, Any] | None = None, **options: Any
) -> ImportOperation:
    operation = prepare(path, user, **options)
    start_operation(operation, selection or EVERYTHING, user, queue=False)
    run_operation(operation)
    return operation


def adds_up(operation: ImportOperation) -> bool:
    """Promise 1: created + updated + skipped + failed = total, for every kind."""
    return all(
        number["created"]
        + number["updated"]
        + number.get("removed", 0)
        + number["skipped"]
        + number["failed"]
        == number["total"]
        for number in counts(operation).values()
    )


def preview(operation: ImportOperation, selection: dict[str, Any] | None = None) -> None:
    """A dry run, to its end."""
    preview_operation(operation, selection or EVERYTHING, operation.user, queue=False)
    run_operation(operation)


def start(operation: ImportOperation, selection: dict[str, Any] | None = None) -> None:
    """Import from a prepared operation, to its end."""
    start_operation(operation, selection or EVERYTHING, operation.user, queue=False)
    run_operation(operation)


def without_times(tally: dict[str, int]) -> dict[str, int]:
    """Without how many batches there were, and how long they took."""
    return {key: number for key, number in tally.items() if not key.startswith("batch")}
