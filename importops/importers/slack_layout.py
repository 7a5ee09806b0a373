"""Where things are in a Slack export: the root files, the folders of rooms, the files of days.

An export may have been packed together with the folder it was unpacked to; names are given without
that folder. Nothing here is read but the archive's index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from importops.errors import EmptyExport, WrongFormat
from importops.importers.archive import Archive, Entry
from importops.importers.archive_index import shown

__all__ = ["Day", "Layout"]

USERS, ORG_USERS = "users.json", "org_users.json"
CHANNELS, GROUPS, MPIMS, DMS = "channels.json", "groups.json", "mpims.json", "dms.json"
ROOT_FILES = (USERS, ORG_USERS, CHANNELS, GROUPS, MPIMS, DMS)

# Slack writes `general/2024-01-02.json`. Anything else in a folder (canvases) holds no messages.
_DAY = re.compile(r"([^/]+)/[0-9]{4}-[0-9]{2}-[0-9]{2}[^/]*\.json")
_PLACE = re.compile(r"(.+\.json)(?:\[[0-9]+:?\])?", re.DOTALL)
_MAX_WRAPPING = 3
_NAMED = 5
"""How many names a sentence lists."""


class Day(NamedTuple):
    """A day file."""

    entry: Entry
    folder: str
    name: str
    """Its place in the export: `general/2024-01-02.json`."""


@dataclass
class Survey:
    """What a walk over the whole index found."""

    folders: list[str] = field(default_factory=list)
    """With day files in them, sorted."""
    ignored: list[str] = field(default_factory=list)
    """The first few entries that are none of ours."""
    ignored_count: int = 0
    text_files: int = 0


class Layout:
    """The entries of `archive` by what they mean in a Slack export."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.prefix = self._wrapping()

    def find(self, name: str) -> Entry | None:
        """The root file called `name`."""
        return self._archive.find(self.prefix + name)

    def days(self, first: int = 0, last: int | None = None) -> Iterator[Day]:
        """Day files among the entries `first` to `last`, sorted by folder and name."""
        cut, match = len(self.prefix), _DAY.fullmatch
        for entry in self._archive.entries(first, last):
            if cut and not entry.name.startswith(self.prefix):
                continue
            name = entry.name[cut:]
            if found := match(name):
                yield Day(entry, found[1], name)

    def days_of(self, folder: str) -> Iterator[Day]:
        """The day files of one room."""
        start = f"{self.prefix}{folder}/"
        # "0" is the character after "/".
        return self.days(self._position(start), self._position(start[:-1] + "0"))

    def entry_of(self, place: str) -> Entry | None:
        """The day file that a failure's place is in: `general/2024-01-02.json[17]`."""
        found = _PLACE.fullmatch(place)
        return self.find(found[1]) if found else None

    def survey(self) -> Survey:
        """Walk over all entries, once. Raises `SourceError` if this is no Slack export."""
        survey, cut = Survey(), len(self.prefix)
        for entry in self._archive.entries():
            ours = entry.name.startswith(self.prefix)
            name = entry.name[cut:] if ours else entry.name
            if ours and (found := _DAY.fullmatch(name)):
                if not survey.folders or survey.folders[-1] != found[1]:
                    survey.folders.append(found[1])
            elif not ours or name not in ROOT_FILES:
                survey.ignored_count += 1
                survey.text_files += name.endswith(".txt")
                if len(survey.ignored) < _NAMED:
                    survey.ignored.append(name)
        if not survey.folders and not any(map(self.find, ROOT_FILES)):
            self._refuse(survey)
        return survey

    def _refuse(self, survey: Survey) -> NoReturn:
        """Say what the archive is instead."""
        if not survey.ignored_count:
            raise EmptyExport("There is nothing in the zip archive.")
        lower = [name.lower() for name in survey.ignored]
        if inner := [n for n in survey.ignored if n.lower().endswith(".zip")]:
            raise WrongFormat(
                f"There is another zip archive in this one ({shown(inner[0])});"
                " take it out and import that."
            )
        if any(name.endswith(".csv") for name in lower):
            raise WrongFormat(
                f"This is not a Slack export but a zip archive of CSV files ({_listed(survey)})."
            )
        if survey.text_files and any("/" in name for name in survey.ignored):
            raise WrongFormat(
                "This is a Slack export in TXT format, made for a single user; it does"
                " not tell who wrote what, and cannot be imported. Ask for a JSON export."
            )
        raise WrongFormat(
            "This is not a Slack export: it has no users.json, no channels.json and no"
            f" folders with days, but {survey.ignored_count:,} other files"
            f" ({_listed(survey)})."
        )

    def _wrapping(self) -> str:
        """The folder that everything is in ('' if none), with its slash."""
        prefix = ""
        for _ in range(_MAX_WRAPPING + 1):
            if any(self._archive.find(prefix + name) for name in ROOT_FILES):
                return prefix
            first = self._first_folder(prefix)
            if first is None or _DAY.fullmatch(first.name, len(prefix)):
                break
            prefix += first.name[len(prefix) :].partition("/")[0] + "/"
        # No lists of users and rooms, so perhaps day files alone, in a folder or not.
        day = next(iter(self._archive.entries(0, 1)), None)
        parts = day.name.split("/") if day else []
        wrapped = len(parts) > 2 and _DAY.fullmatch("/".join(parts[-2:]))
        return "/".join(parts[:-2]) + "/" if wrapped else ""

    def _first_folder(self, prefix: str) -> Entry | None:
        """The first entry under `prefix` that is in a folder there."""
        for entry in self._archive.entries(self._position(prefix)):
            if not entry.name.startswith(prefix):
                return None
            if "/" in entry.name[len(prefix) :]:
                return entry
        return None

    def _position(self, name: str) -> int:
        """Number of the first entry whose name is `name` or sorts behind it."""
        low, high = 0, self._archive.count
        while low < high:
            middle = (low + high) // 2
            (entry,) = self._archive.entries(middle, middle + 1)
            if entry.name < name:
                low = middle + 1
            else:
                high = middle
        return low


def _listed(survey: Survey) -> str:
    names = ", ".join(map(shown, survey.ignored))
    return names + (", …" if survey.ignored_count > len(survey.ignored) else "")
