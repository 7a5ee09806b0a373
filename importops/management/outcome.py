"""What came of an import: in words, as JSON, and as an exit code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from importops.engine.progress import (
    KINDS,
    counts,
    counts_of,
    has_failures,
    operation_body,
    progress_body,
    skip_reasons,
)
from importops.management.progress_line import duration
from importops.models import ImportOperation, Status

FAILED = 1
DONE_WITH_FAILURES = 3

OUTCOMES = ("total", "created", "updated", "skipped", "failed")


def result_body(operation: ImportOperation) -> dict[str, Any]:
    """The final object of `import_file --json`."""
    return {
        "operation": operation.public_id,
        "status": operation.status,
        "counts": counts(operation),
        "seconds": seconds(operation),
    }


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
    write_counts(out, operation.tally)
    if stand_ins := operation.tally.get("placeholders", 0):
        out.write(f"placeholders for authors without an account: {stand_ins:,}")
    for note in operation.notes:
        out.write(f"note: {note}")
    took = seconds(operation)
    ending = "" if took is None else f" in {duration(took)}"
    out.write(f"{operation.public_id}: {operation.get_status_display()}{ending}")


def write_counts(out: OutputWrapper, tally: Mapping[str, int]) -> None:
    for line in counts_table(tally):
        out.write(line)
    for kind in KINDS:
        if reasons := skip_reasons(tally, kind):
            told = ", ".join(f"{reason} {n:,}" for reason, n in reasons.items())
            out.write(f"{kind} skipped: {told}")


def counts_table(tally: Mapping[str, int]) -> list[str]:
    """One aligned line per kind, under a heading."""
    lines = [["", *OUTCOMES]]
    for kind, numbers in counts_of(tally).items():
        lines.append([kind, *(f"{numbers[name]:,}" for name in OUTCOMES)])
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
    if operation.status == Status.FAILED:
        raise CommandError(
            f"The import failed: {operation.error} When that is mended: "
            f"manage.py import_resume {operation.public_id}",
            returncode=FAILED,
        )
    if operation.status == Status.CANCELLED:
        raise CommandError(
            f"The import was cancelled. To go on: manage.py import_resume {operation.public_id}",
            returncode=FAILED,
        )
    if operation.status == Status.DONE and has_failures(operation):
        raise CommandError(
            f"Some records could not be imported; {look}",
            returncode=DONE_WITH_FAILURES,
        )
