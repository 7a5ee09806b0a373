"""A file that is far away, read in ranges: seekable, in bounded memory, never fetched whole."""

from __future__ import annotations

import io
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable

from importops.errors import MustWait

logger = logging.getLogger(__name__)

BLOCK = 1024**2
KEPT_BLOCKS = 8
MOST_AT_ONCE = 8 * BLOCK
"""Asked for in one request, when more is wanted than a block."""
TRIES = 4
TRY_FOR = 7.0
"""Seconds after which no further try is begun."""
FIRST_WAIT = 0.2


class RangeFailed(Exception):
    """One request failed in a way that another try may cure."""


class RangedSource(io.RawIOBase):
    """`size` bytes behind `fetch(start, stop)`, which gives all bytes of a range or raises `RangeFailed`.

    Reads whole blocks and keeps the last few, since archives are read in small steps that mostly go
    forwards. `read` gives as many bytes as asked for, except at the end. Raises `MustWait` when a
    range cannot be had after several tries. Not safe to share between threads.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, name: str) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._name = name
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if self._at >= stop:
            return b""
        first, last = self._at // BLOCK, (stop - 1) // BLOCK
        pieces = []
        for number, block in self._gather(first, last):
            start = number * BLOCK
            pieces.append(block[max(0, self._at - start) : stop - start])
        self._at = stop
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _gather(self, first: int, last: int) -> list[tuple[int, bytes]]:
        """Blocks `first` to `last`; neighbours that are missing come in one request."""
        found = []
        number = first
        while number <= last:
            if number in self._blocks:
                self._blocks.move_to_end(number)
                found.append((number, self._blocks[number]))
                number += 1
                continue
            stop = number + 1
            while (
                stop <= last and stop not in self._blocks and stop - number < MOST_AT_ONCE // BLOCK
            ):
                stop += 1
            for block in self._fetch_blocks(number, stop):
                found.append((number, block))
                self._keep(number, block)
                number += 1
        return found

    def _keep(self, number: int, block: bytes) -> None:
        self._blocks[number] = block
        if len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)

    def _fetch_blocks(self, first: int, stop: int) -> list[bytes]:
        start = first * BLOCK
        data = self._try_to_fetch(start, min(self._size, stop * BLOCK))
        return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]

    def _try_to_fetch(self, start: int, stop: int) -> bytes:
        began = time.monotonic()
        for attempt in range(1, TRIES + 1):
            try:
                return self._fetch(start, stop)
            except RangeFailed as error:
                logger.warning(
                    "bytes %d to %d of %s could not be read (try %d): %s",
                    *(start, stop, self._name, attempt, error),
                )
                reason = str(error)
            if time.monotonic() - began > TRY_FOR:
                break
            if attempt < TRIES:
                time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        raise MustWait(
            f"The export {self._name} cannot be read from the storage at the moment ({reason}). "
            "The import goes on by itself when it can."
        )
