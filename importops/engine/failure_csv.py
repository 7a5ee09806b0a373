"""Failed records as CSV that spreadsheets can open safely; the doors send it to where it is wanted."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Protocol

from importops.models import ImportFailure, User
from importops.redaction import redact

COLUMNS = ("kind", "import_id", "place", "code", "message", "retryable", "record")

# What makes Excel, LibreOffice and Google Sheets take a cell for a formula, or start another cell.
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class TextTarget(Protocol):
    def write(self, text: str, /) -> object: ...


def safe_cell(text: str) -> str:
    """`text`, with an apostrophe before it when a spreadsheet would run it."""
    return f"'{text}" if text.lstrip(" ").startswith(_STARTS_FORMULA) else text


def write_failure_csv(
    failures: Iterable[ImportFailure], target: TextTarget, *, reader: User | None = None
) -> int:
    """Write a header and a line for each of `failures`; how many there were.

    With a `reader`, records of private rooms only if that user may read those.
    """
    writer = csv.writer(target)
    writer.writerow(COLUMNS)
    number = 0
    for failure in failures:
        number += 1
        cells = (
            ImportFailure.wire_kinds[failure.kind],
            failure.import_id,
            failure.place,
            failure.code,
            failure.message,
            "yes" if failure.retryable else "no",
            failure.raw if reader is None else failure.raw_for(reader),
        )
        writer.writerow(safe_cell(redact(cell)) for cell in cells)
    return number
