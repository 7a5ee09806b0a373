"""`manage.py import_file`: the whole journey, from a file to its report, in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from importops.actions.operations import create_operation_from_path, start_operation
from importops.actions.previewing import preview_operation
from importops.importers.registry import IMPORTERS, guess_importer
from importops.management.arguments import (
    USAGE,
    acting_user,
    add_selection_arguments,
    refuse_unknown_ids,
    selection_of,
)
from importops.management.dry_run import DryRun
from importops.management.foreground import Foreground, refusals
from importops.management.outcome import (
    refuse_unless_well,
    result_body,
    write_json,
    write_summary,
)
from importops.models import Status


class Command(BaseCommand):
    help = "Import a workspace export, and report what became of every record."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "path",
            type=Path,
            help="The export; it is read where it lies, or copied to the storage of all machines.",
        )
        parser.add_argument(
            "--importer",
            choices=sorted(IMPORTERS),
            help="The kind of export; found out from the file if left out.",
        )
        parser.add_argument(
            "--source",
            default="",
            metavar="NAME",
            help="Keeps the ids of this workspace apart from others of the same kind.",
        )
        add_selection_arguments(parser)
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Show what would be created, updated, skipped and fail, and every problem; import "
            "nothing.",
        )
        parser.add_argument(
            "--user", default="", metavar="NAME", help="Who imports; else an administrator."
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="Print one JSON object at the end, and progress to stderr.",
        )

    def handle(self, *, path: Path, dry_run: bool, json: bool, **options: Any) -> None:
        refuse_unreadable(path)
        user = acting_user(options["user"])
        selection = selection_of(options)
        if "grantRoles" in selection and not user.is_superuser:
            raise CommandError(
                f"--grant-roles: {user.username} is not a superuser.", returncode=USAGE
            )
        with refusals(USAGE), path.open("rb") as file:
            key = options["importer"] or guess_importer(file, path.name)
        with refusals():
            operation = create_operation_from_path(
                user=user, importer_key=key, path=path, source=options["source"]
            )
        foreground = Foreground(self.stderr if json else self.stdout, self.stderr)
        began = monotonic()
        foreground.run(operation)
        prepared = monotonic() - began
        if operation.status == Status.USER_SELECTION:
            refuse_unknown_ids(operation, selection)
            with refusals():
                if dry_run:
                    preview_operation(operation, selection, user, queue=False)
                else:
                    start_operation(operation, selection, user, queue=False)
            foreground.run(operation)
        if dry_run and operation.status == Status.USER_SELECTION:
            told = DryRun(operation, selection, prepared)
            told.refuse_unless_done()
            told.write(self.stdout, as_json=json)
            told.refuse_unless_well()
            return
        if json:
            write_json(self.stdout, result_body(operation))
        else:
            write_summary(self.stdout, operation)
        refuse_unless_well(operation)


def refuse_unreadable(path: Path) -> None:
    """Say what to do about a path that cannot be an export. Raises `CommandError`."""
    if path.is_dir():
        problem = f"{path} is a directory. Zip it, or name the export file inside it."
    elif not path.exists():
        problem = f"There is no file {path}. Check its name, and where you are."
    elif not path.is_file():
        problem = f"{path} is not an ordinary file. Copy it to disk first."
    elif not os.access(path, os.R_OK):
        problem = f"You may not read {path}. Change its permissions or its owner."
    else:
        return
    raise CommandError(problem, returncode=USAGE)
