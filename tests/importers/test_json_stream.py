from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importops.importers.json_stream import Element, decode_whole, iter_array

LIMIT = 1024**2


def elements(data: bytes | Iterable[bytes], limit: int = LIMIT, start: int = 0) -> list[Element]:
    chunks = [data] if isinstance(data, bytes) else data
    return list(iter_array(chunks, limit, start))


def values(data: bytes | Iterable[bytes], limit: int = LIMIT) -> list[Any]:
    """Values, and the code in place of a value that there is not."""
    return [e.code or e.value for e in elements(data, limit)]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


INVALID = "importer-json-invalid"
TRUNCATED = "importer-json-truncated"
NOT_A_LIST = "importer-json-not-a-list"
TOO_LARGE = "importer-record-too-large"
TOO_DEEP = "importer-json-too-deep"


def test_elements_come_with_their_places() -> None:
    first, second = elements('[{"a": "é"},\n {"b": 2}]'.encode())
    assert first == Element(0, 1, {"a": "é"})
    assert second == Element(1, 14, {"b": 2})


def test_it_starts_where_it_is_told() -> None:
    data = b'[0, 1, x, {"a": 3}, 4, '
    everything = elements(data)
    assert [e.index for e in everything] == [0, 1, 2, 3, 4, 5]
    for start in range(7):
        assert elements(data, start=start) == everything[start:]


@pytest.mark.parametrize("data", [b"[]", b" [ ] ", b"\xef\xbb\xbf[]\r\n"])
def test_an_empty_list_has_no_elements(data: bytes) -> None:
    assert elements(data) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_scalars_may_stand_across_chunks(size: int) -> None:
    data = b'[123.5, -1e3, true, null, "a\\u00e9\\\\", "\\"", [], {}]'
    want: list[Any] = [123.5, -1000.0, True, None, "aé\\", '"', [], {}]
    assert values(cut(data, size)) == want


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    array=st.lists(JSON, max_size=12),
    size=st.integers(1, 80),
    escape=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(max_examples=400, deadline=None)
def test_any_array_comes_out_as_it_is_in_any_chunks(
    array: list[Any], size: int, escape: bool, indent: int | None, encoding: str
) -> None:
    text = json.dumps(array, ensure_ascii=escape, indent=indent)
    if not escape:  # lone surrogates exist as escapes only
        text = text.encode("utf-8", "replace").decode()
    found = elements(cut(text.encode(encoding), size))
    assert [e.value for e in found] == json.loads(text)
    assert [e.code for e in found] == [""] * len(found)
    assert [e.index for e in found] == list(range(len(found)))
    assert decode_whole(text.encode(encoding)).value == json.loads(text)


PIECES = st.sampled_from(
    [*b'[]{}",:\\ \n0u\xff-.e', *(b'"a":', b"[1,", b'{"x": [', b"true", b"\xc3\xa9")]
)


@given(
    st.lists(PIECES.map(lambda p: p if isinstance(p, bytes) else bytes([p]))),
    st.integers(1, 9),
    st.sampled_from([3, 20, LIMIT]),
)
@settings(max_examples=800, deadline=None)
def test_any_bytes_are_read_without_raising_and_alike_in_any_chunks(
    pieces: list[bytes], size: int, limit: int
) -> None:
    data = b"[" + b"".join(pieces)
    whole = elements(data, limit)
    assert [e.index for e in whole] == list(range(len(whole)))
    assert values(cut(data, size), limit) == [e.code or e.value for e in whole]
    assert decode_whole(data).index == 0
    try:
        decoded = json.loads(data, strict=False)
    except ValueError:
        assert any(e.code for e in whole) or data.rstrip().endswith((b"]",))
    else:
        if limit == LIMIT and isinstance(decoded, list):
            assert [e.value for e in whole] == decoded


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_at_all_are_read_without_raising(data: bytes) -> None:
    elements(data)
    elements(cut(data, 3))
    decode_whole(data)


# Bytes that are no text.


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_invalid_utf8_costs_its_own_characters(size: int) -> None:
    data = b'["a", "b\xff\xc3", "\xef\xbf\xbd", {"\xed\xa0\x80": 1}, "\xc3\xa9"]'
    found = elements(cut(data, size))
    want = ["a", "b\ufffd\ufffd", "\ufffd", {"\ufffd" * 3: 1}, "é"]
    assert [e.value for e in found] == want
    assert [e.repaired for e in found] == [False, True, False, True, False]


def test_utf16_is_known_by_its_byte_order_mark() -> None:
    for encoding, bom in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        data = bom + '["é", "😀"]'.encode(encoding)
        assert values(cut(data, 1)) == ["é", "😀"]
        assert decode_whole(data).value == ["é", "😀"]
    assert values(b'\xff\xfe[\0"\0\x00\xd8"\0,\x001\0]\0') == ["\ufffd", 1]


def test_lone_surrogates_are_left_for_the_records_to_repair() -> None:
    assert values(b'["\\ud800"]') == ["\ud800"]


# Values that decoders trip over.


def test_numbers_that_are_none_become_nothing() -> None:
    assert values(b"[NaN, Infinity, -Infinity, 1e999, -1e999, 1.5]") == [
        *(None, None, None, None, None),
        1.5,
    ]


def test_a_number_of_ten_thousand_digits_fails_alone() -> None:
    found = elements(b"[1, " + b"9" * 10_000 + b", 2]")
    assert [e.code or e.value for e in found] == [1, INVALID, 2]
    assert "too long" in found[1].message


def test_control_characters_may_stand_in_strings() -> None:
    assert values(b'["a\nb\x00"]') == ["a\nb\0"]


@pytest.mark.parametrize("depth", [201, 5000, 300_000])
def test_deep_nesting_fails_alone(depth: int) -> None:
    data = b"[1, " + b"[" * depth + b"]" * depth + b", 2]"
    assert values(data) == [1, TOO_DEEP, 2]
    assert values(cut(data, 1000)) == [1, TOO_DEEP, 2]


def test_many_brackets_side_by_side_are_not_deep() -> None:
    (element,) = elements(b"[[" + b"[],{}," * 500 + b'"[[["]]')
    assert len(element.value) == 1001
    (element,) = elements(b"[" + b"[" * 200 + b"]" * 200 + b"]")
    assert element.code == ""


def test_a_file_of_opening_brackets_only() -> None:
    assert values(b"[" * 200_000) == [TRUNCATED]
    assert values(cut(b"[" * 3_000_000, 65_536)) == [TRUNCATED]
    assert decode_whole(b"[" * 200_000).code == TOO_DEEP


# Broken elements.


@pytest.mark.parametrize(
    "broken",
    [
        b"tru",
        b"'a'",
        b'{"a" 1}',
        b'{"a": [1, 2}]',
        b'{"a": 1}}',
        b'{"a": 1} {"b": 2}',
        b'"\\x"',
        b"1.",
        b"01",
        b"",
        b'{"a": }',
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_broken_element_fails_alone(broken: bytes, size: int) -> None:
    found = elements(cut(b"[1, " + broken + b', {"x": 3}]', size))
    assert [e.code or e.value for e in found] == [1, INVALID, {"x": 3}]
    assert "Record 1, at character " in found[1].message
    assert found[1].raw == broken.decode()


def test_an_unclosed_string_makes_the_rest_unreadable() -> None:
    data = b'[{"a": 1}, {"a": "x}, {"a": 2}, {"a": 3}]'
    *whole, problem = elements(data)
    assert [e.value for e in whole] == [{"a": 1}]
    assert (problem.code, problem.at) == (INVALID, 11)
    assert "rest of the file from character 11 on" in problem.message


def test_an_unclosed_string_before_more_than_a_record_may_hold() -> None:
    data = b'[{"a": 1}, {"a": "x}, ' + b'{"a": 2}, ' * 5000 + b"1]"
    *whole, problem = elements(cut(data, 1000), limit=10_000)
    assert [e.value for e in whole] == [{"a": 1}]
    assert (problem.index, problem.code, problem.at) == (1, INVALID, 11)


def test_a_comma_before_the_end_is_forgiven() -> None:
    assert values(b"[1, 2, ]") == [1, 2]


# Files that are broken.


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_whole_elements_of_a_file_that_is_cut_off(size: int) -> None:
    data = b'[{"a": "b"}, [2], "c\\"d", true, 123.25]'
    whole = [{"a": "b"}, [2], 'c"d', True, 123.25]
    for end in range(1, len(data)):
        *found, problem = elements(cut(data[:end], size))
        assert [e.value for e in found] == whole[: len(found)]
        assert problem.code == TRUNCATED
        assert problem.index == len(found)
    assert len(found) == 4  # a number at the end might have gone on


def test_a_file_cut_off_behind_a_broken_element() -> None:
    first, problem = elements(b'[1, {"a": 1} x')
    assert first.value == 1
    assert (problem.code, problem.at) == (INVALID, 4)
    assert "something follows its value" in problem.message


def test_what_is_no_list_is_said() -> None:
    for data, kind in (
        (b'{"a": 1}', "an object"),
        (b'"a"', "a string"),
        (b"-1", "a n"),
    ):
        (problem,) = elements(data)
        assert problem.code == NOT_A_LIST
        assert f"Expected a list, found {kind}" in problem.message
    assert values(b"<html>") == [INVALID]


@pytest.mark.parametrize("data", [b"", b" \n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file_is_a_problem(data: bytes) -> None:
    assert values(data) == [INVALID]
    assert "empty" in elements(data)[0].message
    assert decode_whole(data).code == INVALID


@pytest.mark.parametrize("junk", [b"x", b"]", b", 3]", b"[3]", b"\0\0"])
def test_what_stands_behind_the_list_is_a_problem(junk: bytes) -> None:
    first, second, problem = elements(b"[1, 2] \n" + junk)
    assert (first.value, second.value) == (1, 2)
    assert (problem.index, problem.code, problem.at) == (2, INVALID, 8)


def test_it_reads_to_the_end_so_that_checksums_get_compared() -> None:
    finished = []

    def chunks() -> Iterator[bytes]:
        yield b"[1"
        yield b"]"
        yield b" "
        finished.append(True)

    assert values(chunks()) == [1]
    assert finished


# Sizes.


@pytest.mark.parametrize("size", [1, 30, 10_000])
def test_an_element_beyond_the_limit_fails_alone(size: int) -> None:
    data = b'[1, {"a": ["' + b"x\\n" * 100 + b'", {}]}, 2]'
    found = elements(cut(data, size), limit=100)
    assert [e.code or e.value for e in found] == [1, TOO_LARGE, 2]
    assert "IMPORTOPS_MAX_RECORD_BYTES" in found[1].message
    assert found[1].raw.startswith('{"a": ["x')


def test_the_limit_counts_bytes() -> None:
    data = '["éé", "éé1"]'.encode()
    assert values(data, limit=6) == ["éé", TOO_LARGE]


HUGE = {
    "one string": (b'"', b"a" * 65_536, b'"'),
    "escapes": (b'"', b"\\n" * 32_768, b'"'),
    "many objects": (b"[", b'{"x": [{"y": "z"}]},' * 3000, b"1]"),
    "deeper and deeper": (b"", b'["[", {"x":' * 1000, b""),
}


@pytest.mark.parametrize("shape", HUGE)
def test_a_huge_element_is_passed_over_without_being_held(shape: str) -> None:
    before, filling, after = HUGE[shape]

    def chunks() -> Iterator[bytes]:
        yield b'[1, {"a": ' + before
        for _ in range(400):
            yield filling
        yield after + b"}, 2]"

    tracemalloc.start()
    try:
        found = [e.code or e.value for e in iter_array(chunks(), LIMIT)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    ends = [TRUNCATED] if shape == "deeper and deeper" else [TOO_LARGE, 2]
    assert found == [1, *ends]
    assert peak < 8 * LIMIT


def test_memory_is_flat_in_the_length_of_the_list() -> None:
    block = (json.dumps({"text": "hé" * 300}, ensure_ascii=False) + ",\n").encode()

    def chunks() -> Iterator[bytes]:
        yield b"["
        for _ in range(300):
            yield block * 100
        yield b"1]"

    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_array(chunks(), LIMIT)) == 30_001
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_broken_text_is_not_read_over_and_over() -> None:
    """Minutes if each element cost the length of its file; about a second as it is."""
    count = 20_000
    data = b"[" + b'{"a": 1 "b"},' * count + b"1]"
    found = elements(data)
    assert len(found) == count + 1
    assert {e.code for e in found[:-1]} == {INVALID}
