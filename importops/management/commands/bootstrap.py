"""`manage.py bootstrap`: everything a fresh installation needs, and nothing a second time."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, connection
from django.db.migrations.executor import MigrationExecutor

from importops.actions.accounts import Bootstrapped, bootstrap
from importops.management.alone import alone
from importops.management.arguments import USAGE

UNSHOWN_TOKEN = "YOUR-TOKEN"  # noqa: S105 - what stands in its place


class Command(BaseCommand):
    help = "Set up the database and the first administrator; safe to run again."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", default="admin", help="Of the first administrator.")
        parser.add_argument(
            "--password", default="", help="Of the first administrator; random if left out."
        )
        parser.add_argument(
            "--show-curl",
            type=int,
            metavar="PORT",
            help="Also print a curl line for a server on this port, ready to paste.",
        )

    def handle(
        self,
        *,
        username: str,
        password: str,
        show_curl: int | None,
        verbosity: int,
        **options: Any,
    ) -> None:
        if not username.strip():
            raise CommandError("--username must not be empty.", returncode=USAGE)
        with alone(lambda: self.stdout.write("Waiting for another bootstrap to end.")):
            self._make_tables(max(0, verbosity - 1))
            try:
                made = bootstrap(username, password)
            except IntegrityError:
                raise CommandError(
                    f"There is a user {username} who is not an administrator; choose another "
                    "--username.",
                    returncode=USAGE,
                ) from None
        if made.created:
            self._tell_secrets(made)
        else:
            self.stdout.write(f"Already set up; the administrator is {made.user.username}.")
            self.stdout.write(f"User id:  {made.user.public_id}")
            self.stdout.write(f"A token:  manage.py create_token {made.user.username} --name NAME")
        if show_curl is not None:
            self._show_curl(made, show_curl)

    def _make_tables(self, verbosity: int) -> None:
        # Asking costs a tenth of migrating nothing: a second start should be instant.
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", interactive=False, verbosity=verbosity, stdout=self.stdout)
        # The cache's table is no model's, so no migration makes it.
        call_command("createcachetable", verbosity=verbosity, stdout=self.stdout)

    def _tell_secrets(self, made: Bootstrapped) -> None:
        self.stdout.write("The first administrator. The secrets are shown this once:")
        self.stdout.write(f"Username: {made.user.username}")
        self.stdout.write(f"Password: {made.password}")
        self.stdout.write(f"User id:  {made.user.public_id}")
        self.stdout.write(f"Token:    {made.token}")

    def _show_curl(self, made: Bootstrapped, port: int) -> None:
        self.stdout.write("How the current import is going:")
        self.stdout.write(
            f"  curl -H 'X-User-Id: {made.user.public_id}' "
            f"-H 'X-Auth-Token: {made.token or UNSHOWN_TOKEN}' "
            f"http://localhost:{port}/api/v1/getCurrentImportOperation"
        )
