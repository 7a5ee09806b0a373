"""`manage.py merge_users`: two users found to be one."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from importops.actions.accounts import find_user
from importops.actions.undoing import merge_users, refuse_not_mergeable
from importops.engine.merging import Pair, is_unused, preview_merge
from importops.management.arguments import USAGE, acting_user
from importops.management.foreground import Foreground, refusals
from importops.management.outcome import (
    refuse_unless_well,
    result_body,
    write_json,
    write_summary,
)
from importops.models import User


class Command(BaseCommand):
    help = "Make two users one: what the first wrote and where it is a member becomes the second's."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("duplicate", help="The user that goes: a name or an id.")
        parser.add_argument("into", help="The user that stays.")
        parser.add_argument(
            "--force", action="store_true", help="Also if somebody has signed in to the first."
        )
        parser.add_argument(
            "--move-emails",
            action="store_true",
            help="Addresses too, although whoever reads them could then reset the password.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Count what would move, and change nothing."
        )
        parser.add_argument(
            "--user", default="", metavar="NAME", help="Who merges; else an administrator."
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="Print one JSON object at the end, and progress to stderr.",
        )

    def handle(self, *, duplicate: str, into: str, force: bool, json: bool, **options: Any) -> None:
        user = acting_user(options["user"])
        with refusals(USAGE):
            pair = Pair(find_user(duplicate), find_user(into))
            if options["dry_run"]:
                refuse_not_mergeable(*pair, user, force=force)
                self._preview(pair, user, as_json=json, move_emails=options["move_emails"])
                return
            operation = merge_users(
                *pair, user, force=force, move_emails=options["move_emails"], queue=False
            )
        Foreground(self.stderr if json else self.stdout, self.stderr).run(operation)
        if json:
            write_json(self.stdout, {**result_body(operation), "notes": operation.notes})
        else:
            write_summary(self.stdout, operation)
        refuse_unless_well(operation)

    def _preview(self, pair: Pair, user: User, *, as_json: bool, move_emails: bool) -> None:
        numbers = preview_merge(pair)
        moves = move_emails or is_unused(pair.into)
        if as_json:
            write_json(self.stdout, {**numbers, "movesEmails": moves})
            return
        for name, number in numbers.items():
            self.stdout.write(f"{name}: {number:,}")
        if numbers["emails"] and not moves:
            self.stdout.write("Addresses would stay where they are (--move-emails moves them).")
        self.stdout.write("Nothing was changed.")
