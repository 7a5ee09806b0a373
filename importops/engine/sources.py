"""From an operation to its opened export, which lies on this machine or in a storage elsewhere."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from django.core.files.storage import default_storage
from django.db import connection

from importops.conf import conf
from importops.engine.shared_index import fetch_index, made_at, share_index
from importops.errors import FileMissing, ImportopsError, MustWait, SourceChanged
from importops.importers.base import FileImporter
from importops.importers.registry import importer_class
from importops.models import ImportOperation

SAMPLE = 64 * 1024


def is_storage_elsewhere() -> bool:
    """Whether stored files are not on the disks of this machine."""
    try:
        default_storage.path("archives")
    except NotImplementedError:  # how Django's storages say that they have no paths
        return True
    return False


def local_path(operation: ImportOperation) -> Path | None:
    """Where the export lies on this machine; None when it is in a storage elsewhere.

    Raises `FileMissing` when it should be here and is not; `MustWait` when its whole folder is gone, as
    that of a disk which is not there at the moment, and for a file that is read where it lies, which
    another machine may well have.
    """
    if operation.archive_path:
        path = Path(operation.archive_path)
    else:
        try:
            path = Path(operation.archive.path)
        except NotImplementedError:
            return None
        except ValueError as error:
            raise FileMissing(f"The export of {operation.public_id} was removed.") from error
    if not path.is_file():
        raise _why_not_here(path, bool(operation.archive_path))
    return path


def _why_not_here(path: Path, in_place: bool) -> ImportopsError:
    if not path.parent.is_dir():
        return MustWait(
            f"The folder {path.parent} of the export is not there. If it is on a disk or a "
            "share, connect that again; the import goes on by itself."
        )
    if in_place and connection.vendor != "sqlite":  # which only one machine can have
        return MustWait(
            f"The export file {path} is not on this machine ({socket.gethostname()}). Put it back "
            "or work on the import where it is; it goes on by itself."
        )
    return FileMissing(f"The export file {path} is no longer there.")


def index_path(operation: ImportOperation) -> Path:
    """Where what was derived from the export is kept; made anew when it is missing."""
    folder = conf().data_dir / "indexes"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{operation.public_id}.index"


def local_files(operation: ImportOperation) -> tuple[Path, Path] | None:
    """The export and its index as files that another process of this machine can open; None when the
    export is not a file here."""
    path = local_path(operation)
    return None if path is None else (path, index_path(operation))


def fingerprint(source: BinaryIO) -> str:
    """What tells this file from a changed one without reading all of it: size, start and end."""
    size = source.seek(0, os.SEEK_END)
    digest = hashlib.sha256(str(size).encode())
    for start in (0, max(0, size - SAMPLE)):
        source.seek(start)
        digest.update(source.read(SAMPLE))
    return digest.hexdigest()


def check_source(operation: ImportOperation) -> None:
    """Raise `FileMissing`, and `SourceChanged` when the file is not the one that was prepared."""
    with open_checked(operation):
        pass


@contextmanager
def open_checked(operation: ImportOperation) -> Iterator[BinaryIO]:
    with open_bytes(operation) as file:
        if operation.fingerprint and fingerprint(file) != operation.fingerprint:
            raise SourceChanged
        yield file


def open_bytes(operation: ImportOperation) -> BinaryIO:
    """The export's own bytes, seekable; the caller closes them. Raises `FileMissing`."""
    path = local_path(operation)
    if path is not None:
        return path.open("rb")
    name = str(operation.archive.name)
    return cast(BinaryIO, operation.archive.storage.open(name))


@contextmanager
def open_source(operation: ImportOperation) -> Iterator[FileImporter]:
    """The operation's export, opened by its importer.

    Raises `SourceError` for what cannot be an export, `FileMissing`, `SourceChanged` when the file
    is not the one that was prepared.
    """
    with open_checked(operation) as file:
        source = _open_importer(operation, file)
        try:
            yield source
        finally:
            source.close()


def _open_importer(operation: ImportOperation, file: BinaryIO) -> FileImporter:
    importer = importer_class(operation.importer_key)
    path = index_path(operation)
    if local_path(operation) is not None:
        return importer.open(file, path, conf().limits())
    storage, name = operation.archive.storage, str(operation.archive.name)
    if made_at(path) is None:
        fetch_index(storage, name, path)
    before = made_at(path)
    source = importer.open(file, path, conf().limits())
    if made_at(path) != before:
        share_index(storage, name, path)
    return source
