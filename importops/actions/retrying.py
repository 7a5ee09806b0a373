"""Trying again what an import could not bring in."""

from __future__ import annotations

from contextlib import suppress

from django.db import IntegrityError, transaction

from importops.actions.operations import refuse_taken_back, reopen
from importops.engine.retrying import failures_to_retry
from importops.engine.slices import create_slices
from importops.engine.sources import check_source
from importops.errors import InvalidOperationStatus, MustWait, NothingFailed, OperationInProgress
from importops.models import ImportFailure, ImportOperation, Phase, Status
from importops.models.operations import IMPORTING, STATUS_OF_PHASE
from importops.tasks.jobs import enqueue_slices


def retry_failed(
    operation: ImportOperation, *, kind: str = "", code: str = "", queue: bool = True
) -> int:
    """Import the failed records again, of `kind` and with `code` if named; how many are tried.

    Raises `InvalidOperationStatus` unless the import is done, `NothingFailed`, what resuming raises when
    another operation is in the way, and `FileMissing` or `SourceChanged`.
    """
    operation.refresh_from_db()
    refuse_unless_done(operation)
    with suppress(MustWait):  # another machine may have the file, or its disk comes back
        check_source(operation)
    try:
        with transaction.atomic():
            reopen(operation, STATUS_OF_PHASE[Phase.RETRY_USERS], phase=Phase.RETRY_USERS)
            failures = failures_to_retry(operation, kind)
            number = (failures.filter(code=code) if code else failures).update(retrying=True)
            if not number:
                raise why_nothing(operation, narrowed=bool(kind or code))
            made = create_slices(operation.pk, Phase.RETRY_USERS, [([], 0, 0)])
    except IntegrityError:
        raise OperationInProgress from None
    finally:
        operation.refresh_from_db()
    if queue:
        enqueue_slices(made)
    return number


def refuse_unless_done(operation: ImportOperation) -> None:
    if not operation.is_import:
        raise InvalidOperationStatus(
            "This is no import. What it kept or could not do stands in its report."
        )
    if operation.status in IMPORTING:
        raise OperationInProgress(f"The import {operation.public_id} is running already.")
    refuse_taken_back(operation)
    if operation.status in (Status.FAILED, Status.CANCELLED):
        raise InvalidOperationStatus(
            f"The operation is {operation.get_status_display()}; resume it first, and try again what "
            "failed when it is done."
        )
    if operation.status != Status.DONE:
        raise InvalidOperationStatus(
            f"The operation is {operation.get_status_display()}; only what a finished import could not "
            "bring in can be tried again."
        )


def why_nothing(operation: ImportOperation, *, narrowed: bool) -> NothingFailed:
    if narrowed:
        return NothingFailed("Nothing of that kind, with that code, failed in this import.")
    if ImportFailure.objects.of(operation).exists():
        return NothingFailed(
            "What failed are users and rooms that could not be read from the export's lists. Mend the "
            "export, and import it again: only what is missing will be added."
        )
    return NothingFailed()
