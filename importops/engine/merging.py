"""Two users found to be one: what is the duplicate's becomes the other's, in slices and batches.

Messages first, room by room (there is no index by author): authorship, and the name in what others said.
Then, in one slice, rooms (`merging_rooms.py`), ids, addresses, and the account itself. Every step takes what
is left to move, so that it may be interrupted anywhere and does nothing twice. It cannot be undone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.models import Q, QuerySet

from importops.conf import conf
from importops.engine.contents import Content, Contents
from importops.engine.merging_rooms import MergedRooms
from importops.engine.names import Renaming
from importops.engine.references import references_to_users
from importops.engine.slices import Batch, Work
from importops.engine.stretches import Stretch, cut_rooms, stretches
from importops.engine.undoing import delete_rows
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
from importops.records import Cursor

AT_ONCE = 500
GOES_WITH_THE_ACCOUNT = (User.groups.through, User.user_permissions.through)


class Pair(NamedTuple):
    duplicate: User
    into: User


def pair_of(operation: ImportOperation) -> Pair | None:
    """The two users; None when the duplicate is gone, which is the last thing a merge does."""
    selection = operation.selection
    duplicate = User.objects.filter(public_id=selection["duplicate"]).first()
    if duplicate is None:
        return None
    return Pair(duplicate, User.objects.get(public_id=selection["into"]))


def plan_merge() -> list[tuple[Cursor, int, int]]:
    """Slices over all rooms: he may be named in any of them."""
    return cut_rooms(Room.objects.all())


def preview_merge(pair: Pair) -> dict[str, int]:
    """What a merge would move. Reads every message once, as nothing is indexed by author."""
    mine = {"user": pair.duplicate}
    return {
        "messages": Message.objects.filter(author=pair.duplicate).count(),
        "memberships": Membership.objects.filter(**mine).count(),
        "directRooms": Room.objects.filter(type="d", memberships__user=pair.duplicate).count(),
        "createdRooms": Room.objects.filter(creator=pair.duplicate).count(),
        "importIds": UserImportId.objects.filter(**mine).count(),
        "emails": UserEmail.objects.filter(**mine).count(),
    }


def is_unused(user: User) -> bool:
    """Whether an import made this account and nobody can sign in to it, or has."""
    return (
        user.operation_id is not None
        and user.last_login is None
        and not user.has_usable_password()
        and not (user.is_staff or user.is_superuser)
        and not ApiToken.objects.filter(user=user).exists()
    )


def merge_messages(work: Work) -> None:
    """Authors and names in a slice's rooms. Cursor: room, source id."""
    pair = pair_of(work.operation)
    if pair is None:
        return
    at, after = work.cursor or [work.slice.start[0], None]
    rooms = Room.objects.filter(pk__gte=at, pk__lte=work.slice.stop).order_by("pk")
    renaming = Renaming(pair.duplicate.username, pair.into.username)
    keys = list(rooms.values_list("pk", flat=True))
    for some in stretches(keys, conf().batch_rows, at=at, after=after):
        with work.batch() as batch:
            for stretch in some:
                _merge_stretch(stretch, pair, renaming, batch)
            batch.cursor = [some[-1].room_id, some[-1].until]


def _merge_stretch(stretch: Stretch, pair: Pair, renaming: Renaming, batch: Batch) -> None:
    written = stretch.messages().filter(author=pair.duplicate)
    changed = set(written.values_list("pk", flat=True))
    written.update(author=pair.into)
    changed |= renaming.apply(list(renaming.find(stretch.messages())))
    batch.add("messages.total", len(changed))
    batch.add("messages.updated", len(changed))


def close_merge(work: Work) -> None:
    """Rooms, ids, addresses, the account. Cursor: whether all is done, contents to be deleted."""
    done, waiting = work.cursor or [False, []]
    contents = Contents(waiting)
    contents.finish(work, [done])
    pair = pair_of(work.operation)
    if done or pair is None:
        return
    MergedRooms(work, contents, *pair).merge()
    _move(work, Room.objects.filter(creator=pair.duplicate), "creator", pair.into)
    _move(work, UserImportId.objects.filter(user=pair.duplicate), "user", pair.into)
    if work.operation.selection.get("moveEmails") or is_unused(pair.into):
        _move(work, UserEmail.objects.filter(user=pair.duplicate), "user", pair.into)
    with work.batch() as batch:
        _close_account(work, pair, batch, contents)
        batch.cursor = [True, contents.cursor()]
    contents.committed()
    contents.finish(work, [True])


def _move(work: Work, rows: QuerySet[Any], column: str, into: User) -> None:
    name = rows.model._meta.model_name
    while keys := list(rows.values_list("pk", flat=True)[:AT_ONCE]):
        with work.batch() as batch:
            rows.model._default_manager.filter(pk__in=keys).update(**{column: into})
            batch.add(f"merged.{name}", len(keys))


def _close_account(work: Work, pair: Pair, batch: Batch, contents: Contents) -> None:
    """Remove the duplicate when nothing refers to it any more, else deactivate it; and say which."""
    duplicate = pair.duplicate
    tokens, _ = ApiToken.objects.filter(user=duplicate).delete()
    notes = [f"{tokens} API tokens of {duplicate} were revoked."] if tokens else []
    left = [email.address for email in UserEmail.objects.filter(user=duplicate).order_by("pk")]
    if left:
        notes.append(
            f"Not moved, since {pair.into} is in use and whoever reads them could sign in: "
            f"{', '.join(left)}."
        )
    if referring := _referring_to(duplicate):
        User.objects.filter(pk=duplicate.pk).update(is_active=False)
        batch.add("users.updated")
        notes.append(f"{duplicate} was deactivated, not removed; to it refer: {referring}.")
    else:
        for through in GOES_WITH_THE_ACCOUNT:
            delete_rows(through._default_manager.filter(user=duplicate))
        if duplicate.avatar:
            batch.add("files.total")
            contents.add(
                Content("user", "files", f"avatar of {duplicate}", str(duplicate.avatar.name))
            )
        delete_rows(User.objects.filter(pk=duplicate.pk))
        batch.add("users.removed")
        notes.append(f"{duplicate} was removed.")
    operation = ImportOperation.objects.filter(pk=work.operation.pk)
    operation.update(notes=[*operation.get().notes, *notes])


def _referring_to(user: User) -> str:
    """What still refers to the account, for a person; empty if nothing does."""
    found = [
        str(model._meta.verbose_name_plural)
        for model, column in references_to_users()
        if model not in GOES_WITH_THE_ACCOUNT
        and model._default_manager.filter(Q(**{column: user})).exists()
    ]
    return ", ".join(found)
