"""Undo, the last phase: users that the import created, and ids and addresses that it added to others.

A user goes only when nothing refers to him any more and nobody has used or edited the account. Who still
wrote messages is found in one pass over all of them, since a look-up for each user would be such a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from time import monotonic

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import F, Max, Q, QuerySet

from importops.conf import conf
from importops.engine.contents import Content, Contents
from importops.engine.progress import sum_tallies
from importops.engine.references import references_to_users, users_referred_to
from importops.engine.resolve import IMPLIED_ROLES
from importops.engine.slices import Batch, Work
from importops.engine.undo_report import GONE, kept
from importops.engine.undoing import delete_rows, later_than, target_of
from importops.models import (
    ApiToken,
    ImportOperation,
    Membership,
    Message,
    Room,
    User,
    UserEmail,
    UserImportId,
)

USERS_AT_ONCE = 250
MESSAGES_AT_ONCE = 20_000
EDITED_AFTER = timedelta(minutes=1)
"""A batch of new accounts is decided first and written at its end, so their two times differ a little."""

MADE, ADDED_TO, COUNTED = 0, 1, 2


def undo_users(work: Work) -> None:
    """Cursor: which of the steps, the last user dealt with, contents to be deleted."""
    target = target_of(work)
    step, last, waiting = work.cursor or [MADE, 0, []]
    if step == COUNTED:
        return
    contents = Contents(waiting)
    writers = Writers(work, target)
    if step == MADE:
        last = _undo_made(work, target, writers, contents, last)
        step, last = ADDED_TO, 0
    contents.finish(work, [step, last])
    _undo_added(work, target, writers, last)
    with work.batch() as batch:
        batch.cursor = [COUNTED, 0, []]
        _count_what_was_gone(work, batch)


class Writers:
    """Who wrote messages that are left: found in one pass, in flat steps, before anything is written."""

    def __init__(self, work: Work, target: ImportOperation) -> None:
        self.any: set[int] = set()
        self.later: set[int] = set()
        """Those whom a later import of the same source took for the author of a message."""
        wanted = set(User.objects.filter(operation=target).values_list("pk", flat=True))
        wanted.update(
            UserImportId.objects.filter(operation=target).values_list("user_id", flat=True)
        )
        later = set(later_than(target))
        for author, operation in self._pairs(work):
            if author in wanted:
                self.any.add(author)
                if operation in later:
                    self.later.add(author)

    def _pairs(self, work: Work) -> Iterable[tuple[int, int | None]]:
        top = Message.objects.aggregate(top=Max("pk"))["top"] or 0
        told = monotonic()
        for low in range(0, top, MESSAGES_AT_ONCE):
            some = Message.objects.filter(pk__gt=low, pk__lte=low + MESSAGES_AT_ONCE)
            yield from some.values_list("author_id", "operation_id").distinct()
            if monotonic() - told > conf().refresh_seconds:
                with work.batch():
                    pass  # keeps the lease, and hears of a cancel
                told = monotonic()


def _undo_made(
    work: Work, target: ImportOperation, writers: Writers, contents: Contents, last: int
) -> int:
    made = User.objects.filter(operation=target).order_by("pk")
    while keys := list(made.filter(pk__gt=last).values_list("pk", flat=True)[:USERS_AT_ONCE]):
        contents.delete_waiting(work)
        last = keys[-1]
        with work.batch() as batch:
            contents.settle(batch)
            # Locked, so that nobody signs in between the look and the removal.
            users = list(User.objects.select_for_update().filter(pk__in=keys).order_by("pk"))
            UserUndo(users, target, writers).carry_out(batch, contents)
            batch.cursor = [MADE, last, contents.cursor()]
        contents.committed()
    return last


class UserUndo:
    """Some users that the import created; `carry_out` runs inside the batch's transaction."""

    def __init__(self, users: list[User], target: ImportOperation, writers: Writers) -> None:
        self.users = {user.pk: user for user in users}
        self.target = target
        self.writers = writers
        self.reasons = self._reasons()

    def carry_out(self, batch: Batch, contents: Contents) -> None:
        going = self.users.keys() - self.reasons.keys()
        for pk, code in self.reasons.items():
            batch.add(f"users.skipped.{code}")
            batch.failures.append(kept("user", f"user {self.users[pk].username}", code))
        self._remove(going, batch)
        # Who stays is to be found again by the next import.
        for name, model in (("import_ids", UserImportId), ("emails", UserEmail)):
            rows = model._default_manager.filter(user__in=self.reasons, operation=self.target)
            batch.add(f"{name}.kept", rows.count())
        with_avatar = [self.users[pk] for pk in sorted(going) if self.users[pk].avatar]
        for user in with_avatar:
            place = f"avatar of {user.username}"
            contents.add(Content("user", "users", place, str(user.avatar.name)))
        batch.add("users.removed", len(going) - len(with_avatar))

    def _remove(self, users: set[int], batch: Batch) -> None:
        of_users = {"user__in": users}
        batch.add("import_ids.removed", delete_rows(UserImportId.objects.filter(**of_users)))
        batch.add("emails.removed", delete_rows(UserEmail.objects.filter(**of_users)))
        delete_rows(User.groups.through.objects.filter(**of_users))
        delete_rows(User.objects.filter(pk__in=users))

    def _reasons(self) -> dict[int, str]:
        """Why users stay: the first that holds, those first that tell a person most."""
        reasons: dict[int, str] = {}
        for code, find in self._checks().items():
            left = self.users.keys() - reasons.keys()
            reasons.update(dict.fromkeys(sorted(find(left)), code))
        return reasons

    def _checks(self) -> dict[str, Callable[[set[int]], set[int]]]:
        def having(rows: QuerySet[User]) -> Callable[[set[int]], set[int]]:
            return lambda users: set(rows.filter(pk__in=users).values_list("pk", flat=True))

        users = User.objects.all()
        not_ours = ~Q(operation=self.target)
        return {
            "kept-signed-in": lambda keys: (
                having(users.filter(last_login__isnull=False))(keys)
                | users_referred_to(LogEntry, "user", keys)
            ),
            "kept-has-password": lambda keys: {
                pk for pk in keys if self.users[pk].has_usable_password()
            },
            "kept-has-token": lambda keys: users_referred_to(ApiToken, "user", keys),
            "kept-has-rights": self._having_rights,
            "kept-edited": self._edited,
            "kept-wrote-messages": lambda keys: keys & self.writers.any,
            "kept-is-member": lambda keys: users_referred_to(Membership, "user", keys),
            "kept-created-rooms": lambda keys: users_referred_to(Room, "creator", keys),
            "kept-ran-imports": lambda keys: users_referred_to(ImportOperation, "user", keys),
            "kept-user-known-elsewhere": lambda keys: {
                pk
                for model in (UserImportId, UserEmail)
                for pk in model._default_manager.filter(not_ours, user__in=keys).values_list(
                    "user_id", flat=True
                )
            },
            "kept-referred-to": self._referred_to,
        }

    def _having_rights(self, users: set[int]) -> set[int]:
        groups = User.groups.through.objects.filter(user__in=users)
        return (
            {pk for pk in users if self.users[pk].is_staff or self.users[pk].is_superuser}
            | users_referred_to(User.user_permissions.through, "user", users)
            | set(groups.exclude(group__name__in=IMPLIED_ROLES).values_list("user_id", flat=True))
        )

    def _edited(self, users: set[int]) -> set[int]:
        logged = LogEntry.objects.filter(
            content_type=ContentType.objects.get_for_model(User),
            object_id__in=[str(pk) for pk in users],
        )
        changed = User.objects.filter(pk__in=users, updated_at__gt=F("created_at") + EDITED_AFTER)
        return {int(pk) for pk in logged.values_list("object_id", flat=True) if pk} | set(
            changed.values_list("pk", flat=True)
        )

    def _referred_to(self, users: set[int]) -> set[int]:
        """By any table that was not asked yet, also of other apps."""
        going_too = (UserImportId, UserEmail, User.groups.through)
        return {
            pk
            for model, column in references_to_users()
            if model not in going_too
            for pk in users_referred_to(model, column, users)
        }


def _undo_added(work: Work, target: ImportOperation, writers: Writers, last: int) -> None:
    """Import ids and addresses that the import gave to accounts that were there before."""
    ids = UserImportId.objects.filter(operation=target).exclude(user__operation=target)
    emails = UserEmail.objects.filter(operation=target).exclude(user__operation=target)
    while True:
        users = sorted(
            {
                user
                for rows in (ids, emails)
                for user in rows.filter(user__gt=last)
                .order_by("user_id")
                .values_list("user_id", flat=True)[:USERS_AT_ONCE]
            }
        )[:USERS_AT_ONCE]
        if not users:
            return
        last = users[-1]
        with work.batch() as batch:
            batch.cursor = [ADDED_TO, last, []]
            _take_ids(ids.filter(user__in=users), writers, batch)
            _take_emails(emails.filter(user__in=users), batch)


def _take_ids(ids: QuerySet[UserImportId], writers: Writers, batch: Batch) -> None:
    in_use = [user for user in ids.values_list("user_id", flat=True) if user in writers.later]
    batch.add("import_ids.removed", delete_rows(ids.exclude(user__in=in_use)))
    for known in ids.filter(user__in=in_use).select_related("user"):
        batch.add("import_ids.kept")
        place = f"import id {known.import_id} of {known.user.username}"
        batch.failures.append(kept("user", place, "kept-import-id-in-use", known.import_id))


def _take_emails(emails: QuerySet[UserEmail], batch: Batch) -> None:
    in_use = [
        email.pk
        for email in emails.select_related("user")
        if email.verified or email.user.last_login or email.user.has_usable_password()
    ]
    batch.add("emails.removed", delete_rows(emails.exclude(pk__in=in_use)))
    for email in emails.filter(pk__in=in_use).select_related("user"):
        batch.add("emails.kept")
        place = f"address {email.address} of {email.user.username}"
        batch.failures.append(kept("user", place, "kept-address-in-use"))


def _count_what_was_gone(work: Work, batch: Batch) -> None:
    """What somebody else had removed before counts too, or the sums would not reach their totals."""
    operation = ImportOperation.objects.get(pk=work.operation.pk)
    tally = sum_tallies(operation.base_tally, operation.slices.all())
    for kind in ("users", "channels", "messages", "files"):
        dealt_with = tally[f"{kind}.removed"] + tally[f"{kind}.failed"]
        dealt_with += sum(
            number for key, number in tally.items() if key.startswith(f"{kind}.skipped.")
        )
        missing = tally[f"{kind}.total"] - dealt_with
        if missing > 0:
            batch.add(f"{kind}.skipped.{GONE}", missing)
        elif missing < 0:
            batch.add(f"{kind}.total", -missing)
