"""The one table of importers: key -> class."""

from __future__ import annotations

from pathlib import Path

from importops.errors import FileMissing, ImporterNotDefined, WrongFormat
from importops.importers.base import FileImporter
from importops.importers.slack import SlackImporter

IMPORTERS: dict[str, type[FileImporter]] = {importer.key: importer for importer in (SlackImporter,)}


def importer_class(key: str) -> type[FileImporter]:
    """The importer called `key`. Raises `ImporterNotDefined`."""
    try:
        return IMPORTERS[key]
    except KeyError:
        raise ImporterNotDefined(key) from None


ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")


def guess_importer(path: Path) -> str:
    """The key of the importer that reads files like this one.

    Goes by how the file starts; whether a zip is the right one, its importer says when it opens it.
    Raises `FileMissing`, and `WrongFormat` for a file that no importer reads.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise FileMissing(f"{path} cannot be read: {error.strerror}.") from error
    if start in ZIP_STARTS:
        return SlackImporter.key
    raise WrongFormat(
        f"{path.name} is not a zip archive, and every kind of export known here is one. "
        f"Name the importer if it is one of: {', '.join(IMPORTERS)}."
    )
