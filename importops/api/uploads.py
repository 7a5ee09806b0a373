"""Receiving files: straight to disk, in flat memory, and gone again if anything goes wrong.

Three forms: `multipart/form-data`, JSON with the file in Base64, and (small files only) a
URL-encoded form with the same fields as the JSON.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http.multipartparser import MultiPartParser
from django.utils.http import parse_header_parameters
from rest_framework.parsers import BaseParser

from importops.api.base64_json import FILE_FIELD, Base64Decoder, read_object
from importops.api.bodies import (
    MIB,
    FormParser,
    WholeBody,
    content_length,
    request_meta,
)
from importops.api.exceptions import ABORTED, InvalidParams, MalformedBody
from importops.api.validation import Field, check
from importops.conf import conf
from importops.errors import NotEnoughSpace, UploadTooLarge
from importops.records import NAME_LIMIT, repair_json

ENVELOPE = MIB
"""Bytes that everything around the file may take."""
BASE64_FACTOR = 1.5
"""Base64 is 4/3 of the file; line breaks and escaped slashes make it longer."""

BASE64_SCHEMA = {
    FILE_FIELD: Field("string", required=True),
    "contentType": Field("string", required=True, max_length=NAME_LIMIT),
    "fileName": Field("string", required=True),
    "importerKey": Field("string", required=True),
}
MULTIPART_FILES = ("file", FILE_FIELD)
MULTIPART_SCHEMA = {
    "file": Field("string", required=True),
    "contentType": Field("string", max_length=NAME_LIMIT),
    "fileName": Field("string"),
    "importerKey": Field("string", required=True),
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived in full. Leaving the `with` block removes it, unless moved."""

    file: TemporaryUploadedFile
    file_name: str
    content_type: str
    importer_key: str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()


class IncomingFile:
    """A temporary file being written, held to the size limit. Removed unless `keep` is called."""

    def __init__(self) -> None:
        self.file: TemporaryUploadedFile | None = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.discard()

    def open(self) -> Self:
        """Begin, or begin again."""
        self.discard()
        self.file = TemporaryUploadedFile("import", "", 0, None)
        self.size = 0
        return self

    def write(self, data: bytes) -> None:
        assert self.file is not None  # noqa: S101
        self.size += len(data)
        if self.size > conf().max_upload_bytes:
            raise too_large()
        try:
            self.file.write(data)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NotEnoughSpace from error
            raise

    def keep(self) -> TemporaryUploadedFile:
        """The complete file, ready to be read or moved; the caller closes it."""
        assert self.file is not None  # noqa: S101
        file, self.file = self.file, None
        file.size = self.size
        file.flush()
        file.seek(0)
        return file

    def discard(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


def too_large() -> UploadTooLarge:
    return UploadTooLarge(
        f"The file is larger than the {conf().max_upload_bytes} bytes that this "
        "server accepts (IMPORTOPS_MAX_UPLOAD_BYTES)."
    )


def check_announced_size(meta: Mapping[str, Any], factor: float = 1.0) -> None:
    """Refuse what cannot fit before a byte of it is read.

    `factor`: how many bytes of body one byte of file may take.
    """
    length = content_length(meta)
    if length > conf().max_upload_bytes * factor + ENVELOPE:
        raise too_large()
    directory = settings.FILE_UPLOAD_TEMP_DIR or os.curdir
    free = shutil.disk_usage(Path(directory)).free - conf().min_free_bytes
    if length / factor > free:
        raise NotEnoughSpace


class Base64UploadParser(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        meta = request_meta(parser_context)
        check_announced_size(meta, BASE64_FACTOR)
        with IncomingFile() as incoming:
            fields, decoded = read_object(WholeBody(stream, meta), incoming.open)
            if decoded:
                fields[FILE_FIELD] = ""
            checked = check(fields, BASE64_SCHEMA)
            if not decoded:
                _decode_text(checked[FILE_FIELD], incoming)
            return _base64_upload(checked, incoming)


class FormUploadParser(FormParser):
    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        fields = super().parse(stream, media_type, parser_context)
        checked = check(fields, BASE64_SCHEMA)
        with IncomingFile() as incoming:
            # In a form a space is a plus sign that was not escaped; Base64 has no spaces.
            _decode_text(checked[FILE_FIELD].replace(" ", "+"), incoming)
            return _base64_upload(checked, incoming)


class MultipartUploadParser(BaseParser):
    media_type = "multipart/form-data"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        meta = request_meta(parser_context)
        check_announced_size(meta)
        body = WholeBody(stream, meta)
        with IncomingFile() as incoming:
            handler = _FilePart(incoming)
            parser = MultiPartParser(meta, body, [handler], "utf-8")  # type: ignore[arg-type]
            post, _ = parser.parse()
            _require_closing_boundary(meta, body)
            fields: dict[str, Any] = repair_json(post.dict())
            # Text under the file's name is no file: a form in which none was chosen, a forgotten @.
            for name in MULTIPART_FILES:
                fields.pop(name, None)
            if incoming.file is not None:
                fields["file"] = ""
            checked = check(fields, MULTIPART_SCHEMA)
            return Upload(
                file=incoming.keep(),
                file_name=checked.get("fileName") or repair_json(handler.name),
                content_type=checked.get("contentType") or handler.type,
                importer_key=checked["importerKey"],
            )


class _FilePart(FileUploadHandler):
    """Django's multipart parser hands the one file over piece by piece."""

    chunk_size = MIB

    def __init__(self, incoming: IncomingFile) -> None:
        super().__init__()
        self.incoming = incoming
        self.name = ""
        self.type = ""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        if self.field_name not in MULTIPART_FILES or self.incoming.file is not None:
            raise InvalidParams("must NOT have additional properties")
        self.name = self.file_name or ""
        self.type = (self.content_type or "")[:NAME_LIMIT]
        self.incoming.open()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.incoming.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        return None


def _require_closing_boundary(meta: Mapping[str, Any], body: WholeBody) -> None:
    """Django takes the end of the body for the end of the file; a broken upload ends like that."""
    _, parameters = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
    if f"--{parameters['boundary']}--".encode("latin-1", "replace") not in body.tail:
        raise MalformedBody(ABORTED)


def _decode_text(text: str, incoming: IncomingFile) -> None:
    decoder = Base64Decoder(incoming.open())
    decoder.feed(text.encode("latin-1", "replace"))
    decoder.finish()


def _base64_upload(fields: Mapping[str, str], incoming: IncomingFile) -> Upload:
    return Upload(
        file=incoming.keep(),
        file_name=fields["fileName"],
        content_type=fields["contentType"],
        importer_key=fields["importerKey"],
    )
