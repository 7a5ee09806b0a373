"""`POST uploadImportFile`: a file in Base64, in multipart, in a form; whole, or not at all."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import UnreadablePostError
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from pytest_django import Settings

from importops.conf import conf
from importops.models import ImportOperation, Status, User
from tests.clients import ApiClient
from tests.exports import slack_room, slack_user, slack_zip
from tests.factories import ImportOperationFactory

UPLOAD = "uploadImportFile"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def export() -> bytes:
    target = BytesIO()
    slack_zip(
        target, users=[slack_user("U1", "ann")], channels=[slack_room("C1", "general", ["U1"])]
    )
    return target.getvalue()


def fields(content: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "binaryContent": base64.b64encode(content).decode(),
        "contentType": "application/zip",
        "fileName": "export.zip",
        "importerKey": "slack",
    } | changes


def multipart(content: bytes, **changes: Any) -> dict[str, Any]:
    file = SimpleUploadedFile("export.zip", content, "application/zip")
    body = {"importerKey": "slack", "file": file} | changes
    return {"body": encode_multipart(BOUNDARY, body), "content_type": MULTIPART_CONTENT}


def encoded(content: bytes, form: str, **changes: Any) -> dict[str, Any]:
    if form == "multipart":
        return multipart(content, **changes)
    return {"body": json.dumps(fields(content, **changes)).encode(), "content_type": JSON}


def stored() -> tuple[ImportOperation, bytes]:
    operation = ImportOperation.objects.get()
    with operation.archive.open("rb") as file:
        return operation, file.read()


def assert_refused(response: Any, status: int, uploads: Path, **body: Any) -> None:
    """That nothing is left of the upload: no operation, no file."""
    assert (response.status_code, response.json()) == (status, {"success": False} | body)
    assert not ImportOperation.objects.exists()
    assert list(uploads.iterdir()) == []


def test_base64_json_is_stored(
    alice_client: ApiClient, alice: User, export: bytes, uploads: Path
) -> None:
    response = alice_client.post(UPLOAD, fields(export))
    assert (response.status_code, response.content) == (200, b'{"success":true}')
    operation, content = stored()
    assert content == export
    assert (operation.importer_key, operation.type) == ("slack", "Slack")
    assert (operation.content_type, operation.user) == ("application/zip", alice)
    assert (operation.status, operation.valid) == (Status.FILE_LOADED, True)
    assert list(uploads.iterdir()) == []


def test_multipart_is_stored(alice_client: ApiClient, export: bytes, uploads: Path) -> None:
    response = alice_client.send(UPLOAD, **multipart(export))
    assert (response.status_code, response.content) == (200, b'{"success":true}')
    operation, content = stored()
    assert (content, operation.content_type) == (export, "application/zip")
    assert operation.file.endswith("_export.zip")
    assert list(uploads.iterdir()) == []


def test_fields_of_multipart_name_the_file(alice_client: ApiClient, export: bytes) -> None:
    body = multipart(export, fileName="other.zip", contentType="application/x-zip")
    assert alice_client.send(UPLOAD, **body).status_code == 200
    operation, _ = stored()
    assert operation.file.endswith("_other.zip")
    assert operation.content_type == "application/x-zip"


def test_a_multipart_file_may_be_called_binary_content(
    alice_client: ApiClient, export: bytes
) -> None:
    file = SimpleUploadedFile("export.zip", export)
    body = encode_multipart(BOUNDARY, {"importerKey": "slack", "binaryContent": file})
    response = alice_client.send(UPLOAD, body, MULTIPART_CONTENT)
    assert response.status_code == 200
    assert stored()[1] == export


@pytest.mark.parametrize("escaped", [True, False])
def test_a_form_is_stored(alice_client: ApiClient, export: bytes, escaped: bool) -> None:
    """Also from a client that leaves the plus signs as they are."""
    text = base64.b64encode(export).decode()
    if escaped:
        text = text.replace("+", "%2B")
    body = f"binaryContent={text}&contentType=a/b&fileName=e.zip&importerKey=slack"
    response = alice_client.send(UPLOAD, body.encode(), FORM)
    assert response.status_code == 200
    assert stored()[1] == export


def test_the_name_on_the_wire_is_the_documented_one(
    alice_client: ApiClient, alice: User, export: bytes
) -> None:
    alice_client.post(UPLOAD, fields(export, fileName="pp.svg"))
    name = alice_client.get("getCurrentImportOperation").json()["operation"]["file"]
    assert re.fullmatch(rf"20\d\d\d{{4,10}}_{alice.public_id}_pp\.svg", name)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "C:\\exports\\passwd", "/etc/passwd", "pass\x00wd", "pass\nwd"]
)
def test_a_hostile_name_is_made_harmless(alice_client: ApiClient, export: bytes, name: str) -> None:
    assert alice_client.post(UPLOAD, fields(export, fileName=name)).status_code == 200
    assert re.fullmatch(r"\w+_pass.?wd", stored()[0].file)


def test_a_body_beyond_djangos_memory_limit_is_stored(
    alice_client: ApiClient, settings: Settings
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    content = bytes(range(256)) * 1000
    assert alice_client.post(UPLOAD, fields(content)).status_code == 200
    assert stored()[1] == content


@pytest.mark.parametrize("name", ["binaryContent", "contentType", "fileName", "importerKey"])
def test_every_field_is_required(
    alice_client: ApiClient, export: bytes, uploads: Path, name: str
) -> None:
    body = fields(export)
    del body[name]
    response = alice_client.post(UPLOAD, {**body, "additional": 1})
    message = f"must have required property '{name}'"
    assert_refused(response, 400, uploads, errorType="invalid-params", error=message)


@pytest.mark.parametrize("content_type", [JSON, FORM, MULTIPART_CONTENT, ""])
def test_no_body_at_all_misses_the_first_field(
    alice_client: ApiClient, uploads: Path, content_type: str
) -> None:
    response = alice_client.send(UPLOAD, b"", content_type)
    message = "must have required property 'binaryContent'"
    assert_refused(response, 400, uploads, errorType="invalid-params", error=message)


def test_no_other_field_is_allowed(alice_client: ApiClient, export: bytes, uploads: Path) -> None:
    response = alice_client.post(UPLOAD, fields(export, additional={"deep": [1]}))
    message = "must NOT have additional properties"
    assert_refused(response, 400, uploads, errorType="invalid-params", error=message)


@pytest.mark.parametrize("name", ["binaryContent", "contentType", "fileName", "importerKey"])
def test_every_field_is_a_string(
    alice_client: ApiClient, export: bytes, uploads: Path, name: str
) -> None:
    response = alice_client.post(UPLOAD, fields(export, **{name: ["x"]}))
    message = "must be string"
    assert_refused(response, 400, uploads, errorType="invalid-params", error=message)


def test_multipart_needs_a_file_and_an_importer(
    alice_client: ApiClient, export: bytes, uploads: Path
) -> None:
    data = encode_multipart(BOUNDARY, {"importerKey": "slack"})
    response = alice_client.send(UPLOAD, data, MULTIPART_CONTENT)
    message = "must have required property 'file'"
    assert_refused(response, 400, uploads, errorType="invalid-params", error=message)
    file = SimpleUploadedFile("export.zip", export)
    data = encode_multipart(BOUNDARY, {"file": file})
    response = alice_client.send(UPLOAD, data, MULTIPART_CONTENT)
    message = "must have required property 'importerKey'"
    assert_refused(response, 400, uploads, errorType="invalid-params", error=message)


def test_multipart_takes_one_file_only(
    alice_client: ApiClient, export: bytes, uploads: Path
) -> None:
    other = SimpleUploadedFile("other.zip", export)
    for name in ("other", "binaryContent"):
        response = alice_client.send(UPLOAD, **multipart(export, **{name: other}))
        message = "must NOT have additional properties"
        assert_refused(response, 400, uploads, errorType="invalid-params", error=message)


@pytest.mark.parametrize("form", ["json", "multipart"])
def test_an_unknown_importer_is_refused(
    alice_client: ApiClient, export: bytes, uploads: Path, form: str
) -> None:
    response = alice_client.send(UPLOAD, **encoded(export, form, importerKey="nope"))
    assert_refused(
        response,
        400,
        uploads,
        error="The importer (nope) has no import class defined. [error-importer-not-defined]",
        errorType="error-importer-not-defined",
        details="uploadImportFile",
    )


def test_an_upload_while_another_import_runs_is_refused(
    alice_client: ApiClient, export: bytes, uploads: Path
) -> None:
    running = ImportOperationFactory.create(status=Status.IMPORTING_USERS)
    response = alice_client.post(UPLOAD, fields(export))
    assert response.status_code == 400
    assert response.json()["errorType"] == "error-import-operation-in-progress"
    assert response.json()["details"] == "uploadImportFile"
    assert list(ImportOperation.objects.all()) == [running]
    assert list(uploads.iterdir()) == []


def test_bad_base64_is_refused_with_its_place(alice_client: ApiClient, uploads: Path) -> None:
    response = alice_client.post(UPLOAD, fields(b"", binaryContent="aGVs!"))
    message = "binaryContent is not valid Base64 at character 5: '!'"
    assert_refused(response, 400, uploads, error=message)


@pytest.fixture
def small(settings: Settings) -> int:
    """A server that accepts 1,000 bytes."""
    settings.IMPORTOPS = replace(conf(), max_upload_bytes=1000)
    return 1000


TOO_LARGE = (
    "The file is larger than the 1000 bytes that this server accepts "
    "(IMPORTOPS_MAX_UPLOAD_BYTES). [error-import-file-too-large]"
)


@pytest.mark.parametrize("form", ["json", "multipart"])
def test_a_file_beyond_the_limit_is_refused(
    alice_client: ApiClient, uploads: Path, small: int, form: str
) -> None:
    content = b"x" * (small + 1)
    assert_refused(
        alice_client.send(UPLOAD, **encoded(content, form)),
        413,
        uploads,
        error=TOO_LARGE,
        errorType="error-import-file-too-large",
        details="uploadImportFile",
    )


@pytest.mark.parametrize("form", ["json", "multipart"])
def test_a_file_at_the_limit_is_stored(alice_client: ApiClient, small: int, form: str) -> None:
    content = b"x" * small
    assert alice_client.send(UPLOAD, **encoded(content, form)).status_code == 200


class Untouched(BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("the body was read")


@pytest.mark.parametrize("content_type", [JSON, MULTIPART_CONTENT])
def test_what_cannot_fit_is_refused_unread(
    alice_client: ApiClient, uploads: Path, small: int, content_type: str
) -> None:
    response = alice_client.send(UPLOAD, Untouched(), content_type, length=10**9)
    assert response.status_code == 413
    assert response.json()["error"] == TOO_LARGE


@pytest.mark.parametrize("missing", [1, 2, 50, 150])
@pytest.mark.parametrize("form", ["json", "multipart", "form"])
def test_a_half_sent_body_leaves_nothing(
    alice_client: ApiClient, export: bytes, uploads: Path, form: str, missing: int
) -> None:
    body, content_type = encoded(export, form).values()
    if form == "form":
        content_type = FORM
    response = alice_client.send(UPLOAD, body[:-missing], content_type, len(body))
    assert_refused(response, 400, uploads, error="The request body ended early.")


class HangsUp(BytesIO):
    """Raises as a server does when the connection is reset."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(100)
        if not data:
            raise UnreadablePostError
        return data


@pytest.mark.parametrize("form", ["json", "multipart"])
def test_a_reset_connection_leaves_nothing(
    alice_client: ApiClient, export: bytes, uploads: Path, form: str
) -> None:
    body, content_type = encoded(export, form).values()
    response = alice_client.send(UPLOAD, HangsUp(body[:-20]), content_type, len(body))
    assert_refused(response, 400, uploads, error="The request body ended early.")


def test_multipart_without_its_end_is_refused(
    alice_client: ApiClient, export: bytes, uploads: Path
) -> None:
    """Even when the length is the announced one: some proxies announce what they got."""
    body = multipart(export)["body"][:-30]
    response = alice_client.send(UPLOAD, body, MULTIPART_CONTENT)
    assert_refused(response, 400, uploads, error="The request body ended early.")


def test_multipart_without_a_boundary_is_refused(alice_client: ApiClient, uploads: Path) -> None:
    response = alice_client.send(UPLOAD, b"x", "multipart/form-data")
    assert response.status_code == 400
    assert response.json()["error"].startswith("The multipart body cannot be read")


def test_a_chunked_body_is_refused(alice_client: ApiClient, uploads: Path) -> None:
    alice_client.headers["Transfer-Encoding"] = "chunked"
    response = alice_client.send(UPLOAD, b"{}", length=0)
    message = "Chunked request bodies are not accepted; send a Content-Length."
    assert_refused(response, 411, uploads, error=message)


def test_a_full_disk_is_said_before_reading(
    alice_client: ApiClient, export: bytes, uploads: Path, settings: Settings
) -> None:
    settings.IMPORTOPS = replace(conf(), min_free_bytes=2**60)
    response = alice_client.post(UPLOAD, fields(export))
    assert response.status_code == 400
    assert response.json()["errorType"] == "error-import-no-space"
    assert list(uploads.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(
    alice_client: ApiClient, export: bytes, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("django.core.files.base.File.write", full, raising=False)
    monkeypatch.setattr(
        "django.core.files.uploadedfile.TemporaryUploadedFile.write", full, raising=False
    )
    response = alice_client.post(UPLOAD, fields(export))
    assert_refused(
        response,
        400,
        uploads,
        error="There is not enough free disk space for this import. [error-import-no-space]",
        errorType="error-import-no-space",
        details="uploadImportFile",
    )


def test_an_unknown_media_type_is_refused(alice_client: ApiClient, uploads: Path) -> None:
    response = alice_client.send(UPLOAD, b"x", "application/zip")
    assert_refused(
        response, 415, uploads, error='Unsupported media type "application/zip" in request.'
    )


def test_text_in_place_of_the_file_is_no_file(alice_client: ApiClient, uploads: Path) -> None:
    response = alice_client.send(UPLOAD, **multipart(b"", file="text"))
    assert_refused(
        response,
        400,
        uploads,
        errorType="invalid-params",
        error="must have required property 'file'",
    )
