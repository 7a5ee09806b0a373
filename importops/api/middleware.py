"""A short way to the API, past everything that is there for pages.

Sessions, cookies, languages, messages and the CSP mean nothing to a client with a token: passing
through them takes as long as answering (docs/benchmarks.md), and what is not run cannot let a
cookie in. In `MIDDLEWARE` this stands after what is for everybody and before what is for pages.
"""

from __future__ import annotations

from collections.abc import Callable

from django.core.handlers.base import BaseHandler
from django.http import HttpRequest, HttpResponseBase

from importops.api.exceptions import is_api


class _Views(BaseHandler):
    """Django's own way from a request to its view, with no middleware on it."""

    _view_middleware: list[object] = []
    _template_response_middleware: list[object] = []
    _exception_middleware: list[object] = []


class ApiLane:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.pages = get_response
        self.views: Callable[[HttpRequest], HttpResponseBase] = _Views()._get_response  # type: ignore[attr-defined]

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.views(request) if is_api(request) else self.pages(request)
