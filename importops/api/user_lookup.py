"""Whom the query string of `users.info` asks for: one key, as a union of schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from importops.api.bodies import decode_json
from importops.api.exceptions import InvalidQuery, MalformedBody, RequestError
from importops.api.validation import Field, check
from importops.errors import InvalidFields

KEYS = ("userId", "username", "importId", "email", "freeSwitchExtension")
OPTIONS = {"includeUserRooms": Field("string"), "fields": Field("string")}
SHOWN = 100


@dataclass(frozen=True, slots=True)
class Lookup:
    key: str
    value: str
    rooms: bool


def user_lookup(query: Mapping[str, str]) -> Lookup:
    """Raises `InvalidQuery`, which names what each schema has against the query, and `InvalidFields`."""
    violations = []
    for key in KEYS:
        schema = {key: Field("string", required=True), **OPTIONS}
        try:
            checked = check(query, schema, error=InvalidQuery)
        except InvalidQuery as error:
            violations.append(str(error))
            continue
        if not checked[key]:
            raise RequestError("Invalid search query.")
        rooms = checked.get("includeUserRooms") == "true" or _asks_for_rooms(checked)
        return Lookup(key, checked[key], rooms)
    raise InvalidQuery("\n ".join([*violations, "must match a schema in anyOf"]))


def _asks_for_rooms(query: Mapping[str, str]) -> bool:
    """The older way: `fields={"userRooms": 1}`. Nothing else in it means anything here."""
    text = query.get("fields", "")
    try:
        fields = decode_json(text.encode())
    except MalformedBody:
        fields = text
    if fields is None:
        return False
    if not isinstance(fields, dict):
        raise InvalidFields(f'Invalid fields parameter provided: "{text[:SHOWN]}"')
    return bool(fields.get("userRooms"))
