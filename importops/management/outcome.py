"""What came of an import: in words, as JSON, and as an exit code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from importops.engine.progress import (
    KINDS,
    counts,
    has_failures,
    operation_body,
    progress_body,
    skip_reasons,
)
from importops.engine.undo_report import ATTACHED, undo_body
from importops.management.progress_line import duration
from importops.models import ImportOperation, Status
from importops.models.operations import ROLLBACK

FAILED = 1
DONE_WITH_FAILURES = 3

OUTCOMES = ("total", "created", "updated", "skipped", "failed")
COLUMNS = {name: name for name in OUTCOMES}
REMOVING = ("removed", "skipped", "failed")


def outcomes_of(operation: ImportOperation) -> dict[str, str]:
    """The columns of the table: names in `counts` -> headings."""
    if operation.importer_key == ROLLBACK:
        return {"total": "total", "removed": "removed", "skipped": "kept", "failed": "failed"}
    if operation.is_import:
        return COLUMNS
    return {name: name for name in ("total", "updated", *REMOVING)}


def result_body(operation: ImportOperation) -> dict[str, Any]:
    """The final object of `import_file --json`."""
    body = {
        "operation": operation.public_id,
        "status": operation.status,
        "counts": counts(operation),
        "seconds": seconds(operation),
    }
    undone = undo_body(operation)
    return body if undone is None else {**body, "undo": undone}


def status_body(operation: ImportOperation | None) -> dict[str, Any]:
    """What `import_status --json` and `import_list --json` tell of an operation."""
    if operation is None:
        return {"state": "none", "operation": None, "counts": None, "progress": None}
    return {
        "state": operation.state,
        "operation": operation_body(operation),
        "counts": counts(operation),
        "progress": progress_body(operation),
    }


def write_json(out: OutputWrapper, body: Any) -> None:
    out.write(json.dumps(body))


def seconds(operation: ImportOperation) -> float | None:
    """How long the import phases took."""
    took = operation.duration
    return None if took is None else round(took.total_seconds(), 3)


def write_summary(out: OutputWrapper, operation: ImportOperation) -> None:
    """The numbers first, then the reasons."""
    write_counts(out, counts(operation), operation.tally, outcomes_of(operation))
    write_undone(out, operation)
    if stand_ins := operation.tally.get("placeholders", 0):
        out.write(f"placeholders for authors without an account: {stand_ins:,}")
    for note in operation.notes:
        out.write(f"note: {note}")
    if was_replaced(operation):
        out.write("A newer operation has taken its place; to import this file, import it again.")
    if operation.rolled_back_at:
        out.write(f"taken back on {operation.rolled_back_at:%Y-%m-%d at %H:%M} UTC")
    took = seconds(operation)
    ending = "" if took is None else f" in {duration(took)}"
    out.write(f"{operation.public_id}: {operation.get_status_display()}{ending}")


def write_counts(
    out: OutputWrapper,
    numbers: Mapping[str, Mapping[str, int]],
    tally: Mapping[str, int],
    columns: Mapping[str, str] = COLUMNS,
) -> None:
    """`numbers` as a table, then why records of each kind were skipped."""
    for line in counts_table(numbers, columns):
        out.write(line)
    for kind in KINDS:
        if reasons := skip_reasons(tally, kind):
            told = ", ".join(f"{reason} {n:,}" for reason, n in reasons.items())
            out.write(f"{kind} {columns['skipped']}: {told}")


def was_replaced(operation: ImportOperation) -> bool:
    """Whether it waited for a selection, and a newer operation has taken its place."""
    return not operation.valid and operation.status == Status.USER_SELECTION


def write_undone(out: OutputWrapper, operation: ImportOperation) -> None:
    """What of a rollback is in no table: what hung on users and rooms, and what stays changed."""
    undone = undo_body(operation)
    if undone is None:
        return
    for name in ATTACHED.values():
        out.write(f"{name}: removed {undone[name]['removed']:,}, kept {undone[name]['kept']:,}")
    if changed := undone["updatesKept"]:
        told = ", ".join(f"{kind} {number:,}" for kind, number in changed.items())
        out.write(f"there before, changed by the import, stay changed: {told}")
    if any(undone[kind]["kept"] for kind in KINDS):
        out.write(f"what was kept, one by one: manage.py import_failures {operation.public_id}")


def counts_table(numbers: Mapping[str, Mapping[str, int]], columns: Mapping[str, str]) -> list[str]:
    """One aligned line per kind, under a heading."""
    lines = [["", *columns.values()]]
    for kind, number in numbers.items():
        lines.append([kind, *(f"{number[name]:,}" for name in columns)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    ]


def refuse_unless_well(operation: ImportOperation) -> None:
    """Nothing, when all went well or goes on; else a `CommandError` with the exit code.

    1: failed or cancelled. 3: done, but some records could not be imported.
    """
    look = f"see manage.py import_failures {operation.public_id}"
    what = "import" if operation.is_import else operation.type.lower()
    done = "imported" if operation.is_import else "dealt with"
    if operation.status == Status.FAILED:
        raise CommandError(
            f"The {what} failed: {operation.error} When that is mended: "
            f"manage.py import_resume {operation.public_id}",
            returncode=FAILED,
        )
    if operation.status == Status.CANCELLED:
        raise CommandError(
            f"The {what} was cancelled. To go on: manage.py import_resume {operation.public_id}",
            returncode=FAILED,
        )
    if operation.status == Status.DONE and has_failures(operation):
        raise CommandError(
            f"Some records could not be {done}; {look}",
            returncode=DONE_WITH_FAILURES,
        )
