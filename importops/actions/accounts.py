"""What a person may ask about accounts: a token, its end, and the first set-up."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import Case, Q, QuerySet, When
from django.db.models.expressions import OrderBy
from django.utils import timezone

from importops.conf import conf
from importops.errors import TokenExists, TokenNotFound, UserNotFound
from importops.models import ApiToken, User
from importops.records import fold
from importops.tokens import new_token

API_SOURCE = "api"
"""The namespace of import ids that came through `import.addUsers`."""


def find_user(name_or_id: str) -> User:
    """The user called `name_or_id`, in any case, or with that public id. Raises `UserNotFound`."""
    user = (
        User.objects.filter(username_key=fold(name_or_id)).first()
        or User.objects.filter(public_id=name_or_id).first()
    )
    if user is None:
        raise UserNotFound(f"There is no user {name_or_id}.")
    return user


def account_of(user: User) -> User:
    """All of `user`, with addresses and roles; authentication reads the least it can."""
    return User.objects.prefetch_related("emails", "groups").get(pk=user.pk)


def look_up_user(reader: User, key: str, value: str) -> User:
    """The user whose `key` is `value`, as far as `reader` may look people up. Raises `UserNotFound`.

    `userId` may be a username too. Import ids and addresses of others are for those who may see
    everything about them.
    """
    users = User.objects.prefetch_related("emails", "groups")
    if key in ("importId", "email") and not reader.can_view_all_user_info:
        users = users.filter(pk=reader.pk)
    found = _found_by(users, key, value).first()
    if found is None:
        raise UserNotFound
    return found


def _found_by(users: QuerySet[User], key: str, value: str) -> QuerySet[User]:
    """Users by that key, the one who is meant first."""
    if key == "userId":
        meant = Q(public_id=value)
        return users.filter(meant | Q(username_key=fold(value))).order_by(_first(meant))
    if key == "username":
        return users.filter(username_key=fold(value))
    if key == "email":
        return users.filter(emails__address_key=fold(value))
    if key == "importId":
        # Several workspaces may have used the same id; what came through the API goes first.
        of_api = Q(import_ids__source=API_SOURCE)
        found = users.filter(import_ids__import_id=value)
        return found.order_by(_first(of_api), "import_ids__pk")
    return users.none()


def _first(condition: Q) -> OrderBy:
    return Case(When(condition, then=0), default=1).asc()


def issue_token(
    user: User,
    name: str = "",
    kind: str = ApiToken.Kind.LOGIN,
    expires_at: datetime | None = None,
    bypass_two_factor: bool = False,
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
            token = ApiToken.objects.issue(
                user,
                text,
                name=name,
                kind=kind,
                expires_at=expires_at,
                bypass_two_factor=bypass_two_factor,
            )
    except IntegrityError:
        raise TokenExists from None
    return token, text


def regenerate_personal_token(user: User, name: str) -> str:
    """A new text for the personal token of that name; the old one ends. Raises `TokenNotFound`."""
    text = new_token()
    if not ApiToken.objects.personal(user).filter(name=name).replace_text(text):
        raise TokenNotFound
    return text


def remove_personal_token(user: User, name: str) -> None:
    """End the personal token of that name. Raises `TokenNotFound`."""
    removed, _ = ApiToken.objects.personal(user).filter(name=name).delete()
    if not removed:
        raise TokenNotFound


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
