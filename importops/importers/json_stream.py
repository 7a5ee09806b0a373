"""JSON arrays of any size, element by element, in flat memory; and one file as a whole.

The standard library's decoder does the decoding. (ijson dies of one long integer;
msgspec and orjson refuse a whole file for one lone surrogate.) An element is what
stands between two commas of the outermost list, so a broken one costs itself and not
its neighbours:

1. Decode where the last element ended. A value and a comma behind it: nearly always.
2. Otherwise `_Extent` looks for the comma, over as much more text as it takes, and what
   is before it is decoded once more. No character is looked at more than a few times.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate, dropwhile
from json import JSONDecodeError
from typing import Any, NamedTuple

__all__ = ["Element", "decode_whole", "iter_array"]

INVALID = "importer-json-invalid"
TRUNCATED = "importer-json-truncated"
NOT_A_LIST = "importer-json-not-a-list"
TOO_LARGE = "importer-record-too-large"
TOO_DEEP = "importer-json-too-deep"

DEPTH_LIMIT = 200
"""Brackets within brackets. Exports stay below 20; whoever walks a value recurses, and
Python stops at 1,000."""
RAW_LIMIT = 16 * 1024
"""Characters of a broken element that are kept, to show."""

_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_SPACE = re.compile(r"[ \t\n\r]*+")
_AFTER = re.compile(r"[ \t\n\r]*+([,\]])[ \t\n\r]*+")
_UNFINISHED_NUMBER = re.compile(r"(?:\.|\.?[eE][+-]?)\Z")
_INVALID_BYTES = re.compile("[\udc80-\udcff]")
_REPLACED = re.compile("\ufffd")

# The inside of an element, as `_Extent` walks over it. Possessive (`++`, `*+`): no way
# back is kept, else walking over a string of 100 MB would take gigabytes.
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_IN_STRING = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_NO_BRACKETS = re.compile(rf'(?:[^"\[\]{{}}]++|{_STRING})++', re.DOTALL)


def _walk_over(levels: int, stops: str = "") -> re.Pattern[str]:
    """Up to a bracket, one of `stops` or the beginning of an unfinished string; whole
    lists and objects of a few levels are taken in one go, which is ten times faster."""
    inside = rf'(?:[^"\[\]{{}}]++|{_STRING})*+'
    for _ in range(levels - 1):
        inside = rf'(?:[^"\[\]{{}}]++|{_STRING}|[\[{{]{inside}[\]}}])*+'
    return re.compile(rf'(?:[^"\[\]{{}}{stops}]++|{_STRING}|[\[{{]{inside}[\]}}])*+', re.DOTALL)


_UP_TO_BRACKET = _walk_over(3)
_UP_TO_COMMA = _walk_over(3, stops=",")
_OPENING = re.compile(r"[\[{]++")
_CLOSING = re.compile(r"[\]}]++")

_PIECE = 64 * 1024
_PROBE = 256 * 1024
_KINDS = {"{": "an object", '"': "a string", "t": "true", "f": "false", "n": "null"}


class Element(NamedTuple):
    """One element of an array: its value, or what is wrong with it.

    What is wrong with the file itself comes last, in the place of an element.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    at: int
    """Its first character, counted from 0 in the decoded text."""
    value: Any = None
    code: str = ""
    """Stable, for programs; empty when there is a value."""
    message: str = ""
    """A sentence, for a person."""
    repaired: bool = False
    """Bytes that were no text have been replaced by U+FFFD."""
    raw: str = ""
    """The beginning of an element that has no value."""


def iter_array(chunks: Iterable[bytes], max_record_bytes: int, start: int = 0) -> Iterator[Element]:
    """Elements of the array in `chunks`, in order, those from number `start` on.

    Never raises for what the bytes are. Elements of more than `max_record_bytes` (as
    UTF-8) are passed over without being held. NaN and infinities become None; of equal
    keys the last one counts; control characters may stand in strings.
    """
    elements = _elements(_Window(chunks), max_record_bytes)
    return dropwhile(lambda element: element.index < start, elements)


def decode_whole(data: bytes) -> Element:
    """The one JSON value that `data` is, as element 0; never raises for its bytes."""
    window = _Window((data,))
    while window.more():
        pass
    if not window.skip_space():
        return Element(0, 0, None, INVALID, "The file is empty.")
    return _decode(window, len(window.text), 0, "The file")


def _finite(literal: str) -> float | None:
    value = float(literal)
    return value if math.isfinite(value) else None


def _nothing(literal: str) -> None:
    """NaN, Infinity and -Infinity: PostgreSQL's JSON has none of them."""


_raw_decode = json.JSONDecoder(
    strict=False, parse_float=_finite, parse_constant=_nothing
).raw_decode


class _Window:
    """The stretch of decoded text that is being looked at: `text`, from `at` on."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        # An error costs what its text is long (the decoder counts lines): short pieces.
        self._chunks = (
            chunk[at : at + _PIECE] for chunk in chunks for at in range(0, len(chunk), _PIECE)
        )
        self._decoder: codecs.BufferedIncrementalDecoder | None = None
        self._head = b""
        self._lenient = "surrogateescape"
        self.invalid = _INVALID_BYTES
        """Finds what stands for bytes that were no text."""
        self.text = ""
        self.at = 0
        self.dropped = 0
        """Characters that were before `text`."""
        self.dirty = 0
        """From here on, `text` is known to hold nothing that `invalid` would find."""
        self.ended = False

    @property
    def place(self) -> int:
        return self.dropped + self.at

    def skip_space(self) -> str:
        """Move on to the next character that is no space; empty at the file's end."""
        while True:
            self.at = _match(_SPACE, self.text, self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def more(self, wanted: int = 1) -> bool:
        """Drop what is before `at` and read on, by `wanted` characters or a little
        more.

        Returns False at the end of the file.
        """
        pieces, got = [self.text[self.at :]], 0
        self.dropped += self.at
        self.dirty = max(0, self.dirty - self.at)
        length = len(pieces[0])
        self.at = 0
        while got < wanted and not self.ended:
            piece, clean = self._next_piece()
            got += len(piece)
            pieces.append(piece)
            if not clean:
                self.dirty = length + got
        self.text = "".join(pieces)
        return got > 0

    def _next_piece(self) -> tuple[str, bool]:
        """The next text, and whether its bytes were all text."""
        chunk = next(self._chunks, None)
        self.ended = chunk is None
        data = self._head + (chunk or b"")
        if self._decoder is None:
            if len(data) < 3 and not self.ended:
                self._head = data
                return "", True
            data = self._choose_decoder(data)
            self._head = b""
        decoder = self._decoder
        if decoder is None:
            raise AssertionError
        try:
            return decoder.decode(data, self.ended), True
        except UnicodeDecodeError:
            decoder.errors = self._lenient
            text = decoder.decode(data, self.ended)
            decoder.errors = "strict"
            return text, False

    def _choose_decoder(self, data: bytes) -> bytes:
        """Go by the byte order mark; returns what is behind it."""
        bom = next((mark for mark in _BOMS if data.startswith(mark)), b"")
        encoding = _BOMS.get(bom, "utf-8")
        if encoding != "utf-8":
            # surrogateescape is not made for it. A U+FFFD of the file counts as repaired.
            self._lenient, self.invalid = "replace", _REPLACED
        make_decoder = codecs.getincrementaldecoder(encoding)
        self._decoder = make_decoder()  # type: ignore[assignment]
        return data[len(bom) :]


class _Extent:
    """Where the element at the window's position ends: the comma or bracket behind it.

    Knows strings and counts brackets, no more: of an element that is no JSON it is the
    best guess. Goes on where it stopped when there is more text.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self.at = 0
        """How far it has looked, from the window's position."""

    def find(self, text: str, start: int) -> bool:
        """Look on in `text`, which continues the element that begins at `start`; True
        when its end was found (`at` is there then).
        """
        at, length = start + self.at, len(text)
        while at < length:
            if self._in_string:
                at = _match(_IN_STRING, text, at)
                if at == length or text[at] == "\\":  # its other half is yet to come
                    break
                self._in_string = False
                at += 1
                continue
            at = _match(_UP_TO_BRACKET if self._depth else _UP_TO_COMMA, text, at)
            if at == length:
                break
            character = text[at]
            if character == '"':  # and no end of it in sight
                self._in_string = True
                at += 1
            elif character in "[{":
                run = _match(_OPENING, text, at)
                self._depth += run - at
                at = run
            elif self._depth:
                run = min(_match(_CLOSING, text, at), at + self._depth)
                self._depth -= run - at
                at = run
            elif character == "}":  # one too many; belongs to the broken element
                at += 1
            else:
                self.at = at - start
                return True
        self.at = at - start
        return False


def _may_be_deep(text: str, start: int, stop: int) -> bool:
    """Cheap, and rarely True: only then is it worth to look at `_depth`."""
    brackets = text.count("[", start, stop) + text.count("{", start, stop)
    return brackets > DEPTH_LIMIT


def _depth(text: str) -> int:
    brackets = _NO_BRACKETS.sub("", text)
    return max(accumulate(1 if b in "[{" else -1 for b in brackets), default=0)


def _match(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _elements(window: _Window, limit: int) -> Iterator[Element]:
    problem = _enter_list(window)
    if problem is not None:
        yield problem
        return
    index, behind = 0, ","
    while behind == ",":
        text, at = window.text, window.at
        try:
            value, end = _raw_decode(text, at)
            after = _AFTER.match(text, end)
        except (ValueError, RecursionError):
            after = None
        if (
            after is not None
            and end - at <= limit // 4  # characters; one may be four bytes
            and at >= window.dirty
            and (
                end - at <= 2 * DEPTH_LIMIT  # too short for it, and quick to see
                or not _may_be_deep(text, at, end)
            )
        ):
            window.at, behind = after.end(), after[1]
            yield Element(index, window.dropped + at, value)
        else:
            element, behind = _next_slowly(window, limit, index)
            if element is None:
                break
            yield element
            if not behind and element.code:
                return
        index += 1
    problem = _leave_list(window, index, behind)
    if problem is not None:
        yield problem


def _enter_list(window: _Window) -> Element | None:
    """Step over the opening bracket; the problem if there is none."""
    character = window.skip_space()
    if character == "[":
        window.at += 1
        return None
    if not character:
        return Element(0, 0, None, INVALID, "The file is empty; a list was expected.")
    kind = _KINDS.get(character, "a number" if character in "-0123456789" else "")
    return Element(
        0,
        window.place,
        None,
        NOT_A_LIST if kind else INVALID,
        f"Expected a list, found {kind or 'text that is not JSON'}.",
        raw=window.text[window.at : window.at + RAW_LIMIT],
    )


def _leave_list(window: _Window, index: int, behind: str) -> Element | None:
    """What is wrong after the last element, if anything is. Reads to the end of the
    file, so that whoever unpacks it gets to compare checksums.
    """
    if not behind:
        return _cut_off(window.place, index)
    if not window.skip_space():
        return None
    return Element(
        index,
        window.place,
        None,
        INVALID,
        f"There is more behind the end of the list, from character {window.place} on;"
        " it was not read.",
        raw=window.text[window.at : window.at + RAW_LIMIT],
    )


def _next_slowly(window: _Window, limit: int, index: int) -> tuple[Element | None, str]:
    """The next element, wherever it ends, and what is behind it: a comma, the list's
    closing bracket, or nothing when the file ends first. None: no element, only the
    closing bracket."""
    if not window.skip_space():
        return _cut_off(window.place, index), ""
    extent = _Extent()
    too_large: Element | None = None
    broken = ""
    while not extent.find(window.text, window.at):
        held = len(window.text) - window.at
        if too_large is None and held > limit:
            too_large = _too_large(window, index, limit)
            # A part of it will do: decoded, text may take thirty times the memory.
            probe = window.text[window.at : window.at + min(limit, _PROBE)]
            broken = _what_is_broken(probe, 0)
        if too_large is not None:
            window.at += extent.at
            extent.at = 0
        # By half again each time, so that a long element is not copied for every chunk.
        wanted = 1 if too_large else max(1, min(held // 2, limit + 1 - held))
        if not window.more(wanted):
            if too_large is None:
                return _last(window, index), ""
            return _cut_off(too_large.at, index, too_large.raw, broken), ""
    start, stop = window.at, window.at + extent.at
    behind = window.text[stop]
    element = too_large
    if element is None and (stop > start or behind == ","):
        element = _measured(window, stop, limit, index)
    # The spaces too: decoding begins at a value.
    window.at = _match(_SPACE, window.text, stop + 1)
    return element, behind


def _measured(window: _Window, stop: int, limit: int, index: int) -> Element:
    """The element from the window's position to `stop`, if its size and depth are
    within bounds.
    """
    text = window.text[window.at : stop]
    if len(text) > limit // 4 and len(text.encode("utf-8", "replace")) > limit:
        return _too_large(window, index, limit)
    if _may_be_deep(text, 0, len(text)) and _depth(text) > DEPTH_LIMIT:
        return _too_deep(window, stop, index)
    return _decode(window, stop, index, f"Record {index}")


def _last(window: _Window, index: int) -> Element:
    """What to make of an element that the file ends in or behind."""
    text, at = window.text, window.at
    broken = _what_is_broken(text, at)
    if not broken and text[at] in '{["tfn':  # a number might have gone on
        element = _decode(window, len(text), index, f"Record {index}")
        if not element.code:
            window.at = len(text)
            return element
    return _cut_off(window.place, index, text[at : at + RAW_LIMIT], broken)


def _decode(window: _Window, stop: int, index: int, what: str) -> Element:
    """The element that should be one value, from the window's position to `stop`."""
    text, at, repaired = window.text[window.at : stop], window.place, False
    if window.at < window.dirty and window.invalid.search(text):
        text, repaired = window.invalid.sub("\ufffd", text), True
    try:
        value, end = _raw_decode(text)
        end = _match(_SPACE, text, end)
        if end == len(text):
            return Element(index, at, value, repaired=repaired)
        why = f"something follows its value at character {at + end}"
    except JSONDecodeError as error:
        why = f"{error.msg} at character {at + error.pos}"
    except ValueError:
        why = "it holds a number that is too long"
    except RecursionError:
        return _too_deep(window, stop, index)
    message = f"{what}, at character {at}, is not valid JSON: {why}."
    raw = text[:RAW_LIMIT]
    return Element(index, at, None, INVALID, message, repaired, raw)


def _what_is_broken(text: str, at: int) -> str:
    """Why `text`, which ends within the element at `at`, would not be JSON however it
    went on; empty when it is only cut off.
    """
    try:
        _, end = _raw_decode(text, at)
    except JSONDecodeError as error:
        # Cut off literals and escapes are reported where they begin.
        if error.msg.startswith("Unterminated") or len(text) - error.pos < 12:
            return ""
        return f"{error.msg} at character {error.pos - at} of it"
    except (ValueError, RecursionError):
        return ""
    if _UNFINISHED_NUMBER.match(text, end) or _match(_SPACE, text, end) == len(text):
        return ""
    return f"something follows its value at character {end - at} of it"


def _cut_off(at: int, index: int, raw: str = "", broken: str = "") -> Element:
    """The last problem of a file that ends within the list."""
    if broken:
        message = (
            f"Record {index} is not valid JSON ({broken}), and neither is the rest of the"
            f" file from character {at} on; it is unreadable."
        )
        return Element(index, at, None, INVALID, message, raw=raw)
    message = (
        f"The list ends in the middle: record {index}, at character {at}, or the"
        " closing bracket is missing. Export or copy the file again."
    )
    return Element(index, at, None, TRUNCATED, message, raw=raw)


def _too_large(window: _Window, index: int, limit: int) -> Element:
    message = (
        f"Record {index}, at character {window.place}, is larger than {limit:,} bytes"
        " (IMPORTOPS_MAX_RECORD_BYTES)."
    )
    raw = window.text[window.at : window.at + RAW_LIMIT]
    return Element(index, window.place, None, TOO_LARGE, message, raw=raw)


def _too_deep(window: _Window, stop: int, index: int) -> Element:
    message = (
        f"Record {index}, at character {window.place}, is nested more than {DEPTH_LIMIT} deep."
    )
    raw = window.text[window.at : min(stop, window.at + RAW_LIMIT)]
    return Element(index, window.place, None, TOO_DEEP, message, raw=raw)
