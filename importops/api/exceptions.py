"""The one place that shapes `{"success": false, "error": ...}`.

Coded failures come from `importops/errors.py`; the classes here are about the request itself.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import set_rollback

from importops.api.authentication import CHALLENGE
from importops.errors import ImportopsError, UploadTooLarge

logger = logging.getLogger(__name__)

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}

UNAUTHORIZED = "unauthorized"
FORBIDDEN = "User does not have the permissions required for this action [error-unauthorized]"
UNKNOWN_ENDPOINT = "API endpoint does not exist"
INTERNAL_ERROR = "Internal server error"
BUSY = "The database is busy or out of reach. Try again in a moment."
ABORTED = "The request body ended early."


class RequestError(Exception):
    """The request cannot be understood; the message says why."""

    status = 400

    def body(self) -> dict[str, Any]:
        return {"success": False, "error": str(self)}

    def headers(self) -> dict[str, str]:
        return {}


class MalformedBody(RequestError):
    """The body is not what its Content-Type says."""


class BodyTooLarge(RequestError):
    status = 413


class LengthRequired(RequestError):
    status = 411


class TooManyCalls(RequestError):
    """More calls than are allowed, or more wrong passwords; in `seconds` the next one counts."""

    status = 429

    def __init__(self, seconds: int) -> None:
        super().__init__(
            "Error, too many requests. Please slow down. "
            f"You must wait {seconds} seconds before trying this endpoint again. "
            "[error-too-many-requests]"
        )
        self.seconds = seconds

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.seconds)}


class LoginRefused(RequestError):
    """Nobody is let in; `error` is a word for programs, the message one for people."""

    status = 401

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error

    def body(self) -> dict[str, Any]:
        return {"success": False, "error": self.error, "message": str(self)}

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": CHALLENGE}


class InvalidParams(RequestError):
    """The body breaks its schema."""

    error_type = "invalid-params"

    def body(self) -> dict[str, Any]:
        return {"success": False, "errorType": self.error_type, "error": str(self)}


class InvalidQuery(InvalidParams):
    """The query string breaks its schema."""

    error_type = "error-invalid-params"


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """The response for anything that an endpoint raised; DRF calls this."""
    set_rollback()
    status, body, headers = _describe(exc)
    if status >= 500:
        view = type(context.get("view")).__name__
        logger.error("%s failed", view, exc_info=exc)
    return Response(body, status=status, headers=headers)


def error_response(status: int, error: str) -> HttpResponse:
    """An error outside of any endpoint: unknown routes, crashes of middleware."""
    body = msgspec.json.encode({"success": False, "error": error})
    return HttpResponse(body, status=status, content_type="application/json", headers=NO_STORE)


def is_api(request: HttpRequest) -> bool:
    """Whether the answer to this request has to be JSON, whatever goes wrong."""
    return request.path_info == "/api" or request.path_info.startswith("/api/")


def unknown_endpoint(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
    return error_response(404, UNKNOWN_ENDPOINT)


# Like endpoints: there is no cookie that a forged form could ride on.
unknown_endpoint.csrf_exempt = True  # type: ignore[attr-defined]


def _describe(exc: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and extra headers."""
    if isinstance(exc, RequestError):
        return exc.status, exc.body(), exc.headers()
    if isinstance(exc, ImportopsError):
        return (413 if isinstance(exc, UploadTooLarge) else 400), _coded(exc), {}
    if isinstance(exc, drf.APIException):
        return _describe_drf(exc)
    if isinstance(exc, Http404):
        return 404, _plain(UNKNOWN_ENDPOINT), {}
    if isinstance(exc, UnreadablePostError):
        return 400, _plain(ABORTED), {}
    if isinstance(exc, RequestDataTooBig):
        return 413, _plain("The fields of this request are too large."), {}
    if isinstance(exc, MultiPartParserError):
        return 400, _plain(f"The multipart body cannot be read: {exc}"), {}
    if isinstance(exc, SuspiciousOperation):
        return 400, _plain("Bad request"), {}
    if isinstance(exc, (OperationalError, InterfaceError)):
        return 503, _plain(BUSY), {"Retry-After": "2"}
    return 500, _plain(INTERNAL_ERROR), {}


def _describe_drf(
    exc: drf.APIException,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    if isinstance(exc, (drf.NotAuthenticated, drf.AuthenticationFailed)):
        # `auth_header` is what DRF asked the authentication class for.
        header: str = getattr(exc, "auth_header", "")
        return 401, _plain(UNAUTHORIZED), {"WWW-Authenticate": header}
    if isinstance(exc, drf.PermissionDenied):
        return 403, _plain(FORBIDDEN), {}
    headers: dict[str, str] = {}
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return exc.status_code, _plain(str(exc.detail)), headers


def _coded(exc: ImportopsError) -> dict[str, Any]:
    body: dict[str, Any] = {
        "success": False,
        "error": f"{exc.message} [{exc.code}]",
        "errorType": exc.code,
    }
    if exc.details:
        body["details"] = exc.details
    return body


def _plain(error: str) -> dict[str, Any]:
    return {"success": False, "error": error}
