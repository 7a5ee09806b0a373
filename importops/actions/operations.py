"""What a person may ask of imports: create, start, cancel, resume. All three doors come through here."""

from __future__ import annotations

import re
import shutil
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import structlog
from django.core.files import File
from django.db import IntegrityError, transaction
from django.utils import timezone

from importops.conf import conf
from importops.engine.running import advance
from importops.engine.selecting import apply_selection
from importops.engine.slices import create_slices, settle_stopped
from importops.engine.sources import fingerprint, is_storage_elsewhere, open_bytes
from importops.errors import (
    AlreadyUndone,
    FileMissing,
    ImportopsError,
    InvalidOperationStatus,
    NotEnoughSpace,
    OperationInProgress,
    OperationInvalid,
    OperationNotFound,
    UndoUnfinished,
    UploadTooLarge,
)
from importops.importers.base import FileImporter
from importops.importers.registry import importer_class
from importops.models import ImportOperation, Phase, Status, User
from importops.models.operations import (
    ENDED,
    IMPORTING,
    LOADING,
    STATUS_OF_PHASE,
    ImportOperationQuerySet,
)
from importops.tasks.jobs import enqueue_slices

logger = structlog.stdlib.get_logger(__name__)

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
FILE_NAME_LIMIT = 200


def check_importer(key: str, details: str = "") -> type[FileImporter]:
    """The importer called `key`. Raises `ImporterNotDefined` with the `details` the wire expects."""
    try:
        return importer_class(key)
    except ImportopsError as error:
        error.details = details
        raise


def importer_names(operation: ImportOperation) -> tuple[str, str]:
    """Key and display name of what does `operation`. Raises `ImporterNotDefined`."""
    if operation.is_import:
        check_importer(operation.importer_key)
    return operation.importer_key, operation.type


def current_operation(details: str = "") -> ImportOperation:
    """The operation that is importing, else the latest. Raises `OperationNotFound`."""
    operation = ImportOperation.objects.select_related("user").current()
    if operation is None:
        raise OperationNotFound(details=details)
    return operation


def operation_with(public_id: str) -> ImportOperation:
    """The operation with this id. Raises `OperationNotFound`."""
    operation = ImportOperation.objects.filter(public_id=public_id).first()
    if operation is None:
        raise OperationNotFound(f"There is no operation {public_id}.")
    return operation


def clean_file_name(name: str) -> str:
    """The last part of a name that came from outside, safe to store and to show."""
    last = PurePosixPath(_CONTROL.sub("", name).replace("\\", "/")).name
    return last.strip(". ")[-FILE_NAME_LIMIT:] or "export"


def wire_file_name(user: User, file_name: str, now: datetime) -> str:
    """`file` on the wire: UTC time (month from 0, nothing zero-padded), user id, original name.

    Source of the form: docs/api.md, `uploadImportFile`.
    """
    stamp = f"{now.year}{now.month - 1}{now.day}{now.hour}{now.minute}{now.second}"
    return f"{stamp}_{user.public_id}_{clean_file_name(file_name)}"


def create_operation(
    *,
    user: User,
    importer_key: str,
    upload: File[bytes],
    file_name: str,
    content_type: str,
    source: str = "",
) -> ImportOperation:
    """An operation over a file that has been received completely; preparing it is queued.

    `upload` is moved into storage, not copied, when it is a file on the same disk. Raises
    `ImporterNotDefined`, `UploadTooLarge`, `NotEnoughSpace`, `OperationInProgress`.
    """
    importer = check_importer(importer_key, details="uploadImportFile")
    if (upload.size or 0) > conf().max_upload_bytes:
        raise UploadTooLarge
    if shutil.disk_usage(conf().data_dir).free < conf().min_free_bytes:
        raise NotEnoughSpace
    refuse_while_importing()
    operation = new_operation(user, importer, source)
    operation.file = wire_file_name(user, file_name, timezone.now())
    operation.content_type = _CONTROL.sub("", content_type)[:255]
    enqueue_slices(store_and_begin(operation, upload))
    return operation


def store_and_begin(operation: ImportOperation, upload: File[bytes]) -> list[int]:
    """Put the archive into the storage, wherever that is, and `begin`."""
    operation.archive.save(operation.public_id, upload, save=False)
    try:
        with open_bytes(operation) as file:
            operation.fingerprint = fingerprint(file)
        return begin(operation)
    except BaseException:
        operation.archive.delete(save=False)
        raise


def create_operation_from_path(
    *, user: User, importer_key: str, path: Path, source: str = ""
) -> ImportOperation:
    """An operation over a file of this machine; nothing is queued. It is read where it lies, unless
    archives are kept in a storage elsewhere: then it is copied there, for all machines.

    Raises `ImporterNotDefined`, `FileMissing`, `OperationInProgress`, `MustWait` when the storage
    does not take it.
    """
    if not is_storage_elsewhere():
        return create_operation_in_place(
            user=user, importer_key=importer_key, path=path, source=source
        )
    importer = check_importer(importer_key)
    refuse_while_importing()
    operation = new_operation(user, importer, source)
    operation.file = wire_file_name(user, path.name, timezone.now())
    try:
        with path.open("rb") as file:
            store_and_begin(operation, File(file))
    except FileNotFoundError as error:
        raise FileMissing(f"There is no file {path}.") from error
    return operation


def create_operation_in_place(
    *, user: User, importer_key: str, path: Path, source: str = ""
) -> ImportOperation:
    """An operation over a file that is read where it lies; nothing is queued.

    Raises `ImporterNotDefined`, `FileMissing`, `OperationInProgress`.
    """
    importer = check_importer(importer_key)
    if not path.is_file():
        raise FileMissing(f"There is no file {path}.")
    refuse_while_importing()
    operation = new_operation(user, importer, source)
    operation.file = wire_file_name(user, path.name, timezone.now())
    operation.archive_path = str(path.resolve())
    with open_bytes(operation) as file:
        operation.fingerprint = fingerprint(file)
    begin(operation)
    return operation


def new_operation(user: User, importer: type[FileImporter], source: str) -> ImportOperation:
    return ImportOperation(
        importer_key=importer.key,
        type=importer.name,
        source=source or importer.family,
        user=user,
        status=Status.FILE_LOADED,
        phase=Phase.LISTING,
    )


def refuse_while_importing(
    operations: ImportOperationQuerySet | None = None,
) -> None:
    """Raise `OperationInProgress` while some operation (of `operations`) writes to the workspace."""
    running = (
        (ImportOperation.objects.all() if operations is None else operations).importing().first()
    )
    if running is not None:
        raise OperationInProgress(
            f"The import {running.public_id} is running. Wait for it to end, or cancel it first."
        )


def refuse_taken_back(operation: ImportOperation) -> None:
    """Nothing more may be brought by an import that was taken back, or is half taken back.

    Raises `AlreadyUndone`, `UndoUnfinished`.
    """
    if operation.rolled_back_at is not None:
        raise AlreadyUndone(
            f"The import {operation.public_id} has been taken back. To bring its records again, "
            "import the file again."
        )
    undo = operation.undone_by.exclude(status=Status.DONE).first()
    if undo is not None:
        raise UndoUnfinished(
            f"The undo {undo.public_id} of this import has begun and is not finished; resume that one."
        )


def begin(operation: ImportOperation) -> list[int]:
    """Store the operation as the current one; the ids of its first slices."""
    with transaction.atomic():
        refuse_while_importing()
        replaced = step_back(ImportOperation.objects.all())
        # One may have started between the first look and the update.
        refuse_while_importing()
        operation.save()
        made = create_slices(operation.pk, Phase.LISTING, [([], 0, 0)])
    for pk in replaced:
        settle_stopped(pk)
    _tell("operation created", operation, file=operation.file, importer=operation.importer_key)
    return made


def step_back(operations: ImportOperationQuerySet) -> list[int]:
    """Make those of `operations` that import nothing invalid; their keys, for `settle_stopped`.

    One that is still being read is given up; one that waits or has ended only steps back.
    """
    others = operations.filter(valid=True).exclude(status__in=IMPORTING)
    others.filter(status__in=LOADING).update(cancel_requested_at=timezone.now())
    replaced = list(others.values_list("pk", flat=True))
    others.update(valid=False)
    return replaced


def _tell(event: str, operation: ImportOperation, **more: Any) -> None:
    """One line for the log about something that a person asked for."""
    logger.info(event, operation=operation.public_id, **more)


def start_operation(
    operation: ImportOperation,
    selection: dict[str, Any],
    user: User,
    *,
    queue: bool = True,
) -> None:
    """Import what `selection` names (see `engine/selecting.py`); with `queue`, in the background.

    Of two that start at once one wins. Raises `InvalidOperationStatus`, `OperationInvalid`,
    `OperationInProgress`, `InvalidSelection`.
    """
    selection = allowed_selection(selection, user)
    now = timezone.now()
    try:
        with transaction.atomic():
            startable = ImportOperation.objects.filter(
                pk=operation.pk, valid=True, cancel_requested_at=None
            )
            won = startable.move(
                Status.USER_SELECTION,
                status=Status.IMPORTING_STARTED,
                phase=Phase.USERS,
                started_at=now,
                selection=selection,
                progress={},
            )
            if not won:
                raise why_not_startable(operation)
            # A dry run that is still going on ends here: its workers find their slices gone.
            operation.slices.filter(phase=Phase.PREVIEWING).delete()
            skipped = apply_selection(operation, selection)
            fresh = ImportOperation.objects.get(pk=operation.pk)
            ImportOperation.objects.filter(pk=operation.pk).update(
                base_tally={**fresh.base_tally, **skipped},
                tally={**fresh.tally, **skipped},
            )
            made = create_slices(operation.pk, Phase.USERS, [([], 0, 0)])
    except IntegrityError:
        # The constraint that lets one operation import at a time.
        raise OperationInProgress from None
    operation.refresh_from_db()
    _tell("operation started", operation, by=user.username)
    if queue:
        enqueue_slices(made)


def allowed_selection(selection: dict[str, Any], user: User) -> dict[str, Any]:
    """`selection`, without what `user` may not ask for."""
    return {
        **selection,
        "grantRoles": selection.get("grantRoles") is True and user.is_superuser,
    }


def why_not_startable(operation: ImportOperation) -> ImportopsError:
    operation.refresh_from_db()
    if not operation.valid:
        return OperationInvalid(
            "Invalid Import Operation: a newer one has taken its place, or it was cleared."
        )
    if operation.status in IMPORTING:
        return OperationInProgress(f"The import {operation.public_id} is running already.")
    if operation.is_cancelling:
        return InvalidOperationStatus("The operation is being cancelled.")
    if operation.status in LOADING:
        return InvalidOperationStatus(
            "The file is still being read. Wait until its status is importer_user_selection."
        )
    return InvalidOperationStatus(
        f"The operation is {operation.get_status_display()}; only one that waits for a "
        "selection (importer_user_selection) can be started."
    )


def cancel_operation(operation: ImportOperation) -> None:
    """Ask an operation to stop; it does within one batch, and can be resumed.

    Raises `InvalidOperationStatus` when it has ended already.
    """
    now = timezone.now()
    asked = (
        ImportOperation.objects.filter(pk=operation.pk, cancel_requested_at=None)
        .exclude(status__in=ENDED)
        .update(cancel_requested_at=now, updated_at=now)
    )
    operation.refresh_from_db()
    if not asked and not operation.is_cancelling:
        raise InvalidOperationStatus(
            f"The operation is {operation.get_status_display()}; there is nothing to cancel."
        )
    _tell("cancel requested", operation)
    settle_stopped(operation.pk)
    operation.refresh_from_db()


def resume_operation(operation: ImportOperation, *, queue: bool = True) -> None:
    """Go on with an operation that was cancelled, failed or interrupted, where it stopped.

    Every slice is taken over at once; a worker that still believes it has one is fenced off. Raises
    `InvalidOperationStatus`, `OperationInProgress` while another one imports,
    `AlreadyUndone` and `UndoUnfinished` for one that was taken back, and `OperationInvalid` when a
    newer operation is unfinished.
    """
    operation.refresh_from_db()
    phase = Phase(operation.phase)
    if phase != Phase.NONE and operation.status != Status.DONE:
        status = STATUS_OF_PHASE[phase]
    elif phase == Phase.NONE and operation.status == Status.CANCELLED:
        status = Status.USER_SELECTION
    else:
        raise InvalidOperationStatus(
            f"The operation is {operation.get_status_display()}; there is nothing to resume."
        )
    try:
        reopen(operation, status)
    except IntegrityError:
        raise OperationInProgress from None
    _tell("operation resumed", operation, phase=operation.phase)
    made = advance(operation.pk)
    if queue:
        waiting = operation.slices.unfinished().filter(phase=phase)
        enqueue_slices([*made, *waiting.values_list("pk", flat=True)])


def reopen(operation: ImportOperation, status: Status, **changes: Any) -> None:
    """Make the operation the current one again, if it still is as it was seen and nobody is in the way.

    Raises `OperationInProgress`, `OperationInvalid`, `InvalidOperationStatus`, and `IntegrityError` when
    another one has just started.
    """
    others = ImportOperation.objects.exclude(pk=operation.pk)
    with transaction.atomic():
        refuse_while_importing(others)
        refuse_taken_back(ImportOperation.objects.get(pk=operation.pk))
        newer = others.filter(ts__gt=operation.ts, valid=True).exclude(status__in=ENDED).first()
        if newer is not None:
            raise OperationInvalid(
                f"A newer operation, {newer.public_id}, is not finished. Finish or cancel it first."
            )
        reopened = ImportOperation.objects.filter(
            pk=operation.pk, status=operation.status, phase=operation.phase
        ).update(
            status=status,
            valid=True,
            cancel_requested_at=None,
            finished_at=None,
            error="",
            error_code="",
            progress={},
            paused_because="",
            updated_at=timezone.now(),
            **changes,
        )
        if not reopened:
            raise InvalidOperationStatus(
                "The operation has just moved on by itself; look at it again."
            )
        replaced = step_back(others)
        operation.slices.unfinished().take_over()
    for pk in replaced:
        settle_stopped(pk)
    operation.refresh_from_db()
