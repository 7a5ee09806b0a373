"""The streaming decoder: whatever way the JSON is written, the bytes are the same, and few at once."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importops.api import base64_json
from importops.api.base64_json import read_object
from importops.api.exceptions import BodyTooLarge, RequestError
from importops.records import repair_json


class Trickle(io.BytesIO):
    """A stream that gives `step` bytes at a time, whatever is asked for."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self.step = step

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.step)


def decode(body: bytes, step: int = 1024**2) -> tuple[dict[str, Any], bytes | None]:
    """The other properties, and the file (None: it was not decoded)."""
    files: list[io.BytesIO] = []

    def new_file() -> io.BytesIO:
        files.append(io.BytesIO())
        return files[-1]

    fields, decoded = read_object(Trickle(body, step), new_file)
    return fields, files[-1].getvalue() if decoded else None


def binary(text: str) -> bytes:
    return b'{"binaryContent":"%s"}' % text.encode()


@given(
    content=st.binary(max_size=200),
    before=st.dictionaries(st.sampled_from(["fileName", "x"]), st.text(max_size=20)),
    after=st.dictionaries(
        st.sampled_from(["contentType", "y"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists),
        max_size=2,
    ),
    step=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
)
def test_any_object_in_any_pieces_gives_the_same(
    content: bytes, before: Any, after: Any, step: int, indent: int | None
) -> None:
    text = base64.b64encode(content).decode()
    body = json.dumps({**before, "binaryContent": text, **after}, indent=indent)
    assert decode(body.encode(), step) == (repair_json(before | after), content)


@given(body=st.binary(max_size=60), step=st.integers(1, 7))
def test_no_bytes_crash_it(body: bytes, step: int) -> None:
    for data in (body, b'{"binaryContent":"' + body, b'{"a":' + body + b"}"):
        try:
            decode(data, step)
        except RequestError as error:
            assert str(error)


@given(content=st.binary(max_size=60), step=st.integers(1, 9))
def test_escapes_in_the_base64_are_unescaped(content: bytes, step: int) -> None:
    text = base64.b64encode(content).decode()
    php = text.replace("/", "\\/")
    unicode = "".join(f"\\u{ord(char):04x}" for char in text)
    broken_up = "\\r\\n".join(text[i : i + 8] for i in range(0, len(text), 8))
    for written in (php, unicode, broken_up):
        assert decode(binary(written), step) == ({}, content)


@pytest.mark.parametrize(
    "text",
    [
        "aGVsbG8=",
        "aGVsbG8",
        " aGVs\tbG8= ",
        "aGVsbG8\\u003d",
        "data:application/zip;base64,aGVsbG8=",
        "data:;base64,aGVsbG8=",
    ],
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_other_ways_to_write_base64_are_read(text: str, step: int) -> None:
    assert decode(binary(text), step) == ({}, b"hello")


def test_the_url_safe_alphabet_is_read() -> None:
    assert decode(binary("-_-_")) == ({}, b"\xfb\xff\xbf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aGVs!G8=", "at character 5: '!'"),
        ("aGVs\\u0000bG8=", r"at character 5: '\\x00'"),
        ("aGVs\\u00e9bG8=", r"at character 5: '\\xff'"),
        ("aGVsbG8=aGVs", "at character 9: data after the padding"),
        ("aGVsb", "at character 6: the text ends in the middle of a byte"),
        ("aGVs====", "at character 9: the text ends in the middle of a byte"),
        ("data:text/plain,hello", "at character 1: a data: URL that is not Base64"),
        ("data:text/plain", "at character 1: a data: URL without a comma"),
        ("aGVs\\x", "at character 5: '\\\\\\\\'"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_bad_base64_is_refused_with_its_place(text: str, message: str, step: int) -> None:
    with pytest.raises(RequestError, match=f"binaryContent is not valid Base64 {message}"):
        decode(binary(text), step)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "expected { at byte 1"),
        (b'{"a":1', "ends in the middle of a value at byte 7"),
        (b'{"a":1,}', "expected a property name at byte 8"),
        (b'{"a" 1}', "expected : at byte 6"),
        (b'{"a":}', "expected a value at byte 6"),
        (b'{"a":1} x', "something follows the object at byte 9"),
        (b'{"a":"x', "in the middle of a value"),
        (b'{"binaryContent":"aGVs', "the body ends in the middle of binaryContent"),
        (b'{"a":nope}', "not valid JSON"),
        (b'{"a":"\xff"}', "not valid JSON"),
    ],
)
def test_malformed_json_is_refused_with_its_place(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode(body)


def test_an_empty_body_is_an_empty_object() -> None:
    assert decode(b" \n") == ({}, None)


def test_the_last_of_two_files_counts() -> None:
    body = b'{"binaryContent":"YQ==","x":1,"binaryContent":"Yg=="}'
    assert decode(body) == ({"x": 1}, b"b")


def test_a_file_that_is_no_string_is_left_to_the_schema() -> None:
    assert decode(b'{"binaryContent":"YQ==","binaryContent":[1]}') == (
        {"binaryContent": [1]},
        None,
    )


def test_everything_else_is_bounded() -> None:
    for body in (
        b'{"fileName":"%s"}' % (b"a" * 70_000),
        b'{"x":%s}' % (b"[" * 70_000),
        b"{" + b'"":1,' * 40_000 + b'"":1}',
    ):
        with pytest.raises(BodyTooLarge, match="may take 64 KiB"):
            decode(body)


def test_a_long_file_is_never_held_whole() -> None:
    """The window stays at about one chunk, whatever the size of the body."""
    chunk = b"QUJD" * (base64_json.CHUNK // 4)

    class Endless:
        left = 20
        largest = 0

        def read(self, size: int = -1, /) -> bytes:
            self.left -= 1
            if self.left == 19:
                return b'{"binaryContent":"'
            return chunk if self.left > 0 else b'"}'[: 2 if self.left == 0 else 0]

        def write(self, data: bytes, /) -> None:
            self.largest = max(self.largest, len(data))

    endless = Endless()
    read_object(endless, lambda: endless)
    assert endless.largest <= base64_json.CHUNK
