"""Signing in with a password, or again with a token; and saying the password once more.

Nothing here tells a stranger who has an account: whatever is wrong (no such name, no password set,
an inactive account, a wrong password) is the same error after the same work.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import update_last_login
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.http import HttpRequest
from django.utils import timezone

from importops.actions.accounts import issue_token
from importops.clients import attempted_name, client_address
from importops.errors import LoginLocked, WrongCredentials
from importops.hashers import DigestArgon2PasswordHasher, password_digest
from importops.models import ApiToken, User
from importops.records import fold
from importops.tokens import new_token

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoggedIn:
    user: User
    token: str


def log_in(
    attempt: HttpRequest,
    *,
    username: str = "",
    email: str = "",
    digest: str = "",
    password: str = "",
) -> LoggedIn:
    """A new login token for the active user of that name, or that address, and that password.

    `digest` is the hex SHA-256 that clients may send in place of the password. `attempt` tells the
    throttle where this comes from. Raises `WrongCredentials`, `LoginLocked`.
    """
    found = (
        User.objects.filter(username_key=fold(username))
        if username
        else User.objects.filter(emails__address_key=fold(email))
    )
    user = _require_password(
        attempt, username or email, found.first(), digest or password_digest(password)
    )
    # Writes `last_login`, and makes the throttle forget what this user got wrong before.
    user_logged_in.send(sender=User, request=attempt, user=user)
    if not username:
        _forget_failures(attempt, email)
    user.tokens.filter(expires_at__lte=timezone.now()).delete()
    logger.info("%s logged in from %s", user.public_id, client_address(attempt))
    return LoggedIn(user, issue_token(user)[1])


def resume(token: str) -> LoggedIn:
    """The user whom `token` stands for, as if just logged in. Raises `WrongCredentials`."""
    found = ApiToken.objects.usable().with_text(token).select_related("user").first()
    if found is None:
        raise WrongCredentials
    update_last_login(User, found.user)
    return LoggedIn(found.user, token)


def confirm_password(attempt: HttpRequest, user: User, digest: str) -> None:
    """Make sure that whoever has `user`'s token knows the password too.

    Wrong ones count as failed logins do. Raises `WrongCredentials`, `LoginLocked`.
    """
    _require_password(attempt, user.username, user, digest)


def seconds_locked(attempt: HttpRequest, name: str) -> int:
    """How long the login throttle will still refuse `name` from there."""
    latest = (
        AccessAttempt.objects.filter(
            username=attempted_name(attempt, {"username": name}), ip_address=client_address(attempt)
        )
        .order_by("-attempt_time")
        .first()
    )
    locked: timedelta = settings.AXES_COOLOFF_TIME
    left = latest.attempt_time + locked - timezone.now() if latest else locked
    return max(1, math.ceil(left.total_seconds()))


def _require_password(attempt: HttpRequest, name: str, user: User | None, digest: str) -> User:
    credentials = {"username": name}
    if not AxesProxyHandler.is_allowed(attempt, credentials):
        raise LoginLocked(seconds_locked(attempt, name))
    if not _has_password(user, digest) or user is None or not user.is_active:
        user_login_failed.send(sender=__name__, credentials=credentials, request=attempt)
        raise WrongCredentials
    return user


def _has_password(user: User | None, digest: str) -> bool:
    """Whether `digest` is that of `user`'s password. Takes as long when there is no such user."""
    hasher = DigestArgon2PasswordHasher()
    nobodys = _nobodys_password()
    known = user is not None and user.has_usable_password()
    encoded = user.password if user is not None and known else nobodys
    return hasher.verify_digest(digest, encoded) and known


@lru_cache
def _nobodys_password() -> str:
    """A hash that costs what every other one costs, and that nothing opens."""
    return make_password(new_token())


def _forget_failures(attempt: HttpRequest, name: str) -> None:
    """Those counted under `name`, which is not the username."""
    address = client_address(attempt)
    typed = attempted_name(attempt, {"username": name})
    AccessAttempt.objects.filter(username=typed, ip_address=address).delete()
