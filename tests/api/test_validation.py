"""Request schemas: what is coerced, what is refused, and what is said first."""

from __future__ import annotations

from typing import Any

import pytest

from importops.api.exceptions import InvalidParams
from importops.api.validation import Field, Type, check, check_field

SCHEMA = {
    "first": Field("string", required=True),
    "second": Field("number", required=True),
    "third": Field("boolean"),
}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "a", "a"),
        ("string", 3, "3"),
        ("string", 3.0, "3"),
        ("string", 1.5, "1.5"),
        ("string", True, "true"),
        ("string", None, ""),
        ("number", 3, 3),
        ("number", "3", 3),
        ("number", "1.5", 1.5),
        ("number", "-2e3", -2000),
        ("number", True, 1),
        ("number", None, 0),
        ("boolean", True, True),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("boolean", 1, True),
        ("boolean", 0, False),
        ("boolean", None, False),
        ("object", {}, {}),
        ("array", [], []),
    ],
)
def test_scalars_become_the_type_asked_for(kind: Type, value: Any, expected: Any) -> None:
    result = check_field(value, Field(kind), InvalidParams)
    assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", []),
        ("string", {}),
        ("number", "three"),
        ("number", ""),
        ("number", "1_000"),
        ("number", "NaN"),
        ("number", float("inf")),
        ("number", [3]),
        ("boolean", "yes"),
        ("boolean", 2),
        ("boolean", []),
        ("object", "{}"),
        ("object", []),
        ("object", None),
        ("array", "a"),
        ("array", {}),
        ("array", None),
    ],
)
def test_nothing_else_is_coerced(kind: Type, value: Any) -> None:
    with pytest.raises(InvalidParams, match=f"^must be {kind}$"):
        check_field(value, Field(kind), InvalidParams)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "must be object"),
        ("text", "must be object"),
        (None, "must be object"),
        ({"other": 1}, "must have required property 'first'"),
        ({"first": [], "other": 1}, "must have required property 'second'"),
        ({"first": [], "second": [], "other": 1}, "must NOT have additional properties"),
        ({"first": [], "second": []}, "must be string"),
        ({"first": "", "second": []}, "must be number"),
        ({"first": "", "second": 1, "third": "x"}, "must be boolean"),
    ],
)
def test_the_first_violation_is_told(body: Any, message: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        check(body, SCHEMA)
    assert str(caught.value) == message


def test_an_open_schema_lets_other_fields_through() -> None:
    assert check({"a": 1, "third": "true"}, {"third": Field("boolean")}, closed=False) == {
        "a": 1,
        "third": True,
    }


def test_choices_bounds_and_lengths_are_held_to() -> None:
    with pytest.raises(InvalidParams, match="must be equal to one of the allowed values"):
        check_field("c", Field("string", choices=("a", "b")), InvalidParams)
    with pytest.raises(InvalidParams, match="must be >= 0"):
        check_field("-1", Field("number", minimum=0), InvalidParams)
    with pytest.raises(InvalidParams, match="must NOT have more than 3 characters"):
        check_field("four", Field("string", max_length=3), InvalidParams)


def test_huge_numbers_are_numbers() -> None:
    assert check_field(10**400, Field("number"), InvalidParams) == 10**400
