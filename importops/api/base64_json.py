"""A JSON object with a file in Base64 in it, read in flat memory whatever its size.

The body is scanned as it arrives. Small values are collected as they stand and handed to the JSON
decoder at the end; the one long string is unescaped and decoded straight into a file. The order of
properties does not matter; of a property given twice the last one counts, as in any JSON decoder.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Any, Protocol

from importops.api.bodies import decode_json
from importops.api.exceptions import BodyTooLarge, MalformedBody

FILE_FIELD = "binaryContent"
CHUNK = 1024**2
OTHERS_LIMIT = 64 * 1024
"""Bytes that everything but the file may take."""
DATA_URL_LIMIT = 1024

_SPACE = b" \t\r\n"
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_ESCAPE = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SHORT_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"/": b"/", b'"': b'"'}
_SPACES = re.compile(rb"[ \t\r\n]*")
_STRING_END = re.compile(rb'["\\]')
_NESTING = re.compile(rb'["\[\]{}]')
_SCALAR_END = re.compile(rb"[,}\] \t\r\n]")


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Base64Decoder:
    """Base64 in pieces of any size in, bytes to `target` out.

    White space is passed over, the URL-safe alphabet and missing padding are accepted, and so is a
    `data:` URL around it all. Anything else raises `MalformedBody` naming the character's number.
    """

    def __init__(self, target: Writable) -> None:
        self.target = target
        self.carry = b""
        self.head: bytes | None = b""
        self.position = 0
        self.padding = 0

    def feed(self, text: bytes) -> None:
        if self.head is not None:
            text = self._without_data_url(text)
        self._check(text)
        data = self.carry + text.translate(_URL_SAFE, _SPACE + b"=")
        whole = len(data) - len(data) % 4
        self.carry = data[whole:]
        if whole:
            self.target.write(binascii.a2b_base64(data[:whole]))
        self.position += len(text)

    def finish(self) -> None:
        if self.head:
            head, self.head = self.head, None
            if head.startswith(b"data:"):
                raise self._error(0, "a data: URL without a comma")
            self.feed(head)
        if len(self.carry) == 1 or self.padding > 2:
            raise self._error(0, "the text ends in the middle of a byte")
        if self.carry:
            padded = self.carry + b"=" * (4 - len(self.carry))
            self.target.write(binascii.a2b_base64(padded))

    def _without_data_url(self, text: bytes) -> bytes:
        """What is left to decode once it is known whether the text begins with `data:…,`."""
        self.head = (self.head or b"") + text
        if len(self.head) < 5 and b"data:".startswith(self.head):
            return b""
        if not self.head.startswith(b"data:"):
            text, self.head = self.head, None
            return text
        prefix, comma, rest = self.head.partition(b",")
        if not comma and len(prefix) <= DATA_URL_LIMIT:
            return b""
        if not comma or not prefix.endswith(b";base64"):
            raise self._error(0, "a data: URL that is not Base64")
        self.head = None
        self.position = len(prefix) + 1
        return rest

    def _check(self, text: bytes) -> None:
        """Raise for the first character that cannot stand where it stands."""
        allowed = _SPACE + b"=" if self.padding else _ALPHABET + b"-_" + _SPACE
        if wrong := text.translate(None, allowed):
            what = "data after the padding" if self.padding else _show(wrong[:1])
            raise self._error(text.index(wrong[:1]), what)
        if b"=" not in text:
            return
        first = text.index(b"=")
        if wrong := text[first:].translate(None, _SPACE + b"="):
            raise self._error(text.index(wrong[:1], first), "data after the padding")
        self.padding += text.count(b"=")

    def _error(self, offset: int, what: str) -> MalformedBody:
        place = self.position + offset + 1
        return MalformedBody(f"{FILE_FIELD} is not valid Base64 at character {place}: {what}")


def _show(byte: bytes) -> str:
    return ascii(byte.decode("latin-1"))


class Scanner:
    """A window over the stream: bytes not yet taken, refilled as needed."""

    def __init__(self, stream: Readable) -> None:
        self.stream = stream
        self.window = b""
        self.start = 0
        self.before = 0

    def refill(self) -> bool:
        """More bytes into the window; False at the end of the stream."""
        data = self.stream.read(CHUNK)
        self.before += self.start
        self.window = self.window[self.start :] + data
        self.start = 0
        return bool(data)

    def take(self, end: int) -> bytes:
        """The bytes of the window before index `end`."""
        taken = self.window[self.start : end]
        self.start = end
        return taken

    def take_byte(self) -> bytes:
        return self.take(self.start + 1)

    def peek(self) -> bytes:
        """The next byte that is not white space, left where it is; empty at the end."""
        while True:
            match = _SPACES.match(self.window, self.start)
            self.start = match.end() if match else self.start
            if self.start < len(self.window):
                return self.window[self.start : self.start + 1]
            if not self.refill():
                return b""

    def expect(self, allowed: bytes) -> bytes:
        byte = self.peek()
        if not byte or byte not in allowed:
            raise self.error(f"expected {' or '.join(map(chr, allowed))}")
        return self.take_byte()

    def error(self, what: str) -> MalformedBody:
        place = self.before + self.start + 1
        return MalformedBody(f"The body is not valid JSON: {what} at byte {place}")


def read_object(stream: Readable, new_file: Callable[[], Writable]) -> tuple[dict[str, Any], bool]:
    """The properties of the object in `stream`, and whether the file was decoded.

    `new_file` is called when the Base64 begins (again, if the property comes twice). A file property
    that is no string is among the properties, for the schema to judge. Raises `MalformedBody`,
    `BodyTooLarge`, and what the target raises.
    """
    scanner = Scanner(stream)
    fields: dict[str, Any] = {}
    if not scanner.peek():
        return fields, False
    scanner.expect(b"{")
    budget = _Budget()
    decoded = False
    more = scanner.peek() != b"}"
    if not more:
        scanner.take_byte()
    while more:
        if scanner.peek() != b'"':
            raise scanner.error("expected a property name")
        name = decode_json(_read_value(scanner, budget))
        scanner.expect(b":")
        if name == FILE_FIELD and scanner.peek() == b'"':
            _decode_string(scanner, Base64Decoder(new_file()))
            fields.pop(name, None)
            decoded = True
        else:
            fields[name] = decode_json(_read_value(scanner, budget))
            decoded = decoded and name != FILE_FIELD
        more = scanner.expect(b",}") == b","
    if scanner.peek():
        raise scanner.error("something follows the object")
    return fields, decoded


class _Budget:
    """How many bytes the small values may still take."""

    def __init__(self) -> None:
        self.left = OTHERS_LIMIT

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise BodyTooLarge(f"Everything but {FILE_FIELD} may take {OTHERS_LIMIT // 1024} KiB.")


def _read_value(scanner: Scanner, budget: _Budget) -> bytes:
    """The next value as it stands in the body. Only its extent is found here."""
    start = scanner.peek()
    if not start:
        raise scanner.error("the body ends")
    if start == b'"':
        value = _read_string(scanner, budget)
    elif start in b"[{":
        value = _read_nested(scanner, budget)
    else:
        value = _read_until(scanner, budget, _SCALAR_END)
        if not value:
            raise scanner.error("expected a value")
    return value


def _read_until(scanner: Scanner, budget: _Budget, end: re.Pattern[bytes]) -> bytes:
    """Everything before the next match of `end`."""
    parts: list[bytes] = []
    while True:
        match = end.search(scanner.window, scanner.start)
        part = scanner.take(match.start() if match else len(scanner.window))
        budget.spend(len(part))
        parts.append(part)
        if match:
            return b"".join(parts)
        if not scanner.refill():
            raise scanner.error("the body ends in the middle of a value")


def _read_string(scanner: Scanner, budget: _Budget) -> bytes:
    parts = [scanner.take_byte()]
    budget.spend(2)
    while True:
        parts.append(_read_until(scanner, budget, _STRING_END))
        mark = scanner.take_byte()
        parts.append(mark)
        if mark == b'"':
            return b"".join(parts)
        if scanner.start == len(scanner.window) and not scanner.refill():
            raise scanner.error("the body ends in the middle of a string")
        parts.append(scanner.take_byte())
        budget.spend(2)


def _read_nested(scanner: Scanner, budget: _Budget) -> bytes:
    parts: list[bytes] = []
    depth = 0
    while True:
        parts.append(_read_until(scanner, budget, _NESTING))
        if scanner.window[scanner.start] == ord('"'):
            parts.append(_read_string(scanner, budget))
            continue
        bracket = scanner.take_byte()
        budget.spend(1)
        parts.append(bracket)
        depth += 1 if bracket in b"[{" else -1
        if depth == 0:
            return b"".join(parts)


def _decode_string(scanner: Scanner, decoder: Base64Decoder) -> None:
    """Feed the string that begins here to `decoder`, up to and with its closing quote."""
    scanner.take_byte()
    closed = False
    while not closed:
        segment, closed = _next_segment(scanner)
        if b"\\" in segment:
            # PHP escapes every slash; that one is worth a faster way.
            segment = segment.replace(b"\\/", b"/")
            segment = _ESCAPE.sub(_unescape, segment)
        decoder.feed(segment)
    decoder.finish()


def _next_segment(scanner: Scanner) -> tuple[bytes, bool]:
    """The next bytes of the string, and whether its closing quote was reached.

    An escape whose end has not arrived yet stays in the window. An escaped quote ends the string
    too early; as it cannot be Base64 either, the decoder refuses the backslash before it.
    """
    quote = scanner.window.find(b'"', scanner.start)
    if quote >= 0:
        segment = scanner.take(quote)
        scanner.take_byte()
        return segment, True
    end = len(scanner.window)
    backslash = scanner.window.rfind(b"\\", max(scanner.start, end - 5))
    if backslash >= 0:
        is_unicode = scanner.window[backslash + 1 : backslash + 2] == b"u"
        if backslash + (6 if is_unicode else 2) > end:
            end = backslash
    segment = scanner.take(end)
    if not segment and not scanner.refill():
        raise scanner.error(f"the body ends in the middle of {FILE_FIELD}")
    return segment, False


def _unescape(match: re.Match[bytes]) -> bytes:
    """The character that is meant; for what is no escape at all, the backslash to be refused."""
    code = match[1]
    if len(code) == 5:
        point = int(code[1:], 16)
        # Which one does not matter: every byte outside of ASCII is refused.
        return bytes([point]) if point < 128 else b"\xff"
    return _SHORT_ESCAPES.get(code, b"\\")
