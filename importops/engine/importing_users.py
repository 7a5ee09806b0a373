"""Users: staged records -> accounts. Deciding (`resolve.py`) comes first, writing after.

An account that no import created is never renamed, re-mailed, re-roled, (de)activated or given a
password: it gains import ids, and profile fields that are empty are filled. An account that an import
created follows the export only while nobody has put it to use (`UserMatcher.is_unused`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from django.contrib.auth.models import Group

from importops.engine.resolve import (
    IMPLIED_ROLES,
    UserMatch,
    UserMatcher,
    add_to_group,
    suggest_username,
    unusable_password,
)
from importops.engine.slices import Batch, Work
from importops.engine.stand_ins import named_stand_ins
from importops.models import (
    ImportOperation,
    StagedRecord,
    User,
    UserEmail,
    UserImportId,
)
from importops.records import NAME_LIMIT, BadRecord, UserRecord, fold

USERS_AT_ONCE = 250
PROFILE = ("name", "bio", "status_text", "utc_offset", "pending_avatar_url")


def import_users(work: Work) -> None:
    """Write the staged users. Its cursor is the last staged record dealt with."""
    last = work.cursor[0] if work.cursor else 0
    while True:
        staged = list(
            StagedRecord.objects.users()
            .selected()
            .filter(operation=work.operation, pk__gt=last)
            .order_by("pk")[:USERS_AT_ONCE]
        )
        if not staged:
            break
        last = staged[-1].pk
        with work.batch() as batch:
            batch.cursor = [last]
            users = UserBatch(work.operation, staged, batch)
            users.decide()
            users.write()
    for renamed in named_stand_ins(work.operation):
        with work.batch():
            StagedRecord.objects.bulk_update(renamed, ["stand_in"], batch_size=100)


class UserBatch:
    """Some staged users on their way into accounts: `decide`, which only reads, then `write`."""

    def __init__(
        self,
        operation: ImportOperation,
        staged: Sequence[StagedRecord],
        batch: Batch,
        matcher_class: Callable[[str, Sequence[UserRecord]], UserMatcher] = UserMatcher,
    ) -> None:
        self.operation = operation
        self.staged = staged
        self.batch = batch
        self.records = [msgspec.convert(row.data, UserRecord) for row in staged]
        self.matcher = matcher_class(operation.source, self.records)
        self.names = self.matcher.free_names()
        self.decided: list[tuple[StagedRecord, UserMatch, User]] = []
        self.created: list[User] = []
        self.changed: dict[int, User] = {}
        self.emails: list[UserEmail] = []
        self.import_ids: list[UserImportId] = []
        self.roles: dict[str, list[User]] = {}

    def decide(self) -> None:
        """What is to become of each; counted in the batch, and set on the staged rows in memory."""
        for row, record in zip(self.staged, self.records, strict=True):
            self._take(row, record)

    def write(self) -> None:
        """Carry out what was decided, in the batch's transaction."""
        User.objects.bulk_create(self.created)
        User.objects.bulk_update(
            self.changed.values(),
            [*PROFILE, "username", "username_key", "type", "is_active", "is_placeholder"],
            batch_size=100,
        )
        UserEmail.objects.bulk_create(self.emails)
        UserImportId.objects.bulk_create(self.import_ids)
        for role, users in self.roles.items():
            add_to_group(users, role)
        StagedRecord.objects.settle(self.staged)

    def _take(self, row: StagedRecord, record: UserRecord) -> None:
        if not record.username and not record.emails and not record.name:
            row.status = StagedRecord.Status.FAILED
            self.batch.fail(
                BadRecord(
                    kind="user",
                    place=record.place,
                    code="importer-user-missing-email-and-username",
                    message="The user has neither a username nor an e-mail address.",
                    import_id=row.import_id,
                    raw=msgspec.json.encode(row.data).decode(),
                )
            )
            return
        match = self.matcher.match(record)
        if match.user is None:
            outcome = StagedRecord.Status.CREATED
            user = self._create(match)
        else:
            user = match.user
            changed = self._update(user, match)
            outcome = StagedRecord.Status.UPDATED if changed else StagedRecord.Status.SKIPPED
        self._attach(user, match)
        row.status, row.note = outcome, match.note[:NAME_LIMIT]
        self.batch.add(
            "users.skipped.unchanged"
            if outcome == StagedRecord.Status.SKIPPED
            else f"users.{outcome.value}"
        )
        # A batch is decided in memory and written at its end, so a new account has no key yet.
        self.matcher.learn(match, user)
        self.decided.append((row, match, user))

    def _create(self, match: UserMatch) -> User:
        record = match.record
        wanted = record.username or suggest_username(record)
        username = self.names.take(wanted)
        if username != wanted.strip():
            match.note = f"named {username}: {wanted} is taken"
        user = User(
            username=username,
            username_key=fold(username),
            name=(record.name or username)[:NAME_LIMIT],
            bio=record.bio,
            status_text=record.status_text[:NAME_LIMIT],
            utc_offset=record.utc_offset,
            type=record.type,
            pending_avatar_url=record.avatar_url,
            is_active=not record.deleted,
            password=unusable_password(),
            operation=self.operation,
        )
        self.created.append(user)
        role = "bot" if record.type == "bot" else "user"
        self.roles.setdefault(role, []).append(user)
        self._grant(user, match)
        return user

    def _grant(self, user: User, match: UserMatch) -> None:
        asked = sorted(set(match.record.roles).difference(IMPLIED_ROLES))
        if not asked:
            return
        allowed = self.operation.selection.get("grantRoles") is True
        known = set(Group.objects.filter(name__in=asked).values_list("name", flat=True))
        for role in asked:
            if allowed and role in known:
                self.roles.setdefault(role, []).append(user)
        refused = [role for role in asked if not allowed or role not in known]
        if refused:
            refusal = f"roles not granted: {', '.join(refused)}"
            match.note = f"{match.note}; {refusal}" if match.note else refusal

    def _update(self, user: User, match: UserMatch) -> bool:
        record = match.record
        before = [getattr(user, field) for field in (*PROFILE, "is_active")]
        if user.is_placeholder:
            self._become_real(user, match)
        follows = self.matcher.is_unused(user)
        for field, value in (
            ("name", record.name[:NAME_LIMIT]),
            ("bio", record.bio),
            ("status_text", record.status_text[:NAME_LIMIT]),
            ("utc_offset", record.utc_offset),
            ("pending_avatar_url", "" if user.avatar else record.avatar_url),
        ):
            is_empty = getattr(user, field) in ("", None)
            if value not in ("", None) and (follows or is_empty):
                setattr(user, field, value)
        if follows and record.deleted:
            # Never the reverse: whoever was shut out here stays out.
            user.is_active = False
        if not follows:
            # An added address would let whoever reads it reset the password.
            match.emails.clear()
        changed = before != [getattr(user, field) for field in (*PROFILE, "is_active")]
        if changed and user.pk is not None:
            self.changed[user.pk] = user
        return changed or bool(match.emails or match.import_ids)

    def _become_real(self, user: User, match: UserMatch) -> None:
        """A later import brings the person whom a placeholder stood for."""
        record = match.record
        wanted = record.username or suggest_username(record)
        if fold(wanted) != user.username_key:
            user.username = self.names.take(wanted)
            user.username_key = fold(user.username)
        user.type = record.type
        user.is_placeholder = False
        user.is_active = not record.deleted
        self.roles.setdefault("bot" if record.type == "bot" else "user", []).append(user)
        match.note = "was a placeholder"
        self.changed[user.pk] = user

    def _attach(self, user: User, match: UserMatch) -> None:
        seen = set()
        for address in match.emails:
            if (key := fold(address)) in seen:
                continue
            seen.add(key)
            self.emails.append(
                UserEmail(
                    user=user,
                    address=address,
                    address_key=key,
                    operation=self.operation,
                )
            )
        self.import_ids += [
            UserImportId(
                user=user,
                source=self.operation.source,
                import_id=import_id,
                operation=self.operation,
            )
            for import_id in dict.fromkeys(match.import_ids)
        ]
