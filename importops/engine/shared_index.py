"""An archive's index, kept beside it in a storage elsewhere: one machine makes it, the others fetch it."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from pathlib import Path

from django.core.files import File
from django.core.files.storage import Storage

from importops.errors import FileMissing, MustWait

logger = logging.getLogger(__name__)


def shared_name(archive_name: str) -> str:
    return f"{archive_name}.index"


def fetch_index(storage: Storage, archive_name: str, path: Path) -> None:
    """Bring the shared index to `path`, whole or not at all; nothing happens when there is none."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with storage.open(shared_name(archive_name)) as shared, temporary.open("wb") as file:
            shutil.copyfileobj(shared, file, 1024**2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (FileMissing, FileNotFoundError):
        return
    finally:
        temporary.unlink(missing_ok=True)


def share_index(storage: Storage, archive_name: str, path: Path) -> None:
    """Keep the index at `path` for other machines. What goes wrong is only logged: each of them can
    make its own."""
    name = shared_name(archive_name)
    try:
        if storage.exists(name):  # made by another version of the code
            storage.delete(name)
        with path.open("rb") as file:
            kept = storage.save(name, File(file))
        if kept != name:  # two machines made it at once, and the other one was first
            storage.delete(kept)
    except MustWait as error:
        logger.warning("the index of %s was not shared: %s", archive_name, error.message)


def made_at(path: Path) -> tuple[int, int] | None:
    """What changes when the file at `path` is replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
