"""Zips that no tool writes are built by hand here, so that the odd byte is visible."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from importops.errors import (
    ArchiveTooLarge,
    DamagedArchive,
    EncryptedArchive,
    EntryError,
    EntryTooLarge,
    NotAnArchive,
    SourceChanged,
    SourceError,
    TruncatedArchive,
    UnsafeArchive,
)
from importops.importers.archive import Archive, Entry, build_index, open_archive
from importops.importers.base import Limits

DAY = b'[{"type": "message", "text": "hi", "ts": "1.000100"}]'


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@dataclass
class Odd:
    """One entry; whatever is not given is what an honest tool would write."""

    name: bytes = b"general/2024-01-02.json"
    data: bytes = DAY
    method: int = 8
    flags: int = 0
    crc: int | None = None
    size: int | None = None
    packed: bytes | None = None
    compressed: int | None = None
    offset: int | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    local_method: int | None = None
    disk: int = 0

    def payload(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == 8 else self.data

    def local(self) -> bytes:
        fixed = struct.pack(
            "<4s5H3L2H",
            b"PK\3\4",
            20,
            self.flags,
            self.method if self.local_method is None else self.local_method,
            0,
            0,
            # As with a data descriptor: only the directory knows.
            *((0, 0, 0) if self.flags & 8 else self.described()),
            len(self.name),
            len(self.local_extra),
        )
        descriptor = b"PK\7\x08" + struct.pack("<3L", *self.described())
        tail = descriptor if self.flags & 8 else b""
        return fixed + self.name + self.local_extra + self.payload() + tail

    def central(self, offset: int) -> bytes:
        fixed = struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\1\2", 20, 20, self.flags, self.method, 0, 0),
            *self.described(),
            *(len(self.name), len(self.extra), 0, self.disk, 0, 0),
            offset if self.offset is None else self.offset,
        )
        return fixed + self.name + self.extra

    def described(self) -> tuple[int, int, int]:
        return (
            zlib.crc32(self.data) if self.crc is None else self.crc,
            len(self.payload()) if self.compressed is None else self.compressed,
            len(self.data) if self.size is None else self.size,
        )


def end_record(count: int, size: int, offset: int, *, disk: int = 0, comment: bytes = b"") -> bytes:
    fixed = struct.pack(
        "<4s4H2LH",
        *(b"PK\5\6", disk, disk, count & 0xFFFF, count & 0xFFFF, size, offset),
        len(comment),
    )
    return fixed + comment


def end_record64(count: int, size: int, offset: int) -> bytes:
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1)
    return record + locator + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def odd_zip(
    *entries: Odd,
    end: Callable[[int, int, int], bytes] = end_record,
) -> bytes:
    body, directory = b"", b""
    for entry in entries:
        directory += entry.central(len(body))
        body += entry.local()
    return body + directory + end(len(entries), len(directory), len(body))


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Archive]:
    """Index these bytes, and open them."""

    def open_bytes(data: bytes | BinaryIO, limits: Limits | None = None) -> Archive:
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        limits = limits or Limits()
        build_index(source, tmp_path / "index", limits)
        return Archive(source, tmp_path / "index", limits)

    return open_bytes


Opened = Callable[..., Archive]


def names(archive: Archive) -> list[str]:
    return [entry.name for entry in archive.entries()]


def only(archive: Archive) -> Entry:
    (entry,) = archive.entries()
    return entry


class Pieces(io.BytesIO):
    """Remembers the longest read."""

    longest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.longest = max(self.longest, len(data))
        return data


# The index.


def test_it_numbers_entries_by_name_and_reads_them(opened: Opened) -> None:
    files = {
        "users.json": b"[]",
        "general/2024-01-02.json": DAY,
        "general/2024-01-01.json": DAY * 500,
        "general-2/2024-01-01.json": b"",
    }
    with opened(zip_of(files)) as archive:
        assert names(archive) == sorted(files)
        assert [entry.number for entry in archive.entries()] == [0, 1, 2, 3]
        assert archive.count == 4
        assert archive.total_size == sum(map(len, files.values()))
        for entry in archive.entries():
            assert archive.read(entry) == files[entry.name]
            assert b"".join(archive.stream(entry, 100)) == files[entry.name]


def test_it_gives_a_range_and_allows_other_queries_meanwhile(opened: Opened) -> None:
    with opened(zip_of({f"{i:03}": b"%d" % i for i in range(100)})) as archive:
        for entry in archive.entries(20, 30):
            assert archive.find(entry.name) == entry
            assert archive.read(entry) == b"%d" % entry.number
        assert [e.number for e in archive.entries(98)] == [98, 99]
        assert archive.find("nowhere") is None


def test_directories_and_litter_are_left_out(opened: Opened) -> None:
    litter = ("a/", "__MACOSX/a/._b.json", "x/__MACOSX/y", ".DS_Store", "a/.DS_Store")
    kept = ("a/b.json", "a/my.DS_Store", "not__MACOSX/c")
    files = dict.fromkeys((*litter, "a/Thumbs.db", *kept), b"1")
    with opened(zip_of(files)) as archive:
        assert names(archive) == sorted(kept)
        assert archive.total_size == 3


def test_an_empty_zip_has_no_entries(opened: Opened) -> None:
    with opened(zip_of({})) as archive:
        assert archive.count == 0
        assert list(archive.entries()) == []


def test_the_index_is_reused_and_replaced_when_it_is_none(tmp_path: Path) -> None:
    source, index = io.BytesIO(zip_of({"a": b"1"})), tmp_path / "index"
    index.write_bytes(b"half an index from somewhere else")
    with open_archive(source, index, Limits()) as archive:
        assert archive.count == 1
    written = index.stat().st_ino
    with open_archive(source, index, Limits()) as archive:
        assert archive.read(only(archive)) == b"1"
    assert index.stat().st_ino == written
    assert list(tmp_path.glob("index*")) == [index]


def test_a_source_of_another_size_has_changed(tmp_path: Path) -> None:
    build_index(io.BytesIO(zip_of({"a": b"1"})), tmp_path / "index", Limits())
    with pytest.raises(SourceChanged):
        open_archive(io.BytesIO(zip_of({"bb": b"1"})), tmp_path / "index", Limits())


def test_a_refused_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchive):
        bad = io.BytesIO(odd_zip(Odd(name=b"../x")))
        build_index(bad, tmp_path / "index", Limits())
    assert list(tmp_path.glob("index*")) == []


# Shapes of zip that honest tools write.


def test_zip64_end_record_and_sizes(opened: Opened) -> None:
    packed = deflate(DAY)
    local = Odd(name=b"first").local()
    entry = Odd(
        size=0xFFFFFFFF,
        compressed=0xFFFFFFFF,
        offset=0xFFFFFFFF,
        extra=b"UT\2\0ok" + struct.pack("<HHQQQ", 1, 24, len(DAY), len(packed), len(local)),
    )
    with opened(odd_zip(Odd(name=b"first"), entry, end=end_record64)) as archive:
        assert [archive.read(e) for e in archive.entries()] == [DAY, DAY]


def test_zip64_as_python_writes_it(opened: Opened) -> None:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.json", "w", force_zip64=True) as member,
    ):
        member.write(DAY)
    with opened(b"#!/bin/sh\n" + buffer.getvalue()) as read:
        assert read.read(only(read)) == DAY


def test_zip64_sizes_that_are_missing_are_damage(opened: Opened) -> None:
    with pytest.raises(DamagedArchive, match="sizes of 'general/2024"):
        opened(odd_zip(Odd(size=0xFFFFFFFF, extra=struct.pack("<HHL", 1, 4, 9))))


def test_zip64_sizes_beyond_63_bits_are_damage(opened: Opened) -> None:
    extra = struct.pack("<HHQ", 1, 8, 2**63)
    with pytest.raises(DamagedArchive):
        opened(odd_zip(Odd(size=0xFFFFFFFF, extra=extra)))


@pytest.mark.parametrize("method", [0, 8])
def test_a_data_descriptor_after_the_data(opened: Opened, method: int) -> None:
    with opened(odd_zip(Odd(flags=8, method=method), Odd(name=b"b"))) as archive:
        assert [archive.read(e) for e in archive.entries()] == [DAY, DAY]
        assert [*archive.stream(next(archive.entries()))] == [DAY]


def test_bytes_before_the_archive(opened: Opened) -> None:
    with opened(b"MZ a program that unpacks itself" + odd_zip(Odd())) as archive:
        assert archive.read(only(archive)) == DAY
    with opened(b"MZ" * 999 + odd_zip(Odd(), end=end_record64)) as archive:
        assert archive.read(only(archive)) == DAY


def test_bytes_after_the_archive(opened: Opened) -> None:
    with opened(odd_zip(Odd()) + b"\0" * 500) as archive:
        assert archive.read(only(archive)) == DAY


def test_a_comment_that_holds_an_end_record(opened: Opened) -> None:
    fake = end_record(0, 0, 0)

    def end(count: int, size: int, offset: int) -> bytes:
        return end_record(count, size, offset, comment=fake + b"so much for that")

    with opened(odd_zip(Odd(), end=end)) as archive:
        assert archive.read(only(archive)) == DAY


def test_a_long_local_extra_field(opened: Opened) -> None:
    entry = Odd(local_extra=b"x" * 60_000)
    with opened(odd_zip(entry, Odd(name=b"z"))) as archive:
        assert [archive.read(e) for e in archive.entries()] == [DAY, DAY]


def test_more_than_65535_entries_with_and_without_zip64(opened: Opened) -> None:
    many = [Odd(name=b"%06d" % i, method=0, data=b"") for i in range(65_537)]
    body = [entry.local() for entry in many]
    offsets = range(0, sum(map(len, body)), len(body[0]))
    directory = [e.central(o) for e, o in zip(many, offsets, strict=True)]
    zipped = b"".join(body + directory)
    sizes = len(many), sum(map(len, directory)), sum(map(len, body))
    for end in (end_record, end_record64):  # the first keeps the count modulo 65,536
        with opened(zipped + end(*sizes)) as archive:
            assert archive.count == 65_537
            last = archive.find("065536")
            assert last is not None
            assert archive.read(last) == b""


def test_offsets_beyond_4_gib_without_zip64(opened: Opened, tmp_path: Path) -> None:
    """macOS zips a large folder like this: all offsets modulo 4 GiB."""
    first, second = Odd(name=b"a"), Odd(name=b"b")
    lap = 2**32
    path = tmp_path / "sparse.zip"
    with path.open("wb") as file:
        file.seek(1000)
        file.write(first.local())
        file.seek(lap + 7)
        file.write(second.local())
        at = file.tell()
        directory = first.central(1000) + second.central(7)
        file.write(directory + end_record(2, len(directory), at - lap))
    with path.open("rb") as source, opened(source) as archive:
        assert [archive.read(e) for e in archive.entries()] == [DAY, DAY]


# Names.


@pytest.mark.parametrize("flags", [0, 0x800])
def test_names_are_utf8_with_and_without_the_flag(opened: Opened, flags: int) -> None:
    with opened(odd_zip(Odd(name="zoë/日.json".encode(), flags=flags))) as archive:
        assert names(archive) == ["zoë/日.json"]
        assert archive.names_guessed == 0


def test_names_that_are_no_utf8_are_cp437_and_counted(opened: Opened) -> None:
    with opened(odd_zip(Odd(name="zoë".encode("cp437")), Odd(name=b"b"))) as archive:
        assert names(archive) == ["b", "zoë"]
        assert archive.names_guessed == 1


def test_the_unicode_path_field_wins_over_a_guess(opened: Opened) -> None:
    raw = "zoë".encode("cp437")
    field = b"\1" + struct.pack("<L", zlib.crc32(raw)) + "żoë".encode()
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    with opened(odd_zip(Odd(name=raw, extra=extra))) as archive:
        assert names(archive) == ["żoë"]
        assert archive.names_guessed == 0
    stale = extra.replace(struct.pack("<L", zlib.crc32(raw)), b"\0\0\0\0")
    with opened(odd_zip(Odd(name=raw, extra=stale))) as archive:
        assert names(archive) == ["zoë"]


def test_the_unicode_path_field_is_checked_like_any_name(opened: Opened) -> None:
    raw = b"\x94"
    field = b"\1" + struct.pack("<L", zlib.crc32(raw)) + b"../x"
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    with pytest.raises(UnsafeArchive):
        opened(odd_zip(Odd(name=raw, extra=extra)))


def test_backslashes_are_separators(opened: Opened) -> None:
    with opened(odd_zip(Odd(name=b"general\\2024-01-02.json"))) as archive:
        assert names(archive) == ["general/2024-01-02.json"]


@pytest.mark.parametrize("name", [b"a..b/c", b"...", b"..a", b"a/b..", b"ab:c"])
def test_dots_and_colons_alone_do_no_harm(opened: Opened, name: bytes) -> None:
    with opened(odd_zip(Odd(name=name))) as archive:
        assert names(archive) == [name.decode()]


@pytest.mark.parametrize(
    "name",
    [
        b"..",
        b"../x",
        b"a/../../x",
        b"a/..",
        b"..\\x",
        b"/etc/passwd",
        b"\\\\host\\share",
        b"C:\\x",
        b"c:x",
        b"a\0.json",
        b"",
        b"../",
        b"__MACOSX/../../x",
    ],
)
def test_names_that_point_elsewhere_are_refused(opened: Opened, name: bytes) -> None:
    shown = repr(name.decode().replace("\\", "/"))
    with pytest.raises(UnsafeArchive, match=re.escape(shown)):
        opened(odd_zip(Odd(name=name)))


def test_a_name_in_an_error_is_escaped_and_short(opened: Opened) -> None:
    with pytest.raises(UnsafeArchive) as caught:
        opened(odd_zip(Odd(name=b"/\x1b[2J" + b"x" * 2000)))
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 300


def test_a_name_longer_than_any_path_is_refused(opened: Opened) -> None:
    with pytest.raises(UnsafeArchive, match=r"5,000 bytes"):
        opened(odd_zip(Odd(name=b"x" * 5000)))


# Archives that are refused as a whole.


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"PK", "is not a zip"),
        (b"\x1f\x8b\x08\0rest", "looks like a gzip"),
        (b"<!DOCTYPE html>", "looks like a web page"),
        (b"x" * 100_000, "is not a zip"),
    ],
)
def test_what_is_not_a_zip(opened: Opened, data: bytes, words: str) -> None:
    with pytest.raises(NotAnArchive, match=words):
        opened(data)


def test_a_zip_without_its_end_is_truncated(opened: Opened) -> None:
    with pytest.raises(TruncatedArchive):
        opened(odd_zip(Odd())[:-30])


def test_a_directory_outside_of_the_file_is_truncation(opened: Opened) -> None:
    with pytest.raises(TruncatedArchive, match="directory lies outside"):
        opened(odd_zip(Odd())[120:])


def test_an_entry_beyond_the_end_is_truncation(opened: Opened) -> None:
    with pytest.raises(TruncatedArchive, match="lies beyond its data"):
        opened(odd_zip(Odd(compressed=99_999)))
    with pytest.raises(TruncatedArchive, match="lies beyond its data"):
        opened(odd_zip(Odd(offset=99_999)))


def test_one_part_of_a_split_archive_is_refused(opened: Opened) -> None:
    def end(count: int, size: int, offset: int) -> bytes:
        return end_record(count, size, offset, disk=2)

    with pytest.raises(TruncatedArchive, match="split"):
        opened(odd_zip(Odd(), end=end))


def test_a_directory_that_is_garbage_is_damage(opened: Opened) -> None:
    zipped = odd_zip(Odd(), Odd(name=b"b")).replace(b"PK\1\2", b"PK\1\3")
    with pytest.raises(DamagedArchive, match="after 0 of 2 entries"):
        opened(zipped)


def test_a_count_that_is_not_the_directorys_is_damage(opened: Opened) -> None:
    def end(count: int, size: int, offset: int) -> bytes:
        return end_record(count + 1, size, offset)

    with pytest.raises(DamagedArchive):
        opened(odd_zip(Odd(), end=end))


@pytest.mark.parametrize("flags", [1, 0x40, 0x2001])
def test_an_encrypted_entry_refuses_the_archive(opened: Opened, flags: int) -> None:
    with pytest.raises(EncryptedArchive, match="without a password"):
        opened(odd_zip(Odd(name=b"fine"), Odd(flags=flags)))


def test_overlapping_entries_are_refused(opened: Opened) -> None:
    """A bomb of the kind that has many directory records for the same bytes."""
    first = Odd(name=b"a", data=b"\0" * 500_000)
    with pytest.raises(UnsafeArchive, match="'a' and 'b' lie over each other"):
        opened(odd_zip(first, Odd(name=b"b", offset=0)))
    with pytest.raises(UnsafeArchive, match="lie over each other"):
        opened(odd_zip(first, Odd(name=b"b", offset=31)))


def test_entries_that_touch_do_not_overlap(opened: Opened) -> None:
    entries = [Odd(name=b"%d" % i, method=0) for i in range(3)]
    with opened(odd_zip(*entries)) as archive:
        assert archive.count == 3


@pytest.mark.parametrize("second", [b"a/b", b"a\\b"])
def test_two_entries_of_one_name_are_refused(opened: Opened, second: bytes) -> None:
    with pytest.raises(UnsafeArchive, match="two entries named 'a/b'"):
        opened(odd_zip(Odd(name=b"a/b"), Odd(name=b"c"), Odd(name=second)))


ZEROS = Odd(name=b"zeros", data=b"\0" * 3 * 1024**2)


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (Limits(max_entries=1), "IMPORTOPS_MAX_ENTRIES"),
        (Limits(max_entry_bytes=2 * 1024**2), "IMPORTOPS_MAX_ENTRY_BYTES"),
        (
            Limits(max_total_bytes=3 * 1024**2, max_ratio=2000),
            "IMPORTOPS_MAX_TOTAL_BYTES",
        ),
        (Limits(max_ratio=50), "IMPORTOPS_MAX_RATIO"),
    ],
)
def test_limits_are_named(opened: Opened, limits: Limits, setting: str) -> None:
    with pytest.raises(ArchiveTooLarge, match=setting):
        opened(odd_zip(ZEROS, Odd()), limits)
    roomy = Limits(2, 3 * 1024**2, 3 * 1024**2 + len(DAY), 2000)
    with opened(odd_zip(ZEROS, Odd()), roomy) as archive:
        assert archive.count == 2


def test_many_small_bombs_are_one_bomb(opened: Opened) -> None:
    small = [Odd(name=b"%d" % i, data=b"\0" * 900_000) for i in range(4)]
    with pytest.raises(ArchiveTooLarge, match="IMPORTOPS_MAX_RATIO"):
        opened(odd_zip(*small))


def test_an_end_record_cannot_hide_entries_from_the_limit(opened: Opened) -> None:
    def end(count: int, size: int, offset: int) -> bytes:
        return end_record(0, size, offset)

    with pytest.raises(ArchiveTooLarge, match="IMPORTOPS_MAX_ENTRIES"):
        opened(odd_zip(Odd(name=b"a"), Odd(name=b"b"), end=end), Limits(max_entries=1))


# Entries that cannot be read; the archive can.


def both_fail(archive: Archive, entry: Entry, error: type[EntryError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        archive.read(entry)
    assert repr(entry.name) in caught.value.message
    with pytest.raises(error, match=words):
        for piece in archive.stream(entry, 1000):
            assert len(piece) <= 1000


@pytest.mark.parametrize(
    ("entry", "error", "words"),
    [
        (Odd(crc=1), EntryError, "checksum"),
        (Odd(crc=1, method=0), EntryError, "checksum"),
        (Odd(size=len(DAY) + 1), EntryError, "holds 53 bytes of 54"),
        (Odd(size=len(DAY) + 1, method=0), EntryError, "holds 53 bytes of 54"),
        (Odd(size=len(DAY) - 1), EntryTooLarge, "more than the 52 bytes"),
        (Odd(size=len(DAY) - 1, method=0), EntryTooLarge, "more than the 52"),
        (Odd(size=0), EntryTooLarge, "more than the 0 bytes"),
        (Odd(packed=deflate(DAY)[:-2]), EntryError, "cut off|holds"),
        (Odd(packed=b"\xff" * 40), EntryError, "damaged"),
        (Odd(packed=b""), EntryError, "cut off"),
        (Odd(method=12), EntryError, "method 12"),
        (Odd(local_method=0), EntryError, "contradicts"),
    ],
)
def test_an_entry_that_lies_fails_alone(
    opened: Opened, entry: Odd, error: type[EntryError], words: str
) -> None:
    with opened(odd_zip(entry, Odd(name=b"z"))) as archive:
        lying, honest = archive.entries()
        both_fail(archive, lying, error, words)
        assert archive.read(honest) == DAY


def test_an_entry_that_is_not_where_the_directory_says(opened: Opened) -> None:
    roomy = Odd(name=b"a", local_extra=b"room to point at")
    lost = Odd(name=b"lost", offset=len(roomy.local()) - 1)
    with opened(odd_zip(roomy, lost)) as archive:
        _, entry = archive.entries()
        both_fail(archive, entry, EntryError, "header is not where")


def test_a_local_header_that_says_encrypted(opened: Opened) -> None:
    zipped = bytearray(odd_zip(Odd()))
    zipped[6] |= 1
    with opened(bytes(zipped)) as archive:
        both_fail(archive, only(archive), EntryError, "contradicts")


def test_a_local_extra_field_that_pushes_the_data_out(opened: Opened) -> None:
    zipped = bytearray(odd_zip(Odd(method=0)))
    zipped[28:30] = b"\xff\xff"
    with opened(bytes(zipped)) as archive:
        both_fail(archive, only(archive), EntryError, "end of the file")


def test_a_lying_size_stops_a_bomb_at_what_it_declares(opened: Opened) -> None:
    bomb = Odd(data=b"\0" * 50_000_000, size=1_000_000, crc=0)
    with opened(odd_zip(bomb), Limits(max_ratio=2000)) as archive:
        tracemalloc.start()
        both_fail(archive, only(archive), EntryTooLarge, "more than the 1,000,000")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4_000_000


def test_packed_data_is_not_read_for_a_tiny_entry(opened: Opened) -> None:
    source = Pieces(odd_zip(Odd(packed=deflate(DAY) + b"\0" * 20_000_000)))
    with opened(source) as archive:
        source.longest = 0
        with pytest.raises(EntryError, match="longer than what it holds"):
            archive.read(only(archive))
        assert source.longest == 0


def test_limits_of_today_hold_for_an_older_index(opened: Opened) -> None:
    zipped = io.BytesIO(odd_zip(ZEROS))
    with opened(zipped, Limits(max_ratio=2000)) as archive:
        archive._max_entry_bytes = 1000
        both_fail(archive, only(archive), EntryTooLarge, "IMPORTOPS_MAX_ENTRY_BYTES")


def test_streams_and_reads_may_take_turns(opened: Opened) -> None:
    texts = [bytes(str([*range(i, 40_000)]), "ascii") for i in range(3)]
    entries = [Odd(name=b"%d" % i, data=text) for i, text in enumerate(texts)]
    with opened(odd_zip(*entries)) as archive:
        first, second, third = archive.entries()
        pairs = zip(archive.stream(first), archive.stream(second), strict=True)
        one, two = b"", b""
        for a, b in pairs:
            one, two = one + a, two + b
            assert archive.read(third) == texts[2]
        assert [one, two] == texts[:2]


# Sizes and hostile bytes.


def test_memory_is_flat_in_the_number_of_entries(opened: Opened) -> None:
    count = 60_000
    entry = Odd(name=b"room/000000.json", method=0, data=b"[]")
    local, central = entry.local(), entry.central(0)[:42]
    buffer = io.BytesIO()
    for i in range(count):
        buffer.write(local.replace(b"000000", b"%06d" % (i * 7 % count)))
    at = buffer.tell()
    for i in range(count):
        name = b"room/%06d.json" % (i * 7 % count)
        buffer.write(central + struct.pack("<L", i * len(local)) + name)
    buffer.write(end_record64(count, buffer.tell() - at, at))
    tracemalloc.start()
    with opened(buffer) as archive:
        assert archive.count == count
        assert sum(1 for _ in archive.entries()) == count
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000  # mostly two buffers of the directory


def survives(data: bytes, index: Path) -> None:
    """Only our own errors come out, of the index or of an entry."""
    limits = Limits(max_entry_bytes=1_000_000)
    try:
        build_index(io.BytesIO(data), index, limits)
    except SourceError:
        return
    with Archive(io.BytesIO(data), index, limits) as archive:
        for entry in archive.entries():
            whole: list[bytes] = []
            for attempt in (archive.read, lambda e: b"".join(archive.stream(e, 64))):
                try:
                    whole.append(attempt(entry))
                except EntryError:
                    whole.append(b"failed")
            assert whole[0] == whole[1]


FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(data=st.binary(max_size=500), ending=st.booleans())
def test_any_bytes_raise_our_errors_only(data: bytes, ending: bool, tmp_path: Path) -> None:
    survives(data + (end_record(1, 60, 100) if ending else b""), tmp_path / "index")


@FUZZ
@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=12),
    zip64=st.booleans(),
)
def test_any_damage_to_a_zip_raises_our_errors_only(
    edits: list[tuple[int, int]], zip64: bool, tmp_path: Path
) -> None:
    entries = Odd(name=b"a"), Odd(name="ö".encode(), flags=8), Odd(name=b"c", method=0)
    data = bytearray(odd_zip(*entries, end=end_record64 if zip64 else end_record))
    for at, value in edits:
        data[at % len(data)] = value
    survives(bytes(data), tmp_path / "index")
