"""`manage.py import_resume`: go on with an import that stopped, in the foreground."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from importops.actions.operations import resume_operation, start_operation
from importops.management.arguments import (
    USAGE,
    add_operation_argument,
    add_selection_arguments,
    refuse_unknown_ids,
    required_operation,
    selection_of,
)
from importops.management.foreground import Foreground, refusals
from importops.management.outcome import (
    refuse_unless_well,
    result_body,
    write_json,
    write_summary,
)
from importops.models import ImportOperation, Status


class Command(BaseCommand):
    help = "Go on with an import that was cancelled, failed or interrupted, where it stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        add_operation_argument(parser)
        add_selection_arguments(parser)
        parser.add_argument(
            "--json",
            action="store_true",
            help="Print one JSON object at the end, and progress to stderr.",
        )

    def handle(self, *, id: str, json: bool, **options: Any) -> None:
        operation = required_operation(id)
        chosen = options["users"] is not None or options["channels"] is not None
        if chosen and operation.has_started:
            raise CommandError(
                "What to import was chosen when the import started; it cannot be changed "
                "now. Leave --users and --channels out.",
                returncode=USAGE,
            )
        foreground = Foreground(self.stderr if json else self.stdout, self.stderr)
        if operation.status != Status.USER_SELECTION:
            with refusals():
                resume_operation(operation, queue=False)
            foreground.run(operation)
        if operation.status == Status.USER_SELECTION:
            self._start(operation, selection_of(options) if chosen else None)
            foreground.run(operation)
        if json:
            write_json(self.stdout, result_body(operation))
        else:
            write_summary(self.stdout, operation)
        refuse_unless_well(operation)

    def _start(self, operation: ImportOperation, selection: dict[str, Any] | None) -> None:
        if selection is None:
            raise CommandError(
                "The import waits for you to choose what to import: add --users all "
                "--channels all, or the ids of some.",
                returncode=USAGE,
            )
        refuse_unknown_ids(operation, selection)
        with refusals():
            start_operation(operation, selection, operation.user, queue=False)
