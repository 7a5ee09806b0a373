"""The one table of importers: key -> class."""

from __future__ import annotations

from typing import BinaryIO

from importops.errors import ImporterNotDefined, WrongFormat
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


def guess_importer(source: BinaryIO, name: str) -> str:
    """The key of the importer that reads files like this one, which is called `name`.

    Goes by how the file starts; whether a zip is the right one, its importer says when it opens it.
    Raises `WrongFormat` for a file that no importer reads.
    """
    source.seek(0)
    if source.read(4) in ZIP_STARTS:
        return SlackImporter.key
    raise WrongFormat(
        f"{name} is not a zip archive, and every kind of export known here is one. "
        f"Name the importer if it is one of: {', '.join(IMPORTERS)}."
    )
