"""Whom messages speak of, and the accounts that stand for authors who have none.

What stand-ins are called is decided once, before any is made, so that nothing depends on which of
several workers meets whom first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from django.db import connection
from django.db.models import QuerySet

from importops.engine.resolve import FreeNames, add_to_group, unusable_password
from importops.engine.slices import Batch
from importops.models import ImportOperation, StagedRecord, User, UserImportId
from importops.records import NAME_LIMIT, SYSTEM_BOT, fold

LOOK_UP_AT_ONCE = 500
STAND_INS_LOCK = 0x1A9
"""Ours among the advisory locks of a PostgreSQL database, with the operation's key beside it."""


class UserDirectory(Mapping[str, str]):
    """Import id -> username, and -> our key, for everyone the messages of an operation speak of.

    As a mapping it gives usernames: of the account here, else of the export (for members who were
    not imported, so that a mention of them can still be read).
    """

    def __init__(self, operation: ImportOperation) -> None:
        self.operation = operation
        self._keys: dict[str, int] = {}
        self._names: dict[str, str] = {}
        bot = User.objects.get(public_id=SYSTEM_BOT)
        self._keys[SYSTEM_BOT], self._names[SYSTEM_BOT] = bot.pk, bot.username
        self._placeholders: set[str] = set()
        self._take(UserImportId.objects.filter(source=operation.source))
        self._hints = {
            import_id: stand_in or username or stand_in_name(import_id)
            for import_id, stand_in, username in without_account(operation)
            .values_list("import_id", "stand_in", "data__username")
            .iterator(chunk_size=2000)
        }

    def __getitem__(self, import_id: str) -> str:
        name = self._names.get(import_id) or self._hints.get(import_id)
        if not name:
            raise KeyError(import_id)
        return name

    def get(self, import_id: str, default: str | None = None) -> str | None:  # type: ignore[override]
        # Written out because it is asked for every mention: no exception on a miss.
        return self._names.get(import_id) or self._hints.get(import_id) or default

    def __iter__(self) -> Iterator[str]:
        return iter({**self._hints, **self._names})

    def __len__(self) -> int:
        return len(self._hints.keys() | self._names.keys())

    def account(self, import_id: str) -> int | None:
        """Our key of a user, if there is an account."""
        return self._keys.get(import_id)

    @property
    def keys_by_id(self) -> Mapping[str, int]:
        return self._keys

    def missing(self, import_ids: Iterable[str]) -> list[str]:
        """Those of `import_ids` who have no account here, after a look at the database."""
        unknown = [item for item in import_ids if item not in self._keys]
        for start in range(0, len(unknown), LOOK_UP_AT_ONCE):
            self._look_up(unknown[start : start + LOOK_UP_AT_ONCE])
        return [item for item in unknown if item not in self._keys]

    def _look_up(self, import_ids: list[str]) -> None:
        self._take(
            UserImportId.objects.filter(source=self.operation.source, import_id__in=import_ids)
        )

    def _take(self, known: QuerySet[UserImportId]) -> None:
        rows = known.values_list("import_id", "user_id", "user__username", "user__is_placeholder")
        for import_id, key, username, is_placeholder in rows.iterator(chunk_size=2000):
            self._keys[import_id], self._names[import_id] = key, username
            if is_placeholder:
                self._placeholders.add(import_id)

    def is_real(self, import_id: str) -> bool:
        """Whether there is an account that is not a mere stand-in for an author."""
        return import_id in self._keys and import_id not in self._placeholders

    def make_stand_ins(self, import_ids: Sequence[str], batch: Batch) -> None:
        """Accounts for authors who have none: placeholders, and bots for bots.

        What is known of them is what the export said. Runs in a transaction, one worker at a time: who
        has been let in by another one in the meantime is left alone. Call `missing` again afterwards.
        """
        take_turns(self.operation)
        strangers = self.missing(import_ids)
        staged = {row.import_id: row for row in self._staged(strangers)}
        names = FreeNames()
        users = []
        for import_id in strangers:
            row = staged.get(import_id)
            data = row.data if row else {}
            is_bot = data.get("type") == "bot"
            wanted = (row.stand_in if row else "") or data.get("username")
            username = names.take(wanted or stand_in_name(import_id))
            users.append(
                User(
                    username=username,
                    username_key=fold(username),
                    name=(data.get("name") or "")[:NAME_LIMIT],
                    type=User.Type.BOT if is_bot else User.Type.USER,
                    password=unusable_password(),
                    is_active=is_bot,
                    is_placeholder=not is_bot,
                    operation=self.operation,
                )
            )
            batch.add("bots" if is_bot else "placeholders")
        User.objects.bulk_create(users)
        UserImportId.objects.bulk_create(
            UserImportId(
                user=user,
                source=self.operation.source,
                import_id=import_id,
                operation=self.operation,
            )
            for user, import_id in zip(users, strangers, strict=True)
        )
        bots = [user for user in users if user.type == User.Type.BOT]
        add_to_group(bots, "bot")

    def _staged(self, import_ids: Sequence[str]) -> QuerySet[StagedRecord]:
        return without_account(self.operation).filter(import_id__in=import_ids)


def stand_in_name(import_id: str) -> str:
    """What somebody is called of whom no name is known."""
    return import_id.removeprefix("bot:")


def without_account(operation: ImportOperation) -> QuerySet[StagedRecord]:
    """Members and authors of the export who have no account here."""
    known = UserImportId.objects.filter(source=operation.source)
    return (
        StagedRecord.objects.filter(operation=operation)
        .exclude(kind=StagedRecord.Kind.ROOM)
        .exclude(import_id__in=known.values("import_id"))
    )


def named_stand_ins(operation: ImportOperation) -> Iterator[list[StagedRecord]]:
    """Those without an account who cannot be called what the export calls them, with `stand_in` set.

    Decided before rooms and messages are imported, in the order of import ids: so no name depends on
    which worker meets whom first, and a mention reads the same before its author is let in and after.
    """
    names = FreeNames()
    last = ""
    while rows := list(
        without_account(operation)
        .filter(import_id__gt=last)
        .order_by("import_id")
        .only("import_id", "data", "stand_in")[:LOOK_UP_AT_ONCE]
    ):
        last = rows[-1].import_id
        wanted = [row.data.get("username") or stand_in_name(row.import_id) for row in rows]
        names.look_up(wanted)
        for row, name in zip(rows, wanted, strict=True):
            row.stand_in = names.take(name)
        yield [row for row, name in zip(rows, wanted, strict=True) if row.stand_in != name]


def take_turns(operation: ImportOperation) -> None:
    """Make other workers of `operation` wait here until this transaction ends. (SQLite has one writer.)"""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(%s, %s)", [STAND_INS_LOCK, operation.pk % 2**31]
            )
