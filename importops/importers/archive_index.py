"""The index of an untrusted zip archive: its directory, checked once, sorted, in a
SQLite file.

`build_index` streams the zip's central directory. Workers open only what it leaves: the
standard library's `zipfile` would hold the whole directory in each of them (0.6 KB an
entry), and before Python 3.11.8 does not notice overlapping entries (CVE-2024-0450).

Nothing is ever unpacked to a path: names are keys, and are checked as if they were
paths.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple, NoReturn

from importops.errors import (
    ArchiveTooLarge,
    DamagedArchive,
    EncryptedArchive,
    NotAnArchive,
    TruncatedArchive,
    UnsafeArchive,
)
from importops.importers.base import Limits

__all__ = ["INDEX_VERSION", "build_index", "shown"]

INDEX_VERSION = 1
"""Raised when the tables or the checks change: older indexes are then built again."""
NAME_LIMIT = 4096
"""Bytes of an entry's name; no file system that exports are zipped on allows more."""
RATIO_FREE = 1024**2
"""Unpacked sizes up to this are not worth a bomb; the ratio is not looked at."""

_READ = 1024**2

_LOCAL_SIZE = 30
_CENTRAL = Struct("<4s4xHH4xLLLHHHH6xL")
_END = Struct("<4s4H2LH")
_END64 = Struct("<4sQ4x2L4q")
_LOCATOR64 = Struct("<4sLqL")
_EXTRA = Struct("<HH")

_ENCRYPTED = 0x2041  # bits 0, 6, 13: the entry, strong encryption, masked directory
_UTF8 = 0x800
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_LAP = 2**32

_CLIMBS = re.compile(r"(?:\A|/)\.\.(?:/|\Z)")
_DRIVE = re.compile(r"\A[A-Za-z]:")
_LITTER = ("/", ".DS_Store", "Thumbs.db")
_OTHER_KINDS = {
    b"\x1f\x8b": "a gzip file",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"<": "a web page or XML",
    b"[": "JSON",
    b"{": "JSON",
}

_SCHEMA = """
CREATE TABLE entries (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, offset INTEGER NOT NULL,
    compressed INTEGER NOT NULL, size INTEGER NOT NULL, method INTEGER NOT NULL,
    flags INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TEMP TABLE found (
    name TEXT, offset INTEGER, compressed INTEGER, size INTEGER,
    method INTEGER, flags INTEGER, crc INTEGER, stop INTEGER
);
"""


class _End(NamedTuple):
    """What the end record says, in positions of this file."""

    start: int
    """Where the directory begins."""
    size: int
    entries: int
    """How many it should hold."""
    zip64: bool
    shift: int
    """Bytes in front of the archive, which its own offsets do not know of."""

    @property
    def wrapped(self) -> bool:
        """Whether offsets were written modulo 4 GiB: macOS zips large folders without
        zip64.
        """
        return not self.zip64 and self.shift > 0 and self.shift % _LAP == 0


def build_index(source: BinaryIO, index_path: Path, limits: Limits) -> None:
    """Check the zip archive in `source` and write its sorted entries to `index_path`,
    atomically.

    Reads the directory once, in flat memory; entries themselves are not read.
    Directories and what desktops leave behind (`__MACOSX/`, `.DS_Store`, `Thumbs.db`)
    are left out. Raises the `SourceError` that says what is wrong; then there is no
    index.
    """
    end = _find_end(source)
    temporary = index_path.with_name(f"{index_path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as db:
            _fill_index(db, source, end, limits)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, index_path)
    finally:
        temporary.unlink(missing_ok=True)


def _fill_index(db: sqlite3.Connection, source: BinaryIO, end: _End, limits: Limits) -> None:
    """The directory goes into a temporary table, which is then sorted twice: by offset
    to find overlaps, by name to number the entries. Sorting happens in SQLite's files,
    not in memory.
    """
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
        db.execute(f"PRAGMA {pragma}")
    db.executescript(_SCHEMA)
    db.execute("BEGIN")
    reader = _DirectoryReader(source, end, limits)
    db.executemany("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?)", reader.rows())
    _refuse_overlaps(db)
    # SQLite numbers rows from the highest one on: row -1 makes the first one 0, in half
    # the time of row_number().
    db.execute("INSERT INTO entries VALUES (-1, '', 0, 0, 0, 0, 0, 0)")
    db.execute(
        "INSERT INTO entries SELECT NULL, name, offset, compressed, size, method,"
        " flags, crc FROM found ORDER BY name"
    )
    db.execute("DELETE FROM entries WHERE number = -1")
    try:
        db.execute("CREATE UNIQUE INDEX entries_name ON entries (name)")
    except sqlite3.IntegrityError:
        _refuse_duplicates(db)
    (count,) = db.execute("SELECT count(*) FROM entries").fetchone()
    meta = {
        "version": INDEX_VERSION,
        "source_size": source.seek(0, os.SEEK_END),
        "count": count,
        "total_size": reader.total_size,
        "names_guessed": reader.names_guessed,
    }
    db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    db.execute("COMMIT")


def _refuse_overlaps(db: sqlite3.Connection) -> None:
    """Entries that share bytes are how a few kilobytes unpack to terabytes."""
    free_from, before = 0, 0
    for rowid, offset, stop in db.execute("SELECT rowid, offset, stop FROM found ORDER BY offset"):
        if offset < free_from:
            names = [
                db.execute("SELECT name FROM found WHERE rowid = ?", (row,)).fetchone()
                for row in (before, rowid)
            ]
            raise UnsafeArchive(
                f"In the zip archive, {shown(names[0][0])} and {shown(names[1][0])}"
                " lie over each other, which no honest archive does."
                " Make the zip again from the original files."
            )
        free_from, before = stop, rowid


def _refuse_duplicates(db: sqlite3.Connection) -> NoReturn:
    (name,) = db.execute(
        "SELECT name FROM found GROUP BY name HAVING count(*) > 1 LIMIT 1"
    ).fetchone()
    raise UnsafeArchive(
        f"The zip archive holds two entries named {shown(name)}; which of them counts"
        " cannot be known. Make the zip again from the original files."
    )


# Reading the end record and the directory.


def _find_end(source: BinaryIO) -> _End:
    """Find and check the end record, in the last 64 KiB; raises `SourceError`."""
    file_size = source.seek(0, os.SEEK_END)
    tail_start = max(0, file_size - _END.size - _MAX16)
    source.seek(tail_start)
    tail = source.read(file_size - tail_start)
    found = _end_in(tail)
    if found < 0:
        _refuse_without_end(source)
    at = tail_start + found
    _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, found)
    stop, zip64 = at, False
    if (record := _end64(source, at)) is not None:
        stop, disk, first_disk, count, size, offset = record
        zip64 = True
    if disk or first_disk:
        raise TruncatedArchive(
            "This is one part of a zip archive that was split over several files."
            " Join them into one zip file, and import that."
        )
    if min(count, size, offset) < 0 or offset + size > stop:
        raise TruncatedArchive(
            "The zip archive is incomplete: its directory lies outside of the file."
            " Upload or copy it again."
        )
    return _End(stop - size, size, count, zip64, shift=stop - size - offset)


def _end_in(tail: bytes) -> int:
    """Position of the end record in `tail`, -1 if there is none.

    A comment may hold the signature too, so the last one whose comment ends with the
    file is preferred; else there are bytes after the archive, and the last that fits is
    it.
    """
    fits, at = -1, len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at + 3 if at < len(tail) else at)) >= 0:
        if at + _END.size <= len(tail):
            stop = at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little")
            if stop == len(tail):
                return at
            if stop < len(tail) and fits < 0:
                fits = at
    return fits


def _end64(source: BinaryIO, end_at: int) -> tuple[int, int, int, int, int, int] | None:
    """The zip64 end record before the end record at `end_at`: where it stands, its two
    disk numbers, count, size, offset. None if there is none.
    """
    if end_at < _LOCATOR64.size + _END64.size:
        return None
    source.seek(end_at - _LOCATOR64.size)
    magic, _, offset, disks = _LOCATOR64.unpack(source.read(_LOCATOR64.size))
    if magic != b"PK\6\7":
        return None
    # It usually stands right before its locator; what the locator says is off by
    # whatever was put in front of the archive.
    for at in (end_at - _LOCATOR64.size - _END64.size, offset):
        if not 0 <= at <= end_at - _LOCATOR64.size - _END64.size:
            continue
        source.seek(at)
        fields = _END64.unpack(source.read(_END64.size))
        if fields[0] == b"PK\6\6":
            _, _, disk, first_disk, _, count, size, directory = fields
            return at, disk or disks > 1, first_disk, count, size, directory
    raise DamagedArchive(
        "The zip archive is damaged: its zip64 end record is not where it should be."
        " Make it again, or copy it again from where it came."
    )


def _refuse_without_end(source: BinaryIO) -> NoReturn:
    source.seek(0)
    head = source.read(4)
    if head == b"PK\3\4":
        raise TruncatedArchive
    if not head:
        raise NotAnArchive("The file is empty. Upload or copy it again.")
    kind = next((k for magic, k in _OTHER_KINDS.items() if head.startswith(magic)), "")
    looks = f" but looks like {kind}" if kind else ""
    raise NotAnArchive(f"The file is not a zip archive{looks}. Choose the export's zip.")


class _DirectoryReader:
    """Streams the central directory once; `total_size` and `names_guessed` hold
    afterwards.
    """

    def __init__(self, source: BinaryIO, end: _End, limits: Limits) -> None:
        self._source = source
        self._end = end
        self._limits = limits
        self.total_size = 0
        self.names_guessed = 0

    def rows(self) -> Iterator[tuple[str, int, int, int, int, int, int, int]]:
        """Checked entries as rows of the table `found`, in the directory's order."""
        end, packed, previous, lap = self._end, 0, 0, 0
        for fields, raw_name, extra in self._records():
            _, flags, method, crc, compressed, size, _, _, _, disk, offset = fields
            name = self._decode_name(raw_name, flags, extra)
            if ".." in name or ":" in name[:2] or name[:1] in "/" or "\0" in name:
                _refuse_unsafe_name(name)
            if _is_litter(name):
                continue
            if flags & _ENCRYPTED:
                raise EncryptedArchive(
                    f"The zip archive is encrypted ({shown(name)} is, at least)."
                    " Unpack it and zip it again without a password."
                )
            if _MAX32 in (size, compressed, offset):
                size, compressed, offset = _sizes64(name, extra, size, compressed, offset)
            if end.wrapped:
                if offset < previous:
                    lap += _LAP
                previous = offset
                offset += lap
            else:
                offset += end.shift
            stop = offset + _LOCAL_SIZE + len(raw_name) + compressed
            if stop > end.start or disk not in (0, _MAX16):
                raise TruncatedArchive(
                    f"The zip archive is incomplete: {shown(name)} lies beyond its"
                    " data. Upload or copy it again."
                )
            self.total_size += size
            packed += compressed
            self._check_sizes(name, compressed, size)
            yield name, offset, compressed, size, method, flags, crc, stop
        self._check_total_ratio(packed)

    def _records(self) -> Iterator[tuple[tuple[int, ...], bytes, bytes]]:
        """Fields, name and extra fields of every record of the directory.

        Goes by the directory's size: without zip64 the count is kept modulo 65,536 by
        some tools.
        """
        source, end = self._source, self._end
        if end.entries > self._limits.max_entries:
            self._refuse_count(end.entries)
        buffer, at, position, left, count = b"", 0, end.start, end.size, 0
        fixed, unpack = _CENTRAL.size, _CENTRAL.unpack_from
        while True:
            # The source is shared, so the position is ours to keep.
            if len(buffer) - at < fixed + 3 * _MAX16 and left:
                source.seek(position)
                block = source.read(min(_READ, left))
                buffer, at = buffer[at:] + block, 0
                position += len(block)
                left = left - len(block) if block else 0
            if at == len(buffer):
                break
            fields = unpack(buffer, at) if len(buffer) - at >= fixed else None
            if fields is None or fields[0] != b"PK\1\2":
                self._refuse_damaged(count)
            names_at = at + fixed
            extra_at = names_at + fields[6]
            comment_at = extra_at + fields[7]
            at = comment_at + fields[8]
            if at > len(buffer):
                self._refuse_damaged(count)
            count += 1
            if count > self._limits.max_entries:
                self._refuse_count(count)
            yield fields, buffer[names_at:extra_at], buffer[extra_at:comment_at]
        if count != end.entries and (end.zip64 or (count - end.entries) % (_MAX16 + 1)):
            self._refuse_damaged(count)

    def _decode_name(self, raw: bytes, flags: int, extra: bytes) -> str:
        """Names are UTF-8 where they can be, whatever the flag says: many tools forget
        to set it. The others are CP437, as the format has it, and counted as guessed.
        """
        if len(raw) > NAME_LIMIT:
            raise UnsafeArchive(
                f"The zip archive holds a name of {len(raw):,} bytes"
                f" ({shown(raw[:60].decode('ascii', 'replace'))}); more than"
                f" {NAME_LIMIT:,} is no file's name. Make the zip again."
            )
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            name = ""
        if not name or (b"up" in extra and not flags & _UTF8 and not name.isascii()):
            name = _unicode_path(raw, extra) or name
        if not name and raw:
            self.names_guessed += 1
            name = raw.decode("cp437")
        return name.replace("\\", "/")

    def _check_sizes(self, name: str, compressed: int, size: int) -> None:
        limits = self._limits
        if size > limits.max_entry_bytes:
            raise ArchiveTooLarge(
                f"{shown(name)} in the zip archive unpacks to {size:,} bytes; allowed"
                f" are {limits.max_entry_bytes:,} (IMPORTOPS_MAX_ENTRY_BYTES)."
            )
        if size > RATIO_FREE and size > compressed * limits.max_ratio:
            raise ArchiveTooLarge(
                f"{shown(name)} in the zip archive unpacks from {compressed:,} bytes to"
                f" {size:,}, more than {limits.max_ratio} times as many"
                " (IMPORTOPS_MAX_RATIO); this is how zip bombs look."
            )
        if self.total_size > limits.max_total_bytes:
            raise ArchiveTooLarge(
                "The zip archive unpacks to more than"
                f" {limits.max_total_bytes:,} bytes (IMPORTOPS_MAX_TOTAL_BYTES)."
            )

    def _check_total_ratio(self, packed: int) -> None:
        ratio = self._limits.max_ratio
        if self.total_size > RATIO_FREE and self.total_size > packed * ratio:
            raise ArchiveTooLarge(
                f"The zip archive unpacks from {packed:,} bytes to {self.total_size:,},"
                f" more than {ratio} times as many (IMPORTOPS_MAX_RATIO);"
                " this is how zip bombs look."
            )

    def _refuse_count(self, count: int) -> NoReturn:
        raise ArchiveTooLarge(
            f"The zip archive holds {count:,} entries or more; allowed are"
            f" {self._limits.max_entries:,} (IMPORTOPS_MAX_ENTRIES)."
        )

    def _refuse_damaged(self, count: int) -> NoReturn:
        raise DamagedArchive(
            f"The zip archive is damaged: its directory cannot be read after {count:,}"
            f" of {self._end.entries:,} entries."
            " Make it again, or copy it again from where it came."
        )


def _is_litter(name: str) -> bool:
    """Whether `name` is a directory, or something a desktop leaves in every folder."""
    if name.endswith(_LITTER) and name.rpartition("/")[2] in ("", *_LITTER):
        return True
    return "__MACOSX/" in name and "__MACOSX" in name.split("/")[:-1]


def _refuse_unsafe_name(name: str) -> None:
    """Raises for the names that `rows` thought worth a look, unless they are harmless
    (`a..b`).
    """
    if not name:
        what = "has no name"
    elif "\0" in name:
        what = "has a NUL in its name"
    elif name.startswith("/"):
        what = "has an absolute path"
    elif _DRIVE.match(name):
        what = "names a drive"
    elif _CLIMBS.search(name):
        what = "points out of its folder"
    else:
        return
    raise UnsafeArchive(
        f"An entry of the zip archive {what}: {shown(name)}. No export is made like"
        " that; zip the original files again."
    )


def _sizes64(
    name: str, extra: bytes, size: int, compressed: int, offset: int
) -> tuple[int, int, int]:
    """Size, compressed size and offset, those at their maximum taken from the zip64
    extra field.
    """
    field = _extra_field(extra, 1)
    at, values = 0, [size, compressed, offset]
    for i, value in enumerate(values):
        if value != _MAX32:
            continue
        values[i] = int.from_bytes(field[at : at + 8], "little", signed=True)
        at += 8
    if at > len(field) or min(values) < 0:
        raise DamagedArchive(
            f"The zip archive is damaged: the sizes of {shown(name)} are missing from"
            " its directory. Make it again, or copy it again from where it came."
        )
    return values[0], values[1], values[2]


def _unicode_path(raw: bytes, extra: bytes) -> str:
    """The name in Info-ZIP's Unicode path field (0x7075), if it is there and belongs to
    `raw`.
    """
    field = _extra_field(extra, 0x7075)
    if field[:1] != b"\1" or int.from_bytes(field[1:5], "little") != zlib.crc32(raw):
        return ""
    try:
        return field[5:].decode()
    except UnicodeDecodeError:
        return ""


def _extra_field(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if kind == wanted:
            return extra[at : at + length]
        at += length
    return b""


def shown(name: str) -> str:
    """`name` as it may stand in a sentence or on a terminal: escaped, not too long."""
    return repr(name if len(name) <= 120 else f"{name[:117]}...")
