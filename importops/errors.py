"""Every error raised on purpose. Each class has a stable `code` and a docstring that is its default message.

A code is part of the public contract: it appears in REST error bodies, in `ImportFailure.code`
and in the output of commands. Renaming one breaks somebody's script.
"""

from __future__ import annotations

from inspect import getdoc
from typing import Any, ClassVar


class ImportopsError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error-importops"

    def __init__(self, message: str = "", *, details: str | dict[str, Any] = "") -> None:
        self.message = message or (getdoc(type(self)) or "").splitlines()[0]
        self.details = details
        super().__init__(self.message)


# What a person asked for cannot be done (the doors turn these into 400s and CommandErrors).


class OperationNotFound(ImportopsError):
    """Import Operation Not Found"""

    code = "error-operation-not-found"


class OperationInvalid(ImportopsError):
    """Invalid Import Operation"""

    code = "error-import-operation-invalid"


class OperationInProgress(ImportopsError):
    """Another import is running. Wait for it to end, or cancel it first."""

    code = "error-import-operation-in-progress"


class InvalidOperationStatus(ImportopsError):
    """The operation is not in a state that allows this."""

    code = "error-invalid-operation-status"


class ImporterNotDefined(ImportopsError):
    """The importer has no import class defined."""

    code = "error-importer-not-defined"

    def __init__(self, key: str, *, details: str = "") -> None:
        super().__init__(f"The importer ({key}) has no import class defined.", details=details)


class NothingFailed(ImportopsError):
    """Nothing failed in this import; there is nothing to try again."""

    code = "error-import-nothing-failed"


class NothingToUndo(ImportopsError):
    """There is nothing that could be taken back."""

    code = "error-import-nothing-to-undo"


class AlreadyUndone(ImportopsError):
    """The import has been taken back already."""

    code = "error-import-already-undone"


class UndoUnfinished(ImportopsError):
    """An undo of this import has begun and is not finished."""

    code = "error-import-undo-unfinished"


class UsersNotMergeable(ImportopsError):
    """These two users cannot be merged."""

    code = "error-users-not-mergeable"


class InvalidSelection(ImportopsError):
    """The selection is not understood."""

    code = "error-import-selection-invalid"


class UploadTooLarge(ImportopsError):
    """The file is larger than this server accepts."""

    code = "error-import-file-too-large"


class FileMissing(ImportopsError):
    """The import file is not there."""

    code = "error-import-file-missing"


class SourceChanged(ImportopsError):
    """The export file has changed since the import was prepared; start a new import."""

    code = "error-import-file-changed"


class NotEnoughSpace(ImportopsError):
    """There is not enough free disk space for this import."""

    code = "error-import-no-space"


class TokenExists(ImportopsError):
    """A token with this name already exists"""

    code = "error-token-already-exists"


class TokenNotFound(ImportopsError):
    """Token does not exist"""

    code = "error-token-does-not-exists"


class NotAuthorized(ImportopsError):
    """Not Authorized"""

    code = "not-authorized"


class UserNotFound(ImportopsError):
    """There is no such user."""

    code = "error-invalid-user"


class WrongCredentials(ImportopsError):
    """Unauthorized"""

    code = "error-unauthorized"


class LoginLocked(ImportopsError):
    """Too many failed logins. Wait before trying again."""

    code = "error-too-many-requests"

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


class PasswordRequired(ImportopsError):
    """TOTP Required"""

    code = "totp-required"


class PasswordInvalid(ImportopsError):
    """TOTP Invalid"""

    code = "totp-invalid"


class InvalidFields(ImportopsError):
    """Invalid fields parameter provided"""

    code = "error-invalid-fields"


# The export as a whole cannot be imported (the operation fails, with this sentence).


class SourceError(ImportopsError):
    """The export cannot be read."""

    code = "error-import-file-unreadable"


class NotAnArchive(SourceError):
    """The file is not a zip archive."""

    code = "error-import-file-not-zip"


class TruncatedArchive(SourceError):
    """The zip archive is incomplete: its end is missing. Upload or copy it again."""

    code = "error-import-file-truncated"


class DamagedArchive(SourceError):
    """The zip archive is damaged. Make it again, or copy it again from where it came."""

    code = "error-import-file-damaged"


class EncryptedArchive(SourceError):
    """The zip archive is encrypted. Unpack it and zip it again without a password."""

    code = "error-import-file-encrypted"


class UnsafeArchive(SourceError):
    """The zip archive holds entries that no honest export holds."""

    code = "error-import-file-unsafe"


class ArchiveTooLarge(SourceError):
    """The zip archive goes beyond a configured limit."""

    code = "error-import-file-limit"


class EmptyExport(SourceError):
    """There is nothing to import in this file."""

    code = "error-import-file-empty"


class WrongFormat(SourceError):
    """The file is not an export of the chosen kind."""

    code = "error-import-file-format-invalid"


# One entry of the export cannot be read (that entry fails, the import goes on).


class EntryError(ImportopsError):
    """This entry of the archive cannot be read."""

    code = "importer-entry-unreadable"


class EntryTooLarge(EntryError):
    """This entry of the archive is larger than its directory says, or than allowed."""

    code = "importer-entry-too-large"


class ReaderDied(ImportopsError):
    """The process that reads the export ended in the middle; this part of the import is tried again."""

    code = "error-import-reader-died"


# A slice of work has to stop; nothing is wrong with the data.


class SliceLost(ImportopsError):
    """Another worker has taken this slice over."""

    code = "slice-lost"


class OperationStopped(ImportopsError):
    """The operation was cancelled, aborted or is no longer running."""

    code = "operation-stopped"


class MustWait(ImportopsError):
    """The import waits for something outside of it."""

    code = "import-waits"


class QueueAway(ImportopsError):
    """The queue cannot be reached; what should be on it is put there later."""

    code = "queue-away"


class WorkerStopping(ImportopsError):
    """The worker was asked to stop; the slice goes back to the queue."""

    code = "worker-stopping"
