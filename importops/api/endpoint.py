"""What every endpoint has in common. A subclass names its permission, its fields and its answer.

Order of checks: who is asking (401), how often (429), whether they may (403), the query string, the
body (400).
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import msgspec
from django.http import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from importops.api.authentication import HeaderTokenAuthentication
from importops.api.bodies import BODY_LIMIT, FormParser, JsonParser, decode_fields, require_length
from importops.api.exceptions import NO_STORE, InvalidQuery, RequestError
from importops.api.rate_limit import Rate, count_call, refuse_if_too_many
from importops.api.validation import Schema, check
from importops.errors import ImportopsError
from importops.models import ApiToken, User


class JsonRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Any = None,
    ) -> bytes:
        return msgspec.json.encode(data)


class AlwaysJson(DefaultContentNegotiation):
    """JSON whatever `Accept` says: there is nothing else, and a 406 would help nobody."""

    def select_renderer(  # type: ignore[override]
        self, request: Request, renderers: list[BaseRenderer], format_suffix: Any = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class Endpoint(APIView):
    authentication_classes: tuple[type[BaseAuthentication], ...] = (HeaderTokenAuthentication,)
    parser_classes: tuple[type[BaseParser], ...] = (JsonParser, FormParser)
    renderer_classes = (JsonRenderer,)
    content_negotiation_class = AlwaysJson
    metadata_class = None

    query_schema: ClassVar[Schema | None] = {}
    """Fields of the query string; None: it is not looked at."""
    body_schema: ClassVar[Schema | None] = None
    """Fields of the body; None: it is not looked at, as long as it can be read."""
    body_open: ClassVar[bool] = False
    """Whether fields that the schema does not have are passed over instead of refused."""
    body_limit: ClassVar[int] = BODY_LIMIT
    """Bytes of a body."""

    query: dict[str, Any]
    rate: Rate | None = None
    """How often the caller may still come; None: as often as they like."""

    def check_permissions(self, request: Request) -> None:
        if request.user is not None or not self.authentication_classes:
            self.rate = count_call(request, self.name)
            refuse_if_too_many(self.rate)
        super().check_permissions(request)

    @property
    def name(self) -> str:
        """What the wire calls this endpoint."""
        match = self.request.resolver_match
        return (match.url_name if match else None) or ""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        require_length(request.META)
        self.query = self._checked_query(request)

    def _checked_query(self, request: Request) -> dict[str, Any]:
        text = request.META.get("QUERY_STRING", "")
        if self.query_schema is None or not (text or self.query_schema):
            return {}
        fields = decode_fields(text, RequestError)
        return check(fields, self.query_schema, error=InvalidQuery)

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, ImportopsError) and not exc.details:
            # The wire names the endpoint that failed.
            exc.details = self.name
        return super().handle_exception(exc)

    def body(self, request: Request) -> dict[str, Any]:
        """The body, checked and coerced. Raises `InvalidParams` and what reading raises."""
        if self.body_schema is None:
            return cast("dict[str, Any]", request.data)
        return check(request.data, self.body_schema, closed=not self.body_open)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        finished: HttpResponseBase = super().finalize_response(request, response, *args, **kwargs)
        for name, value in (NO_STORE | (self.rate.headers() if self.rate else {})).items():
            finished[name] = value
        return finished


def caller(request: Request) -> User:
    """The user whom the permission class let through."""
    return cast(User, request.user)


def caller_token(request: Request) -> ApiToken:
    """The token that the caller presented."""
    return cast(ApiToken, request.auth)


def success(**body: Any) -> Response:
    """200; `success` stands last, as the documented bodies have it."""
    return Response({**body, "success": True})
