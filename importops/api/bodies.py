"""Reading request bodies: bounded, complete, and repaired before anybody looks at them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import parse_qsl

from rest_framework.parsers import BaseParser

from importops.api.exceptions import (
    ABORTED,
    BodyTooLarge,
    LengthRequired,
    MalformedBody,
    RequestError,
)
from importops.records import repair_json

MIB = 1024**2
BODY_LIMIT = 32 * MIB
"""Bytes of an ordinary body. Files go through `uploads.py`, which holds none in memory."""
FIELD_COUNT_LIMIT = 1000
TAIL = 256

_BAD_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


class WholeBody:
    """The request's stream; a client that hangs up half-way becomes an error, not an end."""

    def __init__(self, stream: IO[bytes], meta: Mapping[str, Any]) -> None:
        self.stream = stream
        self.length = content_length(meta)
        self.position = 0
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read() if size < 0 else self.stream.read(size)
        self.position += len(data)
        if self.position < self.length and (not data or size < 0):
            raise MalformedBody(ABORTED)
        if data:
            self.tail = (self.tail + data[-TAIL:])[-TAIL:]
        return data


def content_length(meta: Mapping[str, Any]) -> int:
    try:
        return max(0, int(meta.get("CONTENT_LENGTH") or 0))
    except ValueError:
        return 0


def require_length(meta: Mapping[str, Any]) -> None:
    """Raise `LengthRequired` for a chunked body, which WSGI would show as no body at all."""
    if "chunked" in meta.get("HTTP_TRANSFER_ENCODING", "").lower():
        raise LengthRequired("Chunked request bodies are not accepted; send a Content-Length.")


def read_body(stream: IO[bytes], parser_context: Mapping[str, Any] | None) -> bytes:
    """All of an ordinary body. Raises `BodyTooLarge` before reading one that is too long."""
    meta = request_meta(parser_context)
    limit = body_limit(parser_context)
    if content_length(meta) > limit:
        size = f"{limit // MIB} MiB" if limit >= MIB else f"{limit // 1024} KiB"
        raise BodyTooLarge(f"The request body is larger than {size}.")
    return WholeBody(stream, meta).read()


def decode_json(data: bytes) -> Any:
    """The JSON value in `data`; nothing at all counts as `{}`. Raises `MalformedBody`."""
    if not data.strip():
        return {}
    try:
        text = data.decode("utf-8-sig")
        return repair_json(json.loads(text, parse_constant=_refuse_constant))
    except RecursionError:
        raise MalformedBody("The body is not valid JSON: too deeply nested.") from None
    except ValueError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def decode_fields(text: str, error: type[RequestError]) -> dict[str, str]:
    """Form fields or a query string as flat strings; of one name given twice the last counts."""
    if not text:
        return {}
    if _BAD_PERCENT.search(text):
        raise error("Invalid query parameters")
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELD_COUNT_LIMIT,
        )
    except ValueError:
        raise error("Invalid query parameters") from None
    fields: dict[str, str] = repair_json(dict(pairs))
    return fields


class JsonParser(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return decode_json(read_body(stream, parser_context))


class FormParser(BaseParser):
    media_type = "application/x-www-form-urlencoded"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        data = read_body(stream, parser_context)
        try:
            return decode_fields(data.decode(), MalformedBody)
        except (MalformedBody, UnicodeDecodeError):
            raise MalformedBody("The body is not valid form data.") from None


def request_meta(parser_context: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The headers of the request that a parser works for."""
    assert parser_context is not None  # noqa: S101
    meta: Mapping[str, Any] = parser_context["request"].META
    return meta


def body_limit(parser_context: Mapping[str, Any] | None) -> int:
    """Bytes that the endpoint in question accepts."""
    limit: int = getattr((parser_context or {}).get("view"), "body_limit", BODY_LIMIT)
    return limit
