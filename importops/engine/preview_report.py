"""What is told of a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from importops.engine.previewing import preview_seconds, preview_state
from importops.engine.progress import KINDS, counts_of, failures_by_code, skip_reasons
from importops.models import ImportOperation, ImportSlice, Phase, StagedRecord
from importops.models.operations import StagedRecordQuerySet
from importops.redaction import redact

WIRE_KINDS = {StagedRecord.Kind.USER: "users", StagedRecord.Kind.ROOM: "channels"}


def preview_report(operation: ImportOperation) -> dict[str, Any]:
    """Everything but the conflicts themselves; `counts` is None until it is done."""
    found = operation.preview
    tally: dict[str, int] = found.get("tally") or {}
    state = preview_state(operation)
    return {
        "state": state,
        "operation": operation.public_id,
        "selection": found.get("selection"),
        "percent": percent(operation) if state == "running" else None,
        "counts": counts_of(tally) if tally else None,
        "skipped": {kind: skip_reasons(tally, kind) for kind in KINDS},
        "foundBy": {kind: found_by(tally, kind) for kind in ("users", "channels")},
        "memberships": tally.get("memberships", 0),
        "problems": {} if operation.has_started else failures_by_code(operation),
        "notes": notes(tally),
        "seconds": preview_seconds(operation),
        "error": found.get("error"),
    }


def found_by(tally: Mapping[str, int], kind: str) -> dict[str, int]:
    """What led to accounts or rooms that are here already: `import-id`, `email`, … -> how many."""
    prefix = f"{kind}.found-by."
    return {
        key.removeprefix(prefix): number
        for key, number in sorted(tally.items())
        if key.startswith(prefix)
    }


def notes(tally: Mapping[str, int]) -> list[str]:
    existing = tally.get("messages.skipped.existing", 0)
    if not existing:
        return []
    noun = "message is" if existing == 1 else "messages are"
    return [
        f"{existing:,} {noun} here already. Whether later edits, reactions or threads would be added "
        "to them was not compared: the import may count some of them as updated."
    ]


def percent(operation: ImportOperation) -> int | None:
    """How much of what has to be read again is read; None while that is not known."""
    slices = ImportSlice.objects.filter(operation=operation, phase=Phase.PREVIEWING)
    total = read = 0
    for weight, tally in slices.values_list("weight", "tally"):
        total += weight
        read += tally.get("read", 0)
    return min(99, read * 100 // total) if total else None


def conflicts(operation: ImportOperation) -> StagedRecordQuerySet:
    """Users and rooms of which a person should know before the start. After it, `note` tells what came
    of them."""
    staged = StagedRecord.objects.filter(operation=operation, kind__in=WIRE_KINDS)
    if operation.has_started:
        return staged.none()
    return staged.exclude(note="").order_by("pk")


def conflict_body(row: StagedRecord) -> dict[str, Any]:
    return {
        "kind": WIRE_KINDS[StagedRecord.Kind(row.kind)],
        "importId": row.import_id,
        "name": row.data.get("username") or row.data.get("name") or "",
        "place": redact(row.place),
        "message": redact(row.note),
    }
