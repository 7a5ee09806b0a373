"""The raw baseline on PostgreSQL: the reading of `baselines.py`, written by COPY.

    python tests/benchmarks/baseline_postgresql.py EXPORT.zip postgres://…/name

A second process reads and makes the text that COPY takes; this one copies it straight into the tables
(keys, foreign keys and indexes in place), one transaction with a checkpoint row for 5,000 messages.
The tables are made anew in a schema of their own. Prints one JSON line, as `baselines.py` does.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
from baselines import Mapper, Row, figures, in_second_process, read_workspace

BATCH = 5000
NULL = "\\N"
ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"})
Copies = tuple[int, bytes, bytes, bytes, int]
"""(how many messages, messages, reactions, files, entry)"""

SCHEMA = """
DROP SCHEMA IF EXISTS importops_baseline CASCADE;
CREATE SCHEMA importops_baseline;
SET search_path TO importops_baseline;
CREATE TABLE person (id bigint PRIMARY KEY, import_id text NOT NULL UNIQUE, name text NOT NULL);
CREATE TABLE room (
    id bigint PRIMARY KEY, import_id text NOT NULL UNIQUE, name text NOT NULL, kind text NOT NULL
);
CREATE TABLE member (
    room_id bigint NOT NULL REFERENCES room, user_id bigint NOT NULL REFERENCES person,
    UNIQUE (room_id, user_id)
);
CREATE TABLE message (
    id bigint PRIMARY KEY, import_id text NOT NULL UNIQUE,
    room_id bigint NOT NULL REFERENCES room DEFERRABLE INITIALLY DEFERRED,
    user_id bigint REFERENCES person DEFERRABLE INITIALLY DEFERRED,
    sent_at timestamptz NOT NULL, text text NOT NULL, type text NOT NULL,
    thread_id bigint REFERENCES message DEFERRABLE INITIALLY DEFERRED,
    edited_at timestamptz, extras jsonb NOT NULL
);
CREATE INDEX ON message (room_id, sent_at);
CREATE INDEX ON message (thread_id) WHERE thread_id IS NOT NULL;
CREATE TABLE reaction (
    message_id bigint NOT NULL REFERENCES message DEFERRABLE INITIALLY DEFERRED,
    user_id bigint NOT NULL REFERENCES person DEFERRABLE INITIALLY DEFERRED,
    emoji text NOT NULL, UNIQUE (message_id, emoji, user_id)
);
CREATE TABLE file (
    import_id text NOT NULL UNIQUE,
    message_id bigint NOT NULL REFERENCES message DEFERRABLE INITIALLY DEFERRED,
    name text, mime_type text, size bigint, url text
);
CREATE INDEX ON file (message_id);
CREATE TABLE checkpoint (id integer PRIMARY KEY, entry integer, messages integer, at timestamptz);
INSERT INTO checkpoint VALUES (1, 0, 0, now());
"""


def field(value: Any) -> str:
    if value is None:
        return NULL
    text = str(value)
    return text.translate(ESCAPES) if "\\" in text or not text.isprintable() else text


@lru_cache(20_000)
def day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86_400))


def moment(at: int | None) -> str:
    if at is None:
        return NULL
    number, second = divmod(at // 1_000_000, 86_400)
    clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{day(number)} {clock}.{at % 1_000_000:06d}+00"


def message_line(row: Row) -> str:
    key, import_id, room, user, sent, text, kind, thread, edited, extras = row
    return (
        f"{key}\t{import_id}\t{room}\t{NULL if user is None else user}\t{moment(sent)}\t"
        f"{field(text)}\t{kind}\t{NULL if thread is None else thread}\t{moment(edited)}\t"
        f"{extras if extras == '{}' else field(extras)}\n"
    )


def lines(rows: list[Row]) -> bytes:
    return "".join(["\t".join(map(field, row)) + "\n" for row in rows]).encode()


def copies(path: Path) -> Iterator[Copies]:
    with zipfile.ZipFile(path) as archive:
        workspace = read_workspace(archive)
    for batch in Mapper(workspace, BATCH).batches(path):
        messages = "".join(map(message_line, batch.messages)).encode()
        reactions, files = lines(batch.reactions), lines(batch.files)
        yield len(batch.messages), messages, reactions, files, batch.entry


def import_export(path: Path, url: str) -> int:
    with zipfile.ZipFile(path) as archive:
        workspace = read_workspace(archive)
    done = 0
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(SCHEMA)

        def copy(target: str, data: bytes) -> None:
            with db.cursor().copy(f"COPY {target} FROM STDIN") as to:
                to.write(data)

        with db.transaction():
            copy("person", lines(workspace.users))
            copy("room", lines(workspace.rooms))
            copy("member", lines(workspace.members))
        for count, messages, reactions, files, entry in in_second_process(copies, path):
            with db.transaction():
                copy("message", messages)
                copy("reaction", reactions)
                copy("file (import_id, message_id, name, mime_type, size, url)", files)
                done += count
                save = "UPDATE checkpoint SET entry = %s, messages = %s, at = now()"
                db.execute(save, (entry, done))
        row = db.execute("SELECT count(*) FROM message").fetchone()
        db.execute("DROP SCHEMA importops_baseline CASCADE")
    if row != (done,):
        raise SystemExit(f"{done} messages were read but {row} written")
    return done


if __name__ == "__main__":
    gc.disable()
    began = time.perf_counter()
    print(json.dumps(figures(import_export(Path(sys.argv[1]), sys.argv[2]), began)))
