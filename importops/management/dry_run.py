"""What came of a dry run: in words, as JSON, and as an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from importops.engine.preview_report import conflict_body, conflicts, preview_report
from importops.engine.progress import counts_of
from importops.management.arguments import selection_arguments
from importops.management.outcome import (
    DONE_WITH_FAILURES,
    FAILED,
    result_body,
    write_counts,
    write_json,
)
from importops.models import ImportFailure, ImportOperation
from importops.redaction import redact

AT_ONCE = 1000


class DryRun:
    """A dry run that has ended; `prepared` is how many seconds preparing took."""

    def __init__(
        self, operation: ImportOperation, selection: dict[str, Any], prepared: float
    ) -> None:
        self.operation = operation
        self.selection = selection
        self.prepared = prepared
        self.report = preview_report(operation)

    def refuse_unless_done(self) -> None:
        if self.report["state"] != "done":
            why = self.report["error"] or "Somebody stopped it."
            raise CommandError(f"The dry run did not get to its end: {why}", returncode=FAILED)

    def write(self, out: OutputWrapper, *, as_json: bool) -> None:
        if as_json:
            write_json(out, self._body())
            return
        for problem in self._problems():
            out.write(f"{problem['place']}: {problem['message']}")
        for conflict in self._conflicts():
            out.write(f"{conflict['place']}: {conflict['name']}: {conflict['message']}")
        write_counts(
            out, counts_of(self.operation.preview["tally"]), self.operation.preview["tally"]
        )
        for note in [*self.operation.notes, *self.report["notes"]]:
            out.write(f"note: {note}")
        out.write(f"Prepared in {self.prepared:.1f}s, tried in {self.report['seconds']:.1f}s.")
        out.write(
            "Nothing was imported. To import: manage.py import_resume "
            f"{self.operation.public_id} {selection_arguments(self.selection)}"
        )

    def refuse_unless_well(self) -> None:
        failed = sum(kind["failed"] for kind in self.report["counts"].values())
        if failed:
            noun = "record has a problem" if failed == 1 else "records have problems"
            raise CommandError(
                f"{failed:,} {noun} and would not be imported.", returncode=DONE_WITH_FAILURES
            )

    def _body(self) -> dict[str, Any]:
        return {
            **result_body(self.operation),
            "counts": self.report["counts"],
            "seconds": self.report["seconds"],
            "preparing_seconds": round(self.prepared, 3),
            "skipped": self.report["skipped"],
            "problems": list(self._problems()),
            "conflicts": list(self._conflicts()),
        }

    def _problems(self) -> Iterator[dict[str, str]]:
        failures = ImportFailure.objects.of(self.operation).defer("raw")
        for failure in failures.iterator(chunk_size=AT_ONCE):
            yield {
                "kind": ImportFailure.wire_kinds[failure.kind],
                "place": failure.place,
                "code": failure.code,
                "message": redact(failure.message),
            }

    def _conflicts(self) -> Iterator[dict[str, Any]]:
        return map(conflict_body, conflicts(self.operation).iterator(chunk_size=AT_ONCE))
