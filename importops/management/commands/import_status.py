"""`manage.py import_status`: how an import is going, once or until it ends."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from importops.engine.progress import paused, worker_alive
from importops.management.arguments import add_operation_argument, operation_called
from importops.management.outcome import (
    refuse_unless_well,
    status_body,
    write_json,
    write_summary,
)
from importops.management.progress_line import doing, particulars, progress_line
from importops.models import ImportOperation, Status
from importops.models.operations import ENDED

LOOK_EVERY = 1.0


class Command(BaseCommand):
    help = "Tell how an import is going."

    def add_arguments(self, parser: CommandParser) -> None:
        add_operation_argument(parser)
        parser.add_argument(
            "--watch",
            action="store_true",
            help="Go on telling until the import has ended or waits for a selection.",
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *, id: str, watch: bool, json: bool, **options: Any) -> None:
        operation = operation_called(id)
        if watch and operation is not None:
            self._watch(operation, json=json)
        if json:
            write_json(self.stdout, status_body(operation))
        elif operation is None:
            self.stdout.write("Nothing has been imported yet.")
        else:
            self._tell(operation)
        if operation is not None:
            refuse_unless_well(operation)

    def _watch(self, operation: ImportOperation, *, json: bool) -> None:
        try:
            with progress_line(self.stderr if json else self.stdout) as line:
                while not is_at_rest(operation):
                    line.show(operation)
                    time.sleep(LOOK_EVERY)
                    operation.refresh_from_db()
        except KeyboardInterrupt:
            # Looking on is what ends, not the import.
            self.stderr.write("No longer watching; the import goes on.")

    def _tell(self, operation: ImportOperation) -> None:
        self.stdout.write(f"{operation.type}, {operation.file or 'no file'}")
        if not is_at_rest(operation):
            self.stdout.write(f"{doing(operation)}: {particulars(operation)}")
            if (reason := paused(operation)) is not None:
                self.stdout.write(reason)
            if not worker_alive():
                self.stdout.write(
                    "No worker has been heard of for half a minute. Unless a command imports in "
                    "the foreground, nothing goes on: start one with manage.py import_worker."
                )
        write_summary(self.stdout, operation)


def is_at_rest(operation: ImportOperation) -> bool:
    return operation.status in (*ENDED, Status.USER_SELECTION) or not operation.valid
