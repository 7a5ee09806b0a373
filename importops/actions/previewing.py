"""The dry run of a prepared operation: what an import of a selection would do."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from importops.actions.operations import allowed_selection, why_not_startable
from importops.engine.selecting import choice_of
from importops.engine.slices import create_slices
from importops.models import ImportFailure, ImportOperation, Phase, StagedRecord, Status, User
from importops.tasks.jobs import enqueue_slices


def preview_operation(
    operation: ImportOperation, selection: dict[str, Any], user: User, *, queue: bool = True
) -> None:
    """Find out what `start_operation` with this selection would do; with `queue`, in the background.

    A dry run that is going on is replaced. The operation stays as it is and can be started at any
    time, which ends the dry run. Raises `InvalidSelection`, and what `start_operation` raises of an
    operation that is not ready.
    """
    selection = allowed_selection(selection, user)
    choice_of(selection)
    now = timezone.now()
    preview = {"selection": selection, "state": "running", "started_at": now.timestamp()}
    with transaction.atomic():
        ready = ImportOperation.objects.filter(
            pk=operation.pk,
            valid=True,
            cancel_requested_at=None,
            phase__in=[Phase.NONE, Phase.PREVIEWING],
        )
        if not ready.move(Status.USER_SELECTION, phase=Phase.PREVIEWING, preview=preview):
            raise why_not_startable(operation)
        operation.slices.filter(phase=Phase.PREVIEWING).delete()
        operation.failures.filter(stage=ImportFailure.Stage.PREVIEW).delete()
        StagedRecord.objects.filter(operation=operation).exclude(note="").update(note="")
        made = create_slices(operation.pk, Phase.PREVIEWING, [([], 0, 0)])
    operation.refresh_from_db()
    if queue:
        enqueue_slices(made)
