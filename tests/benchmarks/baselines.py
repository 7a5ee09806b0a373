"""Raw baselines: the least work that honestly prepares, or imports, a Slack export.

    python tests/benchmarks/baselines.py prepare EXPORT.zip
    python tests/benchmarks/baselines.py import EXPORT.zip OUT.db
    python tests/benchmarks/baselines.py pipe EXPORT.zip OUT.db

`prepare` inflates every day file, checks its CRC and decodes what an importer needs.
`import` does that, makes rows of it (mentions and entities replaced, thread parents
found) and writes them to a fresh SQLite file, one transaction per batch, with a
checkpoint row in it. `pipe` reads and makes rows in a second process, which hands them
over through a bounded pipe. No Django, nothing that can fail, be chosen or be resumed:
what the product adds to these is its price. (PostgreSQL: `baseline_postgresql.py`.)

Prints one JSON line: messages, seconds, peak_rss_mib, cpu_s.
"""

from __future__ import annotations

import gc
import json
import marshal
import multiprocessing
import re
import resource
import sqlite3
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

try:
    from zlib_ng import zlib_ng as inflater
except ImportError:  # slower, but the same work
    import zlib as inflater  # type: ignore[no-redef]

BATCH = 2000
Row = tuple[Any, ...]


class Reaction(msgspec.Struct, gc=False):
    name: str
    users: list[str] = []


class File(msgspec.Struct, gc=False):
    id: str
    name: str | None = None
    mimetype: str | None = None
    size: int = 0
    url_private: str | None = None


class Edited(msgspec.Struct, gc=False):
    ts: str
    user: str | None = None


class Message(msgspec.Struct, gc=False):
    """The fields an importer needs; what it needs only now and then stays undecoded."""

    ts: str
    type: str | None = None
    subtype: str | None = None
    user: str | None = None
    text: str | None = None
    thread_ts: str | None = None
    parent_user_id: str | None = None
    edited: Edited | None = None
    reactions: list[Reaction] = []
    files: list[File] = []
    username: str | None = None
    bot_id: str | None = None
    attachments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    blocks: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    user_profile: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Workspace:
    users: list[Row] = field(default_factory=list)
    rooms: list[Row] = field(default_factory=list)
    members: list[Row] = field(default_factory=list)
    user_keys: dict[str, int] = field(default_factory=dict)
    """Slack's id of a user -> ours."""
    handles: dict[str, str] = field(default_factory=dict)
    """Slack's id of a user -> `@name`."""
    folders: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Folder -> (our id, Slack's id) of its room."""


@dataclass(frozen=True, slots=True)
class Batch:
    messages: list[Row]
    reactions: list[Row]
    files: list[Row]
    entry: int
    """Entries read so far, the one being read included."""


def read_workspace(archive: zipfile.ZipFile) -> Workspace:
    found = Workspace()
    for key, user in enumerate(json.loads(archive.read("users.json")), 1):
        found.users.append((key, user["id"], user["name"]))
        found.user_keys[user["id"]] = key
        found.handles[user["id"]] = f"@{user['name']}"
    for kind in ("channels", "groups", "mpims", "dms"):
        for room in json.loads(archive.read(f"{kind}.json")):
            key, name = len(found.rooms) + 1, room.get("name", room["id"])
            found.rooms.append((key, room["id"], name, kind))
            found.folders[name] = key, room["id"]
            known = filter(None, map(found.user_keys.get, room["members"]))
            found.members.extend((key, user) for user in known)
    return found


def day_files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Entries in folders, in the order in which they lie in the file."""
    found = [i for i in archive.infolist() if i.filename.endswith(".json")]
    found = [i for i in found if "/" in i.filename]
    return sorted(found, key=attrgetter("header_offset"))


def read_entry(stream: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    """One entry's bytes, read around `zipfile`; its size and CRC are checked."""
    stream.seek(info.header_offset)
    name_size, extra_size = struct.unpack("<26x2H", stream.read(30))
    stream.seek(name_size + extra_size, 1)
    data = stream.read(info.compress_size)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        data = inflater.decompressobj(-15).decompress(data, info.file_size + 1)
    if len(data) != info.file_size or inflater.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(info.filename)
    return data


decode = msgspec.json.Decoder(list[Message]).decode


def prepare(path: Path) -> int:
    """Inflate and decode all messages of the export at `path`; how many there are."""
    count = 0
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        folders = read_workspace(archive).folders
        for info in day_files(archive):
            if info.filename.partition("/")[0] in folders:
                count += len(decode(read_entry(stream, info)))
    return count


def microseconds(ts: str) -> int:
    seconds, _, fraction = ts.partition(".")
    return int(seconds + fraction)


class Mapper:
    """Makes rows of messages, and batches of rows."""

    TAG = re.compile(r"<@([A-Z0-9]+)(?:\|[^>]*)?>")

    def __init__(self, workspace: Workspace, size: int = BATCH) -> None:
        self._workspace = workspace
        self._size = size
        self._key = 0
        self._start_batch()

    def _start_batch(self) -> None:
        self._messages: list[Row] = []
        self._reactions: list[Row] = []
        self._files: list[Row] = []

    def _take(self, entry: int) -> Batch:
        batch = Batch(self._messages, self._reactions, self._files, entry)
        self._start_batch()
        return batch

    def batches(self, path: Path) -> Iterator[Batch]:
        """The export's messages, `size` at a time; the last may be fewer, or none."""
        threads: dict[str, int] = {}
        number, last = 0, None
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            for number, info in enumerate(day_files(archive), 1):
                room = self._workspace.folders.get(info.filename.partition("/")[0])
                if room is None:
                    continue
                if room is not last:
                    threads, last = {}, room
                for message in decode(read_entry(stream, info)):
                    self._add(message, room, threads)
                    if len(self._messages) == self._size:
                        yield self._take(number)
        yield self._take(number)

    def _text(self, text: str) -> str:
        if "<" in text:
            handles = self._workspace.handles
            text = self.TAG.sub(lambda tag: handles.get(tag[1], tag[0]), text)
        if "&" in text:
            text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        return text

    def _add(self, message: Message, room: tuple[int, str], threads: dict[str, int]) -> None:
        self._key = key = self._key + 1
        user_keys, ts, thread, extras = (
            self._workspace.user_keys,
            message.ts,
            None,
            "{}",
        )
        if message.thread_ts == ts:
            threads[ts] = key
        elif message.thread_ts is not None:
            thread = threads.get(message.thread_ts)
        if message.bot_id is not None:
            bot = {"bot_id": message.bot_id, "username": message.username}
            extras = json.dumps(bot)
        edited = message.edited
        self._messages.append(
            (
                key,
                f"{room[1]}-{ts}",
                room[0],
                user_keys.get(message.user or ""),
                microseconds(ts),
                self._text(message.text or ""),
                message.subtype or "",
                thread,
                None if edited is None else microseconds(edited.ts),
                extras,
            )
        )
        for reaction in message.reactions:
            for user in reaction.users:
                if user in user_keys:
                    self._reactions.append((key, user_keys[user], reaction.name))
        for f in message.files:
            row = (f.id, key, f.name, f.mimetype, f.size, f.url_private)
            self._files.append(row)


SCHEMA = """
BEGIN;
CREATE TABLE user (
    id INTEGER PRIMARY KEY, import_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL
);
CREATE TABLE room (
    id INTEGER PRIMARY KEY, import_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    kind TEXT NOT NULL
);
CREATE TABLE member (
    id INTEGER PRIMARY KEY, room_id INTEGER NOT NULL REFERENCES room (id),
    user_id INTEGER NOT NULL REFERENCES user (id), UNIQUE (room_id, user_id)
);
CREATE TABLE message (
    id INTEGER PRIMARY KEY, import_id TEXT NOT NULL UNIQUE,
    room_id INTEGER NOT NULL REFERENCES room (id),
    user_id INTEGER REFERENCES user (id), sent_at INTEGER NOT NULL,
    text TEXT NOT NULL, type TEXT NOT NULL,
    thread_id INTEGER REFERENCES message (id), edited_at INTEGER, extras TEXT NOT NULL
);
CREATE INDEX message_in_room ON message (room_id, sent_at);
CREATE INDEX message_in_thread ON message (thread_id) WHERE thread_id IS NOT NULL;
CREATE TABLE reaction (
    id INTEGER PRIMARY KEY, message_id INTEGER NOT NULL REFERENCES message (id),
    user_id INTEGER NOT NULL REFERENCES user (id), emoji TEXT NOT NULL,
    UNIQUE (message_id, emoji, user_id)
);
CREATE TABLE file (
    id INTEGER PRIMARY KEY, import_id TEXT NOT NULL UNIQUE,
    message_id INTEGER NOT NULL REFERENCES message (id), name TEXT, mime_type TEXT,
    size INTEGER, url TEXT
);
CREATE INDEX file_of_message ON file (message_id);
CREATE TABLE checkpoint (
    id INTEGER PRIMARY KEY, entry INTEGER NOT NULL, messages INTEGER NOT NULL,
    at REAL NOT NULL
);
INSERT INTO checkpoint VALUES (1, 0, 0, 0);
COMMIT;
"""
INSERT_MEMBER = "INSERT OR IGNORE INTO member (room_id, user_id) VALUES (?, ?)"
INSERT_MESSAGE = "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_REACTION = "INSERT OR IGNORE INTO reaction (message_id, user_id, emoji) VALUES (?, ?, ?)"
INSERT_FILE = (
    "INSERT OR IGNORE INTO file (import_id, message_id, name, mime_type, size, url)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
SAVE_CHECKPOINT = "UPDATE checkpoint SET entry = ?, messages = ?, at = ?"


def create_database(path: Path) -> sqlite3.Connection:
    """A new database with foreign keys on and a writer's usual settings."""
    if path.exists():
        raise SystemExit(f"{path} is there already; this baseline starts from nothing")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("PRAGMA cache_size = -32000")
    db.execute("PRAGMA foreign_keys = ON")
    db.executescript(SCHEMA)
    return db


def write_workspace(db: sqlite3.Connection, workspace: Workspace) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO user VALUES (?, ?, ?)", workspace.users)
    db.executemany("INSERT INTO room VALUES (?, ?, ?, ?)", workspace.rooms)
    db.executemany(INSERT_MEMBER, workspace.members)
    db.execute("COMMIT")


def write_batch(db: sqlite3.Connection, batch: Batch, done: int) -> int:
    """Write a batch and its checkpoint in one transaction; returns the new `done`."""
    db.execute("BEGIN IMMEDIATE")
    db.executemany(INSERT_MESSAGE, batch.messages)
    db.executemany(INSERT_REACTION, batch.reactions)
    db.executemany(INSERT_FILE, batch.files)
    done += len(batch.messages)
    db.execute(SAVE_CHECKPOINT, (batch.entry, done, time.time()))
    db.execute("COMMIT")
    return done


def in_second_process(make: Callable[[Path], Iterator[Any]], path: Path) -> Iterator[Any]:
    """What `make(path)` gives, made in a second process and marshalled through a pipe."""
    here, there = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        here.close()
        for item in make(path):
            there.send_bytes(marshal.dumps(item))
        there.send_bytes(b"")

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    there.close()
    while data := here.recv_bytes():
        yield marshal.loads(data)  # noqa: S302 (our own child's)
    child.join()


def plain_batches(path: Path) -> Iterator[Row]:
    with zipfile.ZipFile(path) as archive:
        workspace = read_workspace(archive)
    for batch in Mapper(workspace).batches(path):
        yield (batch.messages, batch.reactions, batch.files, batch.entry)


def import_export(path: Path, out: Path, *, pipe: bool = False) -> int:
    """Import the export at `path` into a new database at `out`; how many messages."""
    db = create_database(out)
    with zipfile.ZipFile(path) as archive:
        workspace = read_workspace(archive)
    write_workspace(db, workspace)
    done = 0
    batches: Iterable[Batch] = Mapper(workspace).batches(path)
    if pipe:
        batches = (Batch(*parts) for parts in in_second_process(plain_batches, path))
    for batch in batches:
        done = write_batch(db, batch, done)
    (written,) = db.execute("SELECT count(*) FROM message").fetchone()
    db.close()
    if written != done:
        raise SystemExit(f"{done} messages were read but {written} written")
    return done


def main(arguments: list[str]) -> None:
    gc.disable()  # as no cycles are made, memory stays bounded without it
    started = time.perf_counter()
    match arguments:
        case ["prepare", path]:
            messages = prepare(Path(path))
        case ["import", path, out]:
            messages = import_export(Path(path), Path(out))
        case ["pipe", path, out]:
            messages = import_export(Path(path), Path(out), pipe=True)
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(figures(messages, started)))


def figures(messages: int, started: float) -> dict[str, float]:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "messages": messages,
        "seconds": round(time.perf_counter() - started, 3),
        "peak_rss_mib": round(max(usage.ru_maxrss for usage in both) / 1024, 1),
        "cpu_s": round(sum(usage.ru_utime + usage.ru_stime for usage in both), 2),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
