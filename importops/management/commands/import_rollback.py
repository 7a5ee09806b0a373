"""`manage.py import_rollback`: take back what one import created, in the foreground."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from importops.actions.undoing import rollback_operation
from importops.management.arguments import (
    USAGE,
    acting_user,
    add_operation_argument,
    required_operation,
)
from importops.management.foreground import Foreground, refusals
from importops.management.outcome import (
    refuse_unless_well,
    result_body,
    write_json,
    write_summary,
)


class Command(BaseCommand):
    help = "Remove what one import created, and say what was kept and why."

    def add_arguments(self, parser: CommandParser) -> None:
        add_operation_argument(parser)
        parser.add_argument(
            "--user", default="", metavar="NAME", help="Who takes it back; else an administrator."
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="Print one JSON object at the end, and progress to stderr.",
        )

    def handle(self, *, id: str, user: str, json: bool, **options: Any) -> None:
        target = required_operation(id)
        with refusals(USAGE):
            operation = rollback_operation(target, acting_user(user), queue=False)
        Foreground(self.stderr if json else self.stdout, self.stderr).run(operation)
        if json:
            write_json(self.stdout, result_body(operation))
        else:
            write_summary(self.stdout, operation)
        refuse_unless_well(operation)
