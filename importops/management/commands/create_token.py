"""`manage.py create_token`: the two headers that a REST client needs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from importops.actions.accounts import find_user, issue_token
from importops.management.arguments import USAGE
from importops.management.foreground import refusals
from importops.models import ApiToken


class Command(BaseCommand):
    help = "Issue an API token and print the two headers that carry it, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="Whom the token stands for.")
        parser.add_argument(
            "--name",
            default="",
            help="Makes it a personal access token, which does not expire; without a name it "
            "is a login token, which does.",
        )

    def handle(self, *, username: str, name: str, **options: Any) -> None:
        with refusals(USAGE):
            user = find_user(username)
        if not user.is_active:
            raise CommandError(
                f"{user.username} is not active, so a token would not be accepted.",
                returncode=USAGE,
            )
        kind = ApiToken.Kind.PERSONAL if name else ApiToken.Kind.LOGIN
        with refusals():
            _, text = issue_token(user, name, kind=kind)
        self.stdout.write(f"X-User-Id: {user.public_id}")
        self.stdout.write(f"X-Auth-Token: {text}")
