"""What a person may ask about accounts: a token, its end, and the first set-up."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from importops.conf import conf
from importops.errors import TokenExists, UserNotFound
from importops.models import ApiToken, User
from importops.records import fold
from importops.tokens import new_token


def find_user(name_or_id: str) -> User:
    """The user called `name_or_id`, in any case, or with that public id. Raises `UserNotFound`."""
    user = (
        User.objects.filter(username_key=fold(name_or_id)).first()
        or User.objects.filter(public_id=name_or_id).first()
    )
    if user is None:
        raise UserNotFound(f"There is no user {name_or_id}.")
    return user


def issue_token(
    user: User,
    name: str = "",
    kind: str = ApiToken.Kind.LOGIN,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """A new token for `user`: its row, and the text that can be shown this once.

    A `personal` token has a name of its own, and expires only if `expires_at` says so. Raises
    `TokenExists`.
    """
    text = new_token()
    if kind == ApiToken.Kind.LOGIN and expires_at is None:
        expires_at = timezone.now() + timedelta(days=conf().login_token_days)
    try:
        with transaction.atomic():
            token = ApiToken.objects.issue(user, text, name=name, kind=kind, expires_at=expires_at)
    except IntegrityError:
        raise TokenExists from None
    return token, text


def revoke_token(token: ApiToken) -> None:
    """End a token; it counts from the next request."""
    token.delete()


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The first administrator; secrets only where they were just made."""

    user: User
    token: str | None
    password: str | None
    created: bool


def bootstrap(username: str = "admin", password: str = "") -> Bootstrapped:
    """Make sure there is an administrator. Changes nothing when there is one already."""
    with transaction.atomic():
        existing = User.objects.filter(is_superuser=True).order_by("pk").first()
        if existing is not None:
            return Bootstrapped(existing, None, None, created=False)
        password = password or secrets.token_urlsafe(12)
        user = User.objects.create_superuser(username, password, name="Administrator")
        user.groups.add(Group.objects.get(name="admin"))
    _, text = issue_token(user, "bootstrap", ApiToken.Kind.PERSONAL)
    return Bootstrapped(user, text, password, created=True)
