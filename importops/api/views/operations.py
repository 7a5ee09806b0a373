"""The endpoints of imports. Each parses, calls an action or reads, and answers."""

from __future__ import annotations

import io
import tempfile
from functools import partial
from typing import Any

from django.conf import settings
from django.http import FileResponse, HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from importops.actions.operations import (
    cancel_operation,
    create_operation,
    current_operation,
    importer_names,
    operation_with,
    resume_operation,
    start_operation,
)
from importops.actions.previewing import preview_operation
from importops.actions.retrying import retry_failed
from importops.actions.undoing import rollback_operation
from importops.api.base64_json import FILE_FIELD
from importops.api.current import read_current_operation
from importops.api.endpoint import Endpoint, caller, success
from importops.api.exceptions import InvalidParams
from importops.api.pagination import PAGE_FIELDS, page
from importops.api.permissions import RunImport, ViewImportOperations
from importops.api.serializers import failure_body, file_data_body, selection_of
from importops.api.uploads import (
    Base64UploadParser,
    FormUploadParser,
    MultipartUploadParser,
    Upload,
)
from importops.api.validation import Field
from importops.engine.failure_csv import write_failure_csv
from importops.engine.preview_report import conflict_body, conflicts, preview_report
from importops.engine.progress import operation_body, report, wire_count
from importops.errors import ImportopsError, OperationInvalid
from importops.models import ImportFailure, ImportOperation, Status, User
from importops.models.operations import LOADING

LATEST = 20
KIND_OF_WIRE = {wire: kind for kind, wire in ImportFailure.wire_kinds.items()}


class GetCurrentImportOperation(Endpoint):
    permission_classes = (RunImport,)

    def get(self, request: Request) -> Response:
        operation = read_current_operation()
        body = operation_body(operation) if operation else None
        return Response({"success": True, "operation": body})


class GetLatestImportOperations(Endpoint):
    permission_classes = (ViewImportOperations,)

    def get(self, request: Request) -> Response:
        latest = ImportOperation.objects.select_related("user").order_by("-updated_at")
        return Response([operation_body(operation) for operation in latest[:LATEST]])


class GetImportProgress(Endpoint):
    permission_classes = (RunImport,)

    def get(self, request: Request) -> Response:
        operation = current_operation()
        key, name = importer_names(operation)
        count = wire_count(operation) or {}
        if count:
            # This endpoint has no word for what was skipped; a bar that never fills looks hung.
            count["completed"] += count["skipped"]
        return success(
            key=key,
            name=name,
            step=operation.status,
            count={part: count.get(part, 0) for part in ("completed", "total", "error")},
        )


class GetImportFileData(Endpoint):
    permission_classes = (RunImport,)

    def get(self, request: Request) -> Response:
        operation = current_operation()
        importer_names(operation)
        if operation.status in LOADING and not operation.valid:
            raise OperationInvalid
        if operation.status in LOADING:
            return success(waiting=True)
        if operation.status == Status.FAILED and not operation.has_started:
            raise UnreadableFile(operation)
        return success(**file_data_body(operation))


class UnreadableFile(ImportopsError):
    """The file could not be read."""

    def __init__(self, operation: ImportOperation) -> None:
        super().__init__(operation.error)
        if operation.error_code:
            self.code = operation.error_code  # type: ignore[misc]


class UploadImportFile(Endpoint):
    permission_classes = (RunImport,)
    parser_classes = (MultipartUploadParser, Base64UploadParser, FormUploadParser)

    def post(self, request: Request) -> Response:
        upload: object = request.data
        if not isinstance(upload, Upload):
            # There is no body at all, so no parser was asked.
            raise InvalidParams(f"must have required property '{FILE_FIELD}'")
        with upload:
            create_operation(
                user=caller(request),
                importer_key=upload.importer_key,
                upload=upload.file,
                file_name=upload.file_name,
                content_type=upload.content_type,
            )
        return success()


class StartImport(Endpoint):
    permission_classes = (RunImport,)
    body_schema = {"input": Field("object", required=True)}

    def post(self, request: Request) -> Response:
        selection = selection_of(self.body(request)["input"])
        start_operation(current_operation(), selection, caller(request))
        return success()


class ImportPreview(Endpoint):
    permission_classes = (RunImport,)
    query_schema = PAGE_FIELDS
    body_schema = {"input": Field("object", required=True)}

    def post(self, request: Request) -> Response:
        selection = selection_of(self.body(request)["input"])
        preview_operation(current_operation(), selection, caller(request))
        return success()

    def get(self, request: Request) -> Response:
        operation = current_operation()
        listed = page(conflicts(operation), self.query, "conflicts", conflict_body)
        return success(**preview_report(operation), **listed)


class ImportStatus(Endpoint):
    permission_classes = (RunImport,)
    query_schema = None

    def get(self, request: Request) -> Response:
        operation = read_current_operation()
        if operation is None:
            return success(state="none")
        return success(state=operation.state, operation=operation_body(operation))


class ImportCancel(Endpoint):
    permission_classes = (RunImport,)
    body_schema = {}

    def post(self, request: Request) -> Response:
        self.body(request)
        cancel_operation(current_operation())
        return success()


class ImportResume(Endpoint):
    permission_classes = (RunImport,)
    body_schema = {}

    def post(self, request: Request) -> Response:
        self.body(request)
        resume_operation(current_operation())
        return success()


class ImportRetryFailed(Endpoint):
    permission_classes = (RunImport,)
    body_schema = {
        "kind": Field("string", choices=tuple(KIND_OF_WIRE)),
        "code": Field("string"),
    }

    def post(self, request: Request) -> Response:
        which = self.body(request)
        kind = KIND_OF_WIRE.get(which.get("kind", ""), "")
        number = retry_failed(current_operation(), kind=kind, code=which.get("code", ""))
        return success(retrying=number)


class ImportRollback(Endpoint):
    permission_classes = (RunImport,)
    body_schema = {"operationId": Field("string")}

    def post(self, request: Request) -> Response:
        public_id = self.body(request).get("operationId")
        target = operation_with(public_id) if public_id else current_operation()
        rollback = rollback_operation(target, caller(request))
        return success(operation=operation_body(rollback))


class ImportReport(Endpoint):
    permission_classes = (RunImport,)

    def get(self, request: Request) -> Response:
        return success(**report(current_operation()))


class ImportFailures(Endpoint):
    permission_classes = (RunImport,)
    query_schema = {
        **PAGE_FIELDS,
        "kind": Field("string", choices=tuple(KIND_OF_WIRE)),
        "code": Field("string"),
        "format": Field("string", choices=("json", "csv")),
    }

    def get(self, request: Request) -> HttpResponseBase:
        operation = current_operation()
        failures = ImportFailure.objects.of(operation).filter(**self._filters())
        if self.query.get("format") == "csv":
            return self._csv(operation, failures, caller(request))
        body = partial(failure_body, reader=caller(request))
        return success(**page(failures, self.query, "failures", body))

    def _filters(self) -> dict[str, Any]:
        filters = {}
        if "kind" in self.query:
            filters["kind"] = KIND_OF_WIRE[self.query["kind"]]
        if "code" in self.query:
            filters["code"] = self.query["code"]
        return filters

    def _csv(self, operation: ImportOperation, failures: Any, reader: User) -> FileResponse:
        """All of them. Through a file, so that a slow reader keeps no database cursor open."""
        spool = tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115
        text = io.TextIOWrapper(spool, encoding="utf-8", newline="")
        write_failure_csv(failures.iterator(1000), text, reader=reader)
        text.flush()
        spool.seek(0)
        return FileResponse(
            text.detach(),
            as_attachment=True,
            filename=f"import-failures-{operation.public_id}.csv",
            content_type="text/csv; charset=utf-8",
        )
