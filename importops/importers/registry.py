"""The one table of importers: key -> class."""

from __future__ import annotations

from importops.errors import ImporterNotDefined
from importops.importers.base import FileImporter
from importops.importers.slack import SlackImporter

IMPORTERS: dict[str, type[FileImporter]] = {
    importer.key: importer for importer in (SlackImporter,)
}


def importer_class(key: str) -> type[FileImporter]:
    """The importer called `key`. Raises `ImporterNotDefined`."""
    try:
        return IMPORTERS[key]
    except KeyError:
        raise ImporterNotDefined(key) from None
