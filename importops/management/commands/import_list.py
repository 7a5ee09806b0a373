"""`manage.py import_list`: all imports, the latest first."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from importops.engine.progress import counts
from importops.management.outcome import status_body, was_replaced, write_json
from importops.models import ImportOperation

LINE = "{:<17}  {:<16}  {:<10}  {:<12}  {:>10}  {:>8}  {}"


class Command(BaseCommand):
    help = "List all imports, the latest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print a JSON array.")

    def handle(self, *, json: bool, **options: Any) -> None:
        operations = ImportOperation.objects.select_related("user").order_by("-ts", "-pk")
        if json:
            write_json(self.stdout, [status_body(operation) for operation in operations])
            return
        headings = ("id", "created", "state", "kind", "imported", "failed", "file")
        self.stdout.write(LINE.format(*headings))
        for operation in operations:
            self.stdout.write(line_of(operation))


def line_of(operation: ImportOperation) -> str:
    numbers = counts(operation).values()
    created = timezone.localtime(operation.ts)
    return LINE.format(
        operation.public_id,
        f"{created:%Y-%m-%d %H:%M}",
        state_of(operation),
        operation.type,
        f"{sum(n['created'] + n['updated'] for n in numbers):,}",
        f"{sum(n['failed'] for n in numbers):,}",
        operation.file,
    ).rstrip()


def state_of(operation: ImportOperation) -> str:
    """The state, and for a person what the wire has no word for."""
    if operation.rolled_back_at:
        return "taken back"
    return "replaced" if was_replaced(operation) else operation.state
