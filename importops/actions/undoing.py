"""What a person may ask about what is in already: take an import back, make two users one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from importops.actions.operations import refuse_taken_back, refuse_while_importing
from importops.engine.merging import plan_merge
from importops.engine.slices import create_slices
from importops.engine.undoing import count_undo, plan_undo
from importops.errors import (
    InvalidOperationStatus,
    NothingToUndo,
    OperationInProgress,
    UsersNotMergeable,
)
from importops.models import ApiToken, ImportOperation, Phase, Status, User
from importops.models.operations import ENDED, MERGE_USERS, ROLLBACK
from importops.records import SYSTEM_BOT, Cursor
from importops.tasks.jobs import enqueue_slices


def rollback_operation(
    target: ImportOperation, user: User, *, queue: bool = True
) -> ImportOperation:
    """Take back what `target` created; the operation that does it, with `queue` in the background.

    Raises `NothingToUndo`, `AlreadyUndone`, `UndoUnfinished`, `InvalidOperationStatus` for one that
    has not ended, `OperationInProgress` while any operation writes to the workspace.
    """
    refuse_not_undoable(target)
    operation = ImportOperation(
        importer_key=ROLLBACK,
        type="Rollback",
        source=target.source,
        user=user,
        phase=Phase.UNDO_MESSAGES,
        target=target,
    )
    made = begin_writing(operation, plan_undo(target), count_undo(target))
    if queue:
        enqueue_slices(made)
    return operation


def refuse_not_undoable(target: ImportOperation) -> None:
    """Raise what `rollback_operation` raises, if it would."""
    target.refresh_from_db()
    if not target.is_import:
        raise NothingToUndo(
            f"{target.type} {target.public_id} brought nothing; only an import can be taken back."
        )
    refuse_taken_back(target)
    if target.status not in ENDED:
        if target.has_started:
            raise OperationInProgress(
                f"The import {target.public_id} is running. Wait for it to end, or cancel it first."
            )
        raise InvalidOperationStatus(
            f"The import {target.public_id} is {target.get_status_display()}; nothing is in yet."
        )
    if not target.has_started:
        raise NothingToUndo(f"The import {target.public_id} never started; nothing is in.")
    refuse_while_importing()


def merge_users(
    duplicate: User,
    into: User,
    user: User,
    *,
    force: bool = False,
    move_emails: bool = False,
    queue: bool = True,
) -> ImportOperation:
    """Make `duplicate` one with `into`; the operation that does it, with `queue` in the background.

    Addresses move only to an account that nobody uses, or with `move_emails`: whoever reads an added
    address can reset the password. Raises `UsersNotMergeable`, and `OperationInProgress` while any
    operation writes to the workspace.
    """
    refuse_not_mergeable(duplicate, into, user, force=force)
    operation = ImportOperation(
        importer_key=MERGE_USERS,
        type="Merge Users",
        source="",
        user=user,
        phase=Phase.MERGING,
        selection={
            "duplicate": duplicate.public_id,
            "into": into.public_id,
            "names": [duplicate.username, into.username],
            "moveEmails": move_emails,
        },
    )
    made = begin_writing(operation, plan_merge(), {"users.total": 1})
    if queue:
        enqueue_slices(made)
    return operation


def refuse_not_mergeable(duplicate: User, into: User, user: User, *, force: bool) -> None:
    """Raise `UsersNotMergeable`, with a sentence that says what to do, if they must not be merged."""
    if duplicate.pk == into.pk:
        raise UsersNotMergeable(f"{duplicate} cannot be merged into itself.")
    if duplicate.public_id == SYSTEM_BOT:
        raise UsersNotMergeable(f"{duplicate} is the built-in bot; it has to stay.")
    if duplicate.pk == user.pk:
        raise UsersNotMergeable("You cannot merge yourself away; let somebody else do it.")
    if into.is_placeholder and not duplicate.is_placeholder:
        raise UsersNotMergeable(
            f"{into} is a placeholder and {duplicate} is an account: merge them the other way round."
        )
    if duplicate.is_superuser and not user.is_superuser:
        raise UsersNotMergeable(
            f"{duplicate} is a superuser; only a superuser may merge that away."
        )
    if force:
        return
    in_use = (
        duplicate.is_staff
        or duplicate.is_superuser
        or duplicate.last_login is not None
        or ApiToken.objects.filter(user=duplicate).exists()
    )
    if in_use:
        raise UsersNotMergeable(
            f"{duplicate} has signed in, or has tokens or rights of staff, so somebody uses it. Merge "
            "it only if you are sure (--force): it is removed or shut out."
        )


def begin_writing(
    operation: ImportOperation,
    spans: Sequence[tuple[Cursor, int, int]],
    totals: Mapping[str, Any],
) -> list[int]:
    """Store `operation` as one that writes already; the ids of its first slices.

    Of two at once one wins. An import that waits for its selection is left as it is. Raises
    `OperationInProgress`.
    """
    now = timezone.now()
    operation.status = Status.IMPORTING_STARTED
    operation.started_at = operation.ts = operation.updated_at = now
    operation.base_tally = operation.tally = dict(totals)
    try:
        with transaction.atomic():
            refuse_while_importing()
            if operation.target is not None:
                # Another undo may have come and gone since the first look.
                refuse_taken_back(ImportOperation.objects.get(pk=operation.target.pk))
            operation.save()
            return create_slices(operation.pk, Phase(operation.phase), spans)
    except IntegrityError:
        # The constraint that lets one operation write at a time.
        raise OperationInProgress from None
