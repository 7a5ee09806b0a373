"""Reading entries of an untrusted zip archive, by number, from the index of
`archive_index`.

Sizes and checksums in a zip's directory are claims; reading holds every entry to them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from importops.errors import EntryError, EntryTooLarge, SourceChanged
from importops.importers.archive_index import INDEX_VERSION, build_index, shown
from importops.importers.base import Limits

try:
    from zlib_ng import zlib_ng as zlib
except ImportError:  # no wheel for this platform: half the speed, same answers
    import zlib  # type: ignore[no-redef]

__all__ = ["Archive", "Entry", "build_index", "open_archive"]

STORED, DEFLATED = 0, 8

_LOCAL = Struct("<4s2xHH16xHH")  # signature, flags, method, name and extra lengths
_HEADER_SLACK = _LOCAL.size + 128
"""Read along with an entry's data: its local header and the usual extra fields."""
_PACKED_SLACK = 65_536
"""Bytes that honest packed data may be longer than unpacked, besides an eighth."""

_SELECT = "SELECT number, name, offset, compressed, size, method, crc FROM entries WHERE "


class Entry(NamedTuple):
    """One file in the archive, as the directory describes it; none of it proven before
    reading.
    """

    number: int
    """Its place among all entries, sorted by name."""
    name: str
    offset: int
    """Of its local header, from the start of the file."""
    compressed: int
    size: int
    method: int
    crc: int


class Archive:
    """Entries of an indexed zip archive, by number or name. Not safe to share between
    threads.

    `source` must be seekable and give as many bytes as asked for, except at its end; it
    stays the caller's to close. Raises `SourceChanged` when it is not the file that was
    indexed.
    """

    count: int
    """Entries in the index."""
    total_size: int
    """Unpacked bytes of all entries, as declared."""
    names_guessed: int
    """Names that were no UTF-8 and were read as CP437."""

    def __init__(self, source: BinaryIO, index_path: Path, limits: Limits) -> None:
        self._source = source
        self._max_entry_bytes = limits.max_entry_bytes
        self._db = _open_index(index_path)
        meta = dict(self._db.execute("SELECT key, value FROM meta"))
        self.count = meta["count"]
        self.total_size = meta["total_size"]
        self.names_guessed = meta["names_guessed"]
        if source.seek(0, os.SEEK_END) != meta["source_size"]:
            self._db.close()
            raise SourceChanged

    def close(self) -> None:
        """Let go of the index."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def entries(self, first: int = 0, last: int | None = None) -> Iterator[Entry]:
        """Entries number `first` up to, not including, `last`; sorted by name, row by
        row.
        """
        rows = self._db.execute(
            _SELECT + "number >= ? AND number < ? ORDER BY number",
            (first, self.count if last is None else last),
        )
        return map(Entry._make, rows)

    def find(self, name: str) -> Entry | None:
        """The entry with exactly this name."""
        row = self._db.execute(_SELECT + "name = ?", (name,)).fetchone()
        return None if row is None else Entry._make(row)

    def read(self, entry: Entry) -> bytes:
        """The whole entry, unpacked; never more than its declared size is held.

        Raises `EntryError`, `EntryTooLarge` when what is there is not what the
        directory says.
        """
        _, name, offset, compressed, size, method, crc = entry
        self._check_declared(entry)
        if compressed > size + size // 8 + _PACKED_SLACK:
            raise _unreadable(entry, "its packed data is longer than what it holds")
        source = self._source
        source.seek(offset)
        block = source.read(compressed + len(name) + _HEADER_SLACK)
        start = _data_start(entry, block)
        data = block[start : start + compressed]
        if len(data) < compressed:  # an unusually long header
            source.seek(offset + start)
            data = source.read(compressed)
            if len(data) < compressed:
                raise _unreadable(entry, "its data goes beyond the end of the file")
        if method == DEFLATED:
            inflater = zlib.decompressobj(-15)
            try:
                data = inflater.decompress(data, size + 1)
            except _inflate_error as error:
                raise _unreadable(entry, "its packed data is damaged") from error
            if not inflater.eof and len(data) <= size:
                raise _unreadable(entry, "its packed data is cut off")
        if len(data) > size:
            raise _too_large(entry)
        if len(data) < size:
            raise _unreadable(entry, f"it holds {len(data):,} bytes of {size:,}")
        if zlib.crc32(data) != crc:
            raise _unreadable(entry, "its checksum is wrong")
        return data

    def stream(self, entry: Entry, chunk: int = 256 * 1024) -> Iterator[bytes]:
        """The entry unpacked, in pieces of at most `chunk` bytes, in bounded memory.

        Raises as `read` does; size and checksum are known to be wrong only at the end,
        after pieces were given. More than the declared size is never given.
        """
        self._check_declared(entry)
        produced, crc = 0, 0
        for piece in self._pieces(entry, chunk):
            produced += len(piece)
            if produced > entry.size:
                raise _too_large(entry)
            crc = zlib.crc32(piece, crc)
            yield piece
        if produced < entry.size:
            raise _unreadable(entry, f"it holds {produced:,} bytes of {entry.size:,}")
        if crc != entry.crc:
            raise _unreadable(entry, "its checksum is wrong")

    def _pieces(self, entry: Entry, chunk: int) -> Iterator[bytes]:
        if entry.method == STORED:
            yield from self._packed(entry, chunk)
            return
        inflater = zlib.decompressobj(-15)
        # Small pieces in: what the inflater has not used yet is copied at each turn.
        for packed in self._packed(entry, min(chunk, 65_536)):
            while True:
                try:
                    piece = inflater.decompress(packed, chunk)
                except _inflate_error as error:
                    raise _unreadable(entry, "its packed data is damaged") from error
                if piece:
                    yield piece
                if inflater.eof:
                    return
                packed = inflater.unconsumed_tail
                # A full piece may have more behind it even when all input was taken.
                if not packed and len(piece) < chunk:
                    break
        raise _unreadable(entry, "its packed data is cut off")

    def _packed(self, entry: Entry, chunk: int) -> Iterator[bytes]:
        """The entry's bytes as they are in the file. Seeks each time: the source is
        shared.
        """
        self._source.seek(entry.offset)
        header = self._source.read(_LOCAL.size)
        at = entry.offset + _data_start(entry, header)
        left = entry.compressed
        while left:
            self._source.seek(at)
            packed = self._source.read(min(chunk, left))
            if not packed:
                raise _unreadable(entry, "its data goes beyond the end of the file")
            at += len(packed)
            left -= len(packed)
            yield packed

    def _check_declared(self, entry: Entry) -> None:
        if entry.size > self._max_entry_bytes:
            raise EntryTooLarge(
                f"{shown(entry.name)} unpacks to {entry.size:,} bytes; allowed are"
                f" {self._max_entry_bytes:,} (IMPORTOPS_MAX_ENTRY_BYTES)."
            )
        if entry.method not in (STORED, DEFLATED):
            raise _unreadable(
                entry,
                f"it is packed by method {entry.method}, and only stored and deflated"
                " entries can be read; zip the files again with an ordinary tool",
            )


_inflate_error: type[Exception] = zlib.error  # type: ignore[assignment]


def open_archive(source: BinaryIO, index_path: Path, limits: Limits) -> Archive:
    """The archive in `source`; its index is built first unless `index_path` holds one.

    Raises `SourceError` when building fails, `SourceChanged` when the index is another
    file's.
    """
    if not _is_index(index_path):
        build_index(source, index_path, limits)
    return Archive(source, index_path, limits)


def _open_index(index_path: Path) -> sqlite3.Connection:
    # Immutable: it is never written after it got its name, so no locks and no journals.
    uri = f"{index_path.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True)


def _is_index(index_path: Path) -> bool:
    """Whether `index_path` is an index that this version of the code has written."""
    if not index_path.exists():
        return False
    query = "SELECT value FROM meta WHERE key = 'version'"
    try:
        with closing(_open_index(index_path)) as db:
            return bool(db.execute(query).fetchone() == (INDEX_VERSION,))
    except sqlite3.DatabaseError:
        return False


def _data_start(entry: Entry, header: bytes) -> int:
    """Where the data begins, counted from the local header; raises `EntryError`."""
    if len(header) < _LOCAL.size:
        raise _unreadable(entry, "it begins beyond the end of the file")
    magic, flags, method, name_length, extra_length = _LOCAL.unpack_from(header)
    if magic != b"PK\3\4":
        raise _unreadable(entry, "its header is not where the directory says")
    if method != entry.method or flags & 1:
        raise _unreadable(entry, "its header contradicts the directory")
    return _LOCAL.size + int(name_length) + int(extra_length)


def _unreadable(entry: Entry, why: str) -> EntryError:
    return EntryError(f"{shown(entry.name)} cannot be read: {why}.")


def _too_large(entry: Entry) -> EntryTooLarge:
    return EntryTooLarge(
        f"{shown(entry.name)} unpacks to more than the {entry.size:,} bytes that the"
        " directory of the zip archive gives."
    )
