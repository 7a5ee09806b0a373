"""`manage.py import_failures`: what could not be imported, and why; and once more, just that."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from importops.actions.retrying import retry_failed
from importops.engine.failure_csv import write_failure_csv
from importops.engine.progress import failures_by_code
from importops.management.arguments import USAGE, add_operation_argument, required_operation
from importops.management.foreground import Foreground, refusals
from importops.management.outcome import FAILED, refuse_unless_well, write_summary
from importops.models import ImportFailure, ImportOperation
from importops.redaction import redact

AT_ONCE = 1000


class Command(BaseCommand):
    help = "Show what could not be imported, and why; with --retry, try just that again."

    def add_arguments(self, parser: CommandParser) -> None:
        add_operation_argument(parser)
        parser.add_argument(
            "--csv",
            default="",
            metavar="PATH",
            help="Write a CSV file that spreadsheets open safely; - writes to the terminal.",
        )

        parser.add_argument(
            "--retry",
            action="store_true",
            help="Import the failed records again, in the foreground: when their cause is gone.",
        )

    def handle(self, *, id: str, csv: str, retry: bool, **options: Any) -> None:
        operation = required_operation(id)
        if retry and csv:
            raise CommandError("--csv and --retry: one at a time.", returncode=USAGE)
        if retry:
            self._retry(operation)
        elif csv == "-":
            self.stdout.ending = ""
            failures = ImportFailure.objects.of(operation)
            write_failure_csv(failures.iterator(AT_ONCE), self.stdout)
        elif csv:
            self._write_file(operation, csv)
        else:
            self._show(operation)

    def _retry(self, operation: ImportOperation) -> None:
        with refusals():
            number = retry_failed(operation, queue=False)
        noun = "record" if number == 1 else "records"
        self.stdout.write(f"trying {number:,} failed {noun} again")
        Foreground(self.stdout, self.stderr).run(operation)
        write_summary(self.stdout, operation)
        refuse_unless_well(operation)

    def _write_file(self, operation: ImportOperation, path: str) -> None:
        failures = ImportFailure.objects.of(operation)
        try:
            # The mark at the start tells Excel that this is UTF-8.
            with open(path, "w", encoding="utf-8-sig", newline="") as file:
                number = write_failure_csv(failures.iterator(AT_ONCE), file)
        except OSError as error:
            raise CommandError(
                f"{path} cannot be written: {error.strerror}.", returncode=FAILED
            ) from error
        self.stdout.write(f"{number:,} failed records written to {path}")

    def _show(self, operation: ImportOperation) -> None:
        failures = ImportFailure.objects.of(operation).defer("raw")
        for failure in failures.iterator(AT_ONCE):
            self.stdout.write(
                f"{failure.place}  {failure.get_kind_display()}  "
                f"{redact(failure.message)} [{failure.code}]"
            )
        numbers = failures_by_code(operation)
        if not numbers:
            self.stdout.write(f"Nothing failed in {operation.public_id}.")
            return
        told = ", ".join(f"{code} {number:,}" for code, number in numbers.items())
        what = "failed" if operation.is_import else "kept or failed"
        self.stdout.write(f"{sum(numbers.values()):,} {what}: {told}")
