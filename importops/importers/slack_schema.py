"""Messages as Slack writes them: the fields we use, read fast where they are as documented and with
patience where they are not. https://api.slack.com/events/message
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Raw, Struct

from importops.importers.json_stream import decode_whole
from importops.records import FIRST_TIME, LAST_TIME

__all__ = [
    "SlackFile",
    "SlackHead",
    "SlackMessage",
    "SlackReply",
    "are_usual",
    "as_text",
    "decode_heads",
    "decode_messages",
    "loads",
    "microseconds",
    "to_message",
]

NOTHING = Raw()


class SlackEdited(Struct, gc=False):
    user: str | None = None
    ts: str | None = None


class SlackReaction(Struct, gc=False):
    name: str | None = None
    users: list[str] | None = None


class SlackFile(Struct, gc=False):
    id: str | None = None
    name: str | None = None
    title: str | None = None
    mimetype: str | None = None
    size: int | float | None = None
    mode: str | None = None
    is_external: bool | None = None
    url_private: str | None = None
    url_private_download: str | None = None


class SlackReply(Struct, gc=False):
    """A thread's parent lists its replies so."""

    user: str | None = None
    ts: str | None = None


class SlackComment(Struct, gc=False):
    user: str | None = None


class SlackHead(Struct, gc=False):
    """What counting needs of a message. `Raw` fields are decoded only where they are needed."""

    ts: str = ""
    type: str | None = None
    subtype: str | None = None
    user: str | None = None
    bot_id: str | None = None
    username: str | None = None
    files: list[SlackFile | None] | None = None
    file: SlackFile | None = None
    comment: SlackComment | None = None
    user_profile: Raw = NOTHING
    bot_profile: Raw = NOTHING


class SlackMessage(SlackHead, gc=False):
    """All of a message that we use."""

    text: str | None = None
    thread_ts: str | None = None
    parent_user_id: str | None = None
    edited: SlackEdited | None = None
    reactions: list[SlackReaction | None] | None = None
    topic: str | None = None
    purpose: str | None = None
    name: str | None = None
    replies: Raw = NOTHING
    root: Raw = NOTHING
    blocks: Raw = NOTHING
    attachments: Raw = NOTHING


_decode_heads = msgspec.json.Decoder(list[SlackHead]).decode
_decode_list = msgspec.json.Decoder(list[SlackMessage]).decode
_decode_one = msgspec.json.Decoder(SlackMessage).decode
_encode = msgspec.json.Encoder().encode


def decode_messages(data: bytes) -> list[SlackMessage] | None:
    """The array in `data`, or None when anything in it is unlike what Slack writes; then it
    has to be read element by element.
    """
    try:
        return _decode_list(data)
    except (ValueError, RecursionError):
        return None


def decode_heads(data: bytes) -> list[SlackHead] | None:
    """The same for counting, at half the cost: texts are passed over, not read.

    What is wrong with a field that only `SlackMessage` has never fails a message, so both find the
    same failures.
    """
    try:
        return _decode_heads(data)
    except (ValueError, RecursionError):
        return None


def to_message(value: dict[str, Any]) -> SlackMessage:
    """The message in `value`, a decoded JSON object. What `decode_messages` takes comes out the
    same; of the rest, fields with values of another kind are converted or left out.
    """
    try:
        return _decode_one(_encode(value))
    except (ValueError, RecursionError):
        return _lenient_struct(SlackMessage, value)


def loads(raw: Raw) -> Any:
    """The value in `raw`; None when it is no JSON after all. Lone surrogates stay in."""
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return decode_whole(bytes(raw)).value


def as_text(value: Any) -> str:
    """Text or a number as text; '' for anything else."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) in (int, float) else ""


_NO_VALUE: Any = object()
_S = TypeVar("_S", bound=Struct)


@cache
def _fields(cls: type[Struct]) -> dict[str, Any]:
    return get_type_hints(cls)


def _lenient_struct(cls: type[_S], fields: dict[str, Any]) -> _S:
    values = {
        name: value
        for name, kind in _fields(cls).items()
        if name in fields and (value := _lenient(kind, fields[name])) is not _NO_VALUE
    }
    return cls(**values)


def _lenient(kind: Any, value: Any) -> Any:
    """`value` as a field of type `kind`, or as much of it as fits, or `_NO_VALUE`."""
    if kind is Raw:
        return Raw(json.dumps(value).encode())
    try:
        return msgspec.convert(value, kind)
    except ValueError:
        pass
    for option in get_args(kind) or (kind,):
        if option is str and type(value) in (int, float):
            return _number_text(value)
        if get_origin(option) is list and isinstance(value, list):
            (item_kind,) = get_args(option)
            items = (_lenient(item_kind, item) for item in value)
            return [item for item in items if item is not _NO_VALUE]
        if isinstance(value, dict) and issubclass(get_origin(option) or option, Struct):
            return _lenient_struct(option, value)
    return _NO_VALUE


def _number_text(value: int | float) -> str:
    """A number where text belongs: ids, and times as Slack writes them."""
    if isinstance(value, float):
        return f"{value:.6f}"
    return str(value) if abs(value) < 10**30 else ""


# Times.

_TS = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,40}))?")
_USUAL_TS = re.compile(r"(?:[0-9]{10}\.[0-9]{6} )*")


def are_usual(times: list[str]) -> bool:
    """Whether all `times` are of the usual form, ten digits and six: they can be imported then, and
    sort as text.
    """
    return _USUAL_TS.fullmatch(" ".join([*times, ""])) is not None


def microseconds(ts: str) -> int | None:
    """`ts`, seconds since the epoch, in microseconds; exact, what is finer cut off. None when it
    is no time, or none that can be stored.
    """
    match = _TS.fullmatch(ts)
    if match is None:
        return None
    sign, seconds, fraction = match.groups("")
    value = int(seconds) * 1_000_000 + int(fraction[:6].ljust(6, "0"))
    if sign:
        value = -value
    return value if FIRST_TIME <= value <= LAST_TIME else None
