"""A second process that reads: it opens the archive, inflates, decodes and makes rows, while this one
writes.

    python -m importops.engine.reader_process      job on stdin, batches on stdout

A fresh interpreter without Django, never a fork: the process that imports may have threads and open
connections. Frames are marshalled values of built-in types behind their length. A pipe is narrow, so
a reader that is ahead waits: one batch is being written to the database, one is in the pipe, and one
is being made.

The reader never outlives its parent: it is killed when the slice ends, in whatever way; a parent
that is killed takes it along (Linux), or leaves it with a broken pipe (elsewhere). How the reader ends
is told: the last frame says `end`, or which error it was; no such frame means that it died.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import marshal
import os
import select
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from importops import errors
from importops.engine.reading import DateRange, ReadBatch, Reading, read_rows
from importops.errors import ImportopsError, ReaderDied
from importops.importers.base import Limits, Span
from importops.importers.registry import importer_class
from importops.records import BadRecord

_LENGTH = struct.Struct("<Q")
_PIPE_BYTES = 1024 * 1024
_TICK = 1.0
"""Seconds of silence between two questions whether to go on."""
PR_SET_PDEATHSIG = 1


class ReaderProcess:
    """The parent's end. Start it early: it takes a tenth of a second to be ready.

    with ReaderProcess() as reader:
        for batch in reader.read(...):
    """

    def __init__(
        self, patience: float = 20.0, while_silent: Callable[[], None] = lambda: None
    ) -> None:
        """`patience`: seconds without one byte after which the reader is given up. A lease is right:
        a huge element takes seconds, and after a lease the slice may be somebody else's anyway.
        `while_silent` is called every second meanwhile, and may raise."""
        self._patience, self._while_silent = patience, while_silent
        # As this process finds modules, whatever directory it was started in. A session of its own:
        # Ctrl-C is for the parent, which ends the reader when its batch is committed.
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(  # noqa: S603 (ourselves)
            [sys.executable, "-P", "-m", __name__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a buffer would hide from `poll` what has come
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout  # noqa: S101 (for the type checker)
        self._to, self._from = self._process.stdin, self._process.stdout
        os.set_blocking(self._to.fileno(), False)
        _widen(self._from)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: goes by itself
            self._process.wait(timeout=5)
        self._from.close()
        self._to.close()

    def read(
        self, importer_key: str, path: Path, index_path: Path, limits: Limits, reading: Reading
    ) -> Iterator[ReadBatch]:
        """What `read_rows` gives for this export. Raises what opening it raises, and `ReaderDied`."""
        job = (importer_key, str(path), str(index_path), asdict(limits), _values(reading))
        with contextlib.suppress(BrokenPipeError):  # it died: said below, with how
            self._write(_framed(job))
        self._to.close()
        while True:
            frame = self._next_frame()
            if frame is None:
                raise ReaderDied(f"{ReaderDied.__doc__} ({self._how_it_ended()})")
            kind, *values = frame
            if kind == "end":
                return
            if kind == "error":
                raise _error(*values)
            cursor, tally, failures, messages, files, strangers = values
            bad = [BadRecord(*failure) for failure in failures]
            yield ReadBatch(cursor, tally, bad, messages, files, strangers)

    def _next_frame(self) -> Any:
        """None when the reader is gone."""
        head = self._read(_LENGTH.size)
        data = self._read(*_LENGTH.unpack(head)) if head is not None else None
        return None if data is None else marshal.loads(data)  # noqa: S302 (our own child's)

    def _read(self, length: int) -> bytearray | None:
        data = bytearray(length)
        rest = memoryview(data)
        while rest:
            self._wait_for(self._from, select.POLLIN)
            number = os.readv(self._from.fileno(), [rest])
            if not number:
                return None
            rest = rest[number:]
        return data

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._wait_for(self._to, select.POLLOUT)
            rest = rest[os.write(self._to.fileno(), rest) :]

    def _wait_for(self, pipe: IO[bytes], event: int) -> None:
        """Raise `ReaderDied` when the reader does nothing for too long."""
        poll = select.poll()
        poll.register(pipe, event)
        began = monotonic()
        while not poll.poll(min(_TICK, self._patience) * 1000):
            self._while_silent()
            if monotonic() - began >= self._patience:
                self._process.kill()
                raise ReaderDied(f"{ReaderDied.__doc__} (silent for {self._patience:g} s)")

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _values(reading: Reading) -> dict[str, Any]:
    # `asdict` would copy the names of a hundred thousand users.
    values = {field.name: getattr(reading, field.name) for field in fields(reading)}
    return values | {"span": asdict(reading.span), "wanted": asdict(reading.wanted)}


def _error(name: str, message: str) -> ImportopsError:
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, ImportopsError):
        return kind(message)
    return ReaderDied(f"{ReaderDied.__doc__} ({name})\n{message}")


# The reader's end.


def main() -> None:
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # whoever prints does not print into a frame
    end_with_parent(int(sys.argv[1]))
    gc.freeze()
    try:
        job = _receive(sys.stdin.buffer)
        if job is None:
            return
        for batch in _batches(*job):
            cursor, tally, failures, *rest = batch
            bad = [msgspec.structs.astuple(failure) for failure in failures]
            _send(out, ("batch", cursor, tally, bad, *rest))
        last: tuple[str, ...] = ("end",)
    except BrokenPipeError:
        _leave()
    except ImportopsError as error:
        last = ("error", type(error).__name__, error.message)
    except Exception as error:  # noqa: BLE001 (told to the parent, which logs it and tries again)
        last = ("error", type(error).__name__, traceback.format_exc())
    try:
        _send(out, last)
    except BrokenPipeError:
        _leave()


def _batches(
    importer_key: str, path: str, index_path: str, limits: dict[str, int], reading: dict[str, Any]
) -> Iterator[ReadBatch]:
    what = Reading(
        **reading | {"span": Span(**reading["span"]), "wanted": DateRange(**reading["wanted"])}
    )
    importer = importer_class(importer_key)
    with (
        Path(path).open("rb") as file,
        contextlib.closing(importer.open(file, Path(index_path), Limits(**limits))) as source,
    ):
        yield from read_rows(source, what)


def end_with_parent(parent: int) -> None:
    """On Linux: be killed when the parent is gone. Signals to the group are the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            _leave()  # it went while this process was starting


def _leave() -> None:
    """End at once: nobody is there to read what is left, or to see a traceback."""
    os._exit(1)


# Both ends.


def _send(pipe: IO[bytes], value: Any) -> None:
    pipe.write(_framed(value))
    pipe.flush()


def _framed(value: Any) -> bytes:
    data = marshal.dumps(value)
    return _LENGTH.pack(len(data)) + data


def _receive(pipe: IO[bytes]) -> Any:
    """The next frame; None when the other end is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    return marshal.loads(data) if len(data) == length else None  # noqa: S302 (our own child's)


def _widen(pipe: IO[bytes]) -> None:
    """Room for a batch in the pipe, so that the reader can begin the next one (Linux)."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


if __name__ == "__main__":
    main()
