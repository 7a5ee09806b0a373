"""`manage.py import_cancel`: stop an import, within one batch."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from importops.actions.operations import cancel_operation
from importops.management.arguments import add_operation_argument, required_operation
from importops.management.foreground import refusals


class Command(BaseCommand):
    help = "Stop an import; what it brought stays, and it can be resumed."

    def add_arguments(self, parser: CommandParser) -> None:
        add_operation_argument(parser)

    def handle(self, *, id: str, **options: Any) -> None:
        operation = required_operation(id)
        with refusals():
            cancel_operation(operation)
        if operation.is_cancelling:
            self.stdout.write(f"{operation.public_id} stops after the batch at hand.")
        else:
            self.stdout.write(f"{operation.public_id} is cancelled.")
        self.stdout.write(f"To go on: manage.py import_resume {operation.public_id}")
