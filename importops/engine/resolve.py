"""Incoming users -> our accounts. Nothing here writes but `add_to_group`.

Who an incoming user is, in this order: the account that has the import id; the account that has one of
the e-mail addresses; the account with that username, if one side has no e-mail or the account is a
placeholder. Otherwise it is somebody new, under a free name.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import Group

from importops.models import (
    ApiToken,
    User,
    UserEmail,
    UserImportId,
)
from importops.records import NAME_LIMIT, SYSTEM_BOT, UserRecord, fold

IMPLIED_ROLES = ("user", "bot")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(slots=True)
class UserMatch:
    """What is to become of one incoming user."""

    record: UserRecord
    user: User | None = None
    """The account it is, None: a new one."""
    found_by: Literal["", "import-id", "email", "username"] = ""
    """What led to that account."""
    username: str = ""
    """The free name that a new account gets."""
    emails: list[str] = field(default_factory=list)
    """Addresses that no account has."""
    import_ids: list[str] = field(default_factory=list)
    """Import ids that no account has."""
    note: str = ""
    """What a person should know: a name that was taken, an address that belongs to another."""


class UserMatcher:
    """Matches a batch of users in a constant number of queries."""

    def __init__(self, source: str, records: Sequence[UserRecord]) -> None:
        self.by_import_id: dict[str, User] = {}
        self.by_email: dict[str, User] = {}
        self.by_username: dict[str, User] = {}
        self.addresses: dict[int, set[str]] = {}
        self.of_this_source: set[int] = set()
        self._names: set[str] = set()
        self._in_use: set[int] = set()
        self._load(source, records)

    def _load(self, source: str, records: Sequence[UserRecord]) -> None:
        self._find(source, records)
        self._complete(source)

    def _find(self, source: str, records: Sequence[UserRecord]) -> None:
        """The accounts that hold a key of `records`."""
        ids = {import_id for record in records for import_id in record.import_ids}
        emails = {fold(address) for record in records for address in record.emails}
        names = {fold(record.username) for record in records if record.username}
        self._names = names
        for known in UserImportId.objects.select_related("user").filter(
            source=source, import_id__in=ids
        ):
            self.by_import_id[known.import_id] = known.user
        for email in UserEmail.objects.select_related("user").filter(address_key__in=emails):
            self.by_email[email.address_key] = email.user
        for user in User.objects.filter(username_key__in=names):
            self.by_username[user.username_key] = user

    def _complete(self, source: str) -> None:
        """What deciding has to know of the accounts that were found."""
        users = {
            user.pk: user
            for known_users in (self.by_import_id, self.by_email, self.by_username)
            for user in known_users.values()
        }
        # One object an account, however it was found, so that changes to it are seen everywhere.
        for mapping in (self.by_import_id, self.by_email, self.by_username):
            mapping.update({key: users[user.pk] for key, user in mapping.items()})
        for email in UserEmail.objects.filter(user__in=users):
            self.addresses.setdefault(email.user_id, set()).add(email.address_key)
        for used in (
            ApiToken.objects.filter(user__in=users),
            User.user_permissions.through.objects.filter(user__in=users),
            User.groups.through.objects.filter(user__in=users).exclude(
                group__name__in=IMPLIED_ROLES
            ),
        ):
            self._in_use.update(used.values_list("user_id", flat=True))
        self.of_this_source = set(
            UserImportId.objects.filter(source=source, user__in=users).values_list(
                "user_id", flat=True
            )
        )

    def is_unused(self, user: User) -> bool:
        """Whether an import made this account and nobody has given it anything since: no password,
        login, token, right or role. Only then may an export change what it finds there."""
        return (
            user.operation_id is not None
            and user.last_login is None
            and not user.has_usable_password()
            and not (user.is_staff or user.is_superuser)
            and user.pk not in self._in_use
        )

    def free_names(self) -> FreeNames:
        """Names for the new users of this batch."""
        return FreeNames(self._names - self.by_username.keys())

    def match(self, record: UserRecord) -> UserMatch:
        """Decide about one record. The decision is taken as carried out for the records after it."""
        found = UserMatch(record)
        self._who(found)
        owner = found.user
        for address in record.emails:
            holder = self.by_email.get(fold(address))
            if holder is None:
                found.emails.append(address)
            elif owner is not None and holder is not owner:
                found.note = f"{address} belongs to {holder.username} and stays there"
        found.import_ids = [
            import_id for import_id in record.import_ids if import_id not in self.by_import_id
        ]
        return found

    def _who(self, match: UserMatch) -> None:
        record = match.record
        for import_id in record.import_ids:
            if (user := self.by_import_id.get(import_id)) is not None:
                match.user, match.found_by = user, "import-id"
                return
        for address in record.emails:
            if (user := self.by_email.get(fold(address))) is not None:
                match.user, match.found_by = user, "email"
                return
        if (user := self._by_name(record)) is not None:
            match.user, match.found_by = user, "username"

    def _by_name(self, record: UserRecord) -> User | None:
        user = self.by_username.get(fold(record.username)) if record.username else None
        if user is None or user.public_id == SYSTEM_BOT:
            return None
        if user.is_placeholder and user.pk not in self.of_this_source:
            return user
        # Somebody else of the same workspace already is this account.
        if user.pk in self.of_this_source:
            return None
        if record.emails and self.addresses.get(user.pk):
            return None
        return user

    def learn(self, match: UserMatch, user: User) -> None:
        """Take `user` as what `match` led to, for the records after it."""
        for import_id in match.import_ids:
            self.by_import_id[import_id] = user
        for address in match.emails:
            self.by_email[fold(address)] = user
            self.addresses.setdefault(user.pk, set()).add(fold(address))
        self.by_username[user.username_key] = user
        self.of_this_source.add(user.pk)


def suggest_username(record: UserRecord) -> str:
    """A name for a user whom the export gives none: from the address, else from the full name."""
    local = record.emails[0].partition("@")[0] if record.emails else ""
    return _NOT_IN_NAMES.sub(".", local or record.name).strip(".").lower()


def name_base(wanted: str) -> str:
    """`wanted` as a username, short enough for a number behind it."""
    return wanted.strip()[: NAME_LIMIT - 12] or "user"


class FreeNames:
    """Finds names that nobody has: `john`, else `john-1`, `john-2`, … in the order asked."""

    def __init__(self, known_free: Iterable[str] = (), given: set[str] | None = None) -> None:
        """`known_free` are folded names that were just looked up and not found, `given` those that
        are as good as taken; what is given from here on is added to it."""
        self._known_free = set(known_free)
        self._given: set[str] = set() if given is None else given

    def look_up(self, wanted: Iterable[str]) -> None:
        """Find out in one query which of `wanted` nobody has, before they are taken one by one."""
        keys = {fold(name_base(name)) for name in wanted}
        taken = User.objects.filter(username_key__in=keys).values_list("username_key", flat=True)
        self._known_free |= keys - set(taken)

    def take(self, wanted: str) -> str:
        base = name_base(wanted)
        key = fold(base)
        if self._is_free(key):
            return self._give(base)
        return self._numbered(base, key)

    def _numbered(self, base: str, key: str) -> str:
        taken = set(
            User.objects.filter(username_key__startswith=f"{key}-").values_list(
                "username_key", flat=True
            )
        )
        number = 1
        while f"{key}-{number}" in taken or f"{key}-{number}" in self._given:
            number += 1
        return self._give(f"{base}-{number}")

    def _is_free(self, key: str) -> bool:
        if key in self._given:
            return False
        return key in self._known_free or not User.objects.filter(username_key=key).exists()

    def _give(self, name: str) -> str:
        self._given.add(fold(name))
        return name


def unusable_password() -> str:
    """What `set_unusable_password` writes, without going through a hasher for each of 100,000 users."""
    return UNUSABLE_PASSWORD_PREFIX + secrets.token_hex(20)


def add_to_group(users: Sequence[User], name: str) -> None:
    """Give freshly created `users` the role `name`, in one statement."""
    if not users:
        return
    group = Group.objects.get(name=name)
    User.groups.through.objects.bulk_create(
        User.groups.through(user_id=user.pk, group_id=group.pk) for user in users
    )
