"""From an operation to its opened export."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from importops.conf import conf
from importops.errors import FileMissing, SourceChanged
from importops.importers.base import FileImporter
from importops.importers.registry import importer_class
from importops.models import ImportOperation

SAMPLE = 64 * 1024


def archive_path(operation: ImportOperation) -> Path:
    """Where the export lies on this machine. Raises `FileMissing`."""
    path = Path(operation.archive_path or (operation.archive.path if operation.archive else ""))
    if not path.is_file():
        raise FileMissing(f"The export file {path} is no longer there.")
    return path


def index_path(operation: ImportOperation) -> Path:
    """Where what was derived from the export is kept; made anew when it is missing."""
    folder = conf().data_dir / "indexes"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{operation.public_id}.index"


def fingerprint(path: Path) -> str:
    """What tells this file from a changed one without reading all of it: size, start and end."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(SAMPLE))
        file.seek(max(0, size - SAMPLE))
        digest.update(file.read(SAMPLE))
    return digest.hexdigest()


@contextmanager
def open_source(operation: ImportOperation) -> Iterator[FileImporter]:
    """The operation's export, opened by its importer.

    Raises `SourceError` for what cannot be an export, `FileMissing`, `SourceChanged` when the file
    is not the one that was prepared.
    """
    path = archive_path(operation)
    if operation.fingerprint and fingerprint(path) != operation.fingerprint:
        raise SourceChanged
    source = importer_class(operation.importer_key).open(
        path, index_path(operation), conf().limits()
    )
    try:
        yield source
    finally:
        source.close()
