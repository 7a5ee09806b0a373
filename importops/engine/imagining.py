"""Accounts as they would be after the users of a dry run so far: keys, and no rows.

An account that would be made is known by a number below zero, so that rooms can be decided about as
if it were there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from importops.engine.importing_users import UserBatch
from importops.engine.resolve import FreeNames, UserMatcher, unusable_password
from importops.engine.stand_ins import UserDirectory
from importops.models import ImportOperation, StagedRecord, User
from importops.records import UserRecord, fold

FIRST_STAND_IN = -(10**12)


class ImaginedUsers:
    """What matching, and rooms, ask about accounts; `learn` after each batch of decisions."""

    def __init__(self, operation: ImportOperation) -> None:
        self.operation = operation
        self.here = UserDirectory(operation)
        self.by_import_id: dict[str, int] = {}
        self.by_email: dict[str, int] = {}
        self.names: set[str] = set()
        """Folded names that new accounts would get."""
        self.known: set[int] = set()
        """Accounts that are of this source by now."""
        self.renamed: dict[int, str] = {}
        self._stand_ins: dict[str, int] = {}
        self._bots: set[str] = set()

    def matcher(self, source: str, records: Sequence[UserRecord]) -> ImaginedMatcher:
        return ImaginedMatcher(source, records, self)

    def learn(self, batch: UserBatch) -> None:
        """Take what `batch` decided as carried out."""
        for row, match, user in batch.decided:
            if user.pk is None:
                user.pk = -row.pk
                if user.username != match.record.username:
                    self.renamed[user.pk] = user.username
            self.known.add(user.pk)
            for import_id in match.record.import_ids:
                if batch.matcher.by_import_id.get(import_id) is user:
                    self.by_import_id[import_id] = user.pk
            for address in match.emails:
                self.by_email[fold(address)] = user.pk

    def account(self, import_id: str) -> int | None:
        key = self.by_import_id.get(import_id)
        if key is None:
            key = self.here.account(import_id)
        return self._stand_ins.get(import_id) if key is None else key

    def is_real(self, import_id: str) -> bool:
        if import_id in self.by_import_id or self.here.is_real(import_id):
            return True
        return import_id in self._bots

    def let_in(self, members: Iterable[str]) -> None:
        """Imagine stand-ins for those of `members`, of direct rooms, who would have no account."""
        strangers = [item for item in dict.fromkeys(members) if self.account(item) is None]
        if not strangers:
            return
        staged = StagedRecord.objects.filter(operation=self.operation, import_id__in=strangers)
        bots = staged.exclude(kind=StagedRecord.Kind.ROOM).filter(data__type="bot")
        self._bots.update(bots.values_list("import_id", flat=True))
        for stranger in strangers:
            self._stand_ins[stranger] = FIRST_STAND_IN - len(self._stand_ins)


class ImaginedMatcher(UserMatcher):
    """Also finds accounts that batches before would have made or extended."""

    def __init__(self, source: str, records: Sequence[UserRecord], imagined: ImaginedUsers) -> None:
        self.imagined = imagined
        super().__init__(source, records)

    def free_names(self) -> FreeNames:
        return FreeNames(self._names - self.by_username.keys(), self.imagined.names)

    def _find(self, source: str, records: Sequence[UserRecord]) -> None:
        super()._find(source, records)
        ids, emails = self.imagined.by_import_id, self.imagined.by_email
        wanted_ids = {item: ids[item] for r in records for item in r.import_ids if item in ids}
        keys = {fold(address) for record in records for address in record.emails}
        wanted_emails = {key: emails[key] for key in keys if key in emails}
        users = self._users({*wanted_ids.values(), *wanted_emails.values()})
        self.by_import_id.update((item, users[pk]) for item, pk in wanted_ids.items())
        self.by_email.update((key, users[pk]) for key, pk in wanted_emails.items())

    def _users(self, keys: set[int]) -> dict[int, User]:
        users = User.objects.in_bulk([pk for pk in keys if pk > 0])
        rows = StagedRecord.objects.in_bulk([-pk for pk in keys if pk < 0])
        return users | {-pk: self._imagine(row) for pk, row in rows.items()}

    def _imagine(self, row: StagedRecord) -> User:
        record = msgspec.convert(row.data, UserRecord)
        username = self.imagined.renamed.get(-row.pk, record.username)
        return User(
            pk=-row.pk,
            username=username,
            username_key=fold(username),
            name=record.name or username,
            password=unusable_password(),
            operation=self.imagined.operation,
        )

    def _complete(self, source: str) -> None:
        super()._complete(source)
        for users in (self.by_import_id, self.by_email, self.by_username):
            found = {user.pk for user in users.values()}
            self.of_this_source |= found & self.imagined.known
