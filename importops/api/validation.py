"""Request schemas: a table of fields per endpoint, checked as JSON Schema with coercion.

Only the first violation is told: missing fields first, then unknown ones, then wrong types.
Scalars are turned into the type that is asked for (`"3"` into 3, `"true"` into true, null into
`""`, 0 or false); arrays and objects are never turned into anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from importops.api.exceptions import InvalidParams

Type = Literal["string", "number", "boolean", "object", "array"]


@dataclass(frozen=True, slots=True)
class Field:
    type: Type
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    max_length: int | None = None


Schema = Mapping[str, Field]


def check(
    value: object,
    schema: Schema,
    *,
    closed: bool = True,
    error: type[InvalidParams] = InvalidParams,
) -> dict[str, Any]:
    """`value` with its fields coerced. Raises `error`.

    With `closed` no other fields are allowed; without, they stay as they are.
    """
    if not isinstance(value, dict):
        raise error("must be object")
    for name, field in schema.items():
        if field.required and name not in value:
            raise error(f"must have required property '{name}'")
    if closed and any(name not in schema for name in value):
        raise error("must NOT have additional properties")
    checked = dict(value)
    for name, field in schema.items():
        if name in value:
            checked[name] = check_field(value[name], field, error)
    return checked


def check_field(value: object, field: Field, error: type[InvalidParams]) -> Any:
    result = _COERCE[field.type](value)
    if result is None:
        raise error(f"must be {field.type}")
    if field.choices and result not in field.choices:
        raise error("must be equal to one of the allowed values")
    if field.minimum is not None and result < field.minimum:
        raise error(f"must be >= {field.minimum}")
    if field.max_length is not None and len(result) > field.max_length:
        raise error(f"must NOT have more than {field.max_length} characters")
    return result


def _string(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (int, float)) else None


def _number(value: object) -> int | float | None:
    if value is None or isinstance(value, int):
        return int(value or 0)
    if isinstance(value, str) and "_" not in value:
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def _boolean(value: object) -> bool | None:
    if value is None or value is False or value in ("false", 0):
        return False
    if value is True or value in ("true", 1):
        return True
    return None


def _object(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _array(value: object) -> list[Any] | None:
    return value if isinstance(value, list) else None


_COERCE: dict[Type, Callable[[object], Any]] = {
    "string": _string,
    "number": _number,
    "boolean": _boolean,
    "object": _object,
    "array": _array,
}
