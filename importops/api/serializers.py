"""What the wire says of our rows, and what of a request becomes a selection.

The operation itself is `engine/progress.py`'s `operation_body`: commands and the admin show it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from importops.api.exceptions import InvalidParams
from importops.api.validation import Field, check, check_field
from importops.engine.progress import counts
from importops.engine.selecting import DIRECT_MESSAGES
from importops.models import ImportFailure, ImportOperation, StagedRecord, User
from importops.redaction import redact

INPUT_SCHEMA = {
    "since": Field("string"),
    "until": Field("string"),
    "grantRoles": Field("boolean"),
}
SELECTOR_SCHEMA = {"all": Field("boolean"), "list": Field("array")}
AT_ONCE = 2000

ID_OF_KIND = {"users": "user_id", "channels": "channel_id"}


def file_data_body(operation: ImportOperation) -> dict[str, Any]:
    """What there is to choose from: the staged users and rooms."""
    staged = StagedRecord.objects.filter(operation=operation).order_by("pk")
    return {
        "name": operation.type,
        "users": [_user(*row) for row in _ids_and_data(staged.users())],
        "channels": _channels(_ids_and_data(staged.rooms())),
        "message_count": counts(operation)["messages"]["total"],
        "contacts": [],
    }


def _ids_and_data(staged: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    rows: Iterable[tuple[str, dict[str, Any]]] = staged.values_list("import_id", "data").iterator(
        AT_ONCE
    )
    return rows


def _user(import_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"user_id": import_id}
    if data.get("username"):
        body["username"] = data["username"]
    if data.get("emails"):
        body["email"] = data["emails"][0]
    return body | {
        "is_deleted": data.get("deleted", False),
        "is_bot": data.get("type") == "bot",
        "do_import": True,
        "is_email_taken": False,
    }


def _channels(rooms: Iterable[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    body: list[dict[str, Any]] = []
    any_direct = False
    for import_id, data in rooms:
        if data.get("type") == "d":
            any_direct = True
        else:
            body.append(_channel(import_id, data))
    if any_direct:
        direct = {"name": "Direct Messages", "type": "d"}
        body.append(_channel(DIRECT_MESSAGES, direct))
    return body


def _channel(import_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"channel_id": import_id}
    if data.get("name"):
        body["name"] = data["name"]
    return body | {
        "is_archived": data.get("archived", False),
        "do_import": True,
        "is_private": data.get("type", "c") != "c",
        "is_direct": data.get("type") == "d",
    }


def failure_body(failure: ImportFailure, reader: User) -> dict[str, Any]:
    """A failed record; what it held only if `reader` may see that."""
    return {
        "kind": ImportFailure.wire_kinds[failure.kind],
        "importId": failure.import_id,
        "place": redact(failure.place),
        "code": failure.code,
        "message": redact(failure.message),
        "retryable": failure.retryable,
        "record": redact(failure.raw_for(reader)),
    }


def selection_of(wire: Mapping[str, Any]) -> dict[str, Any]:
    """The selection that `input` of `startImport` asks for, in either of its two forms.

    Each kind is a selector, `{"all": true}` or `{"list": [ids]}`, or, in the older form, an array
    of the objects that `getImportFileData` gave, of which those with `do_import` are meant.
    """
    selection = check(wire, INPUT_SCHEMA, closed=False)
    chosen: dict[str, Any] = {
        kind: _selector(selection[kind], ID_OF_KIND[kind])
        for kind in ID_OF_KIND
        if kind in selection
    }
    chosen |= {name: selection[name] for name in ("since", "until") if selection.get(name)}
    return {**chosen, "grantRoles": selection.get("grantRoles", False)}


def _selector(value: object, id_name: str) -> dict[str, Any]:
    if isinstance(value, list):
        return {"list": _ids_to_import(value, id_name)}
    selector = check(value, SELECTOR_SCHEMA, closed=False)
    if selector.get("all"):
        return {"all": True}
    return {"list": [_string(item) for item in selector.get("list", [])]}


def _ids_to_import(items: list[object], id_name: str) -> list[str]:
    schema = {id_name: Field("string", required=True), "do_import": Field("boolean")}
    rows = [check(item, schema, closed=False) for item in items]
    return [row[id_name] for row in rows if row.get("do_import")]


def _string(value: object) -> str:
    text: str = check_field(value, Field("string"), InvalidParams)
    return text
