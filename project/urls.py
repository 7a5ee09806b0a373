"""Which door is where. Errors outside the API are Django's pages, inside it always JSON.

/healthz, /readyz and /metrics are answered before any of this: importops/monitoring/middleware.py.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponseBase
from django.urls import include, path, re_path
from django.views import defaults
from django.views.generic import RedirectView

from importops.api import urls as api_urls
from importops.api.exceptions import (
    INTERNAL_ERROR,
    UNKNOWN_ENDPOINT,
    error_response,
    is_api,
    unknown_endpoint,
)

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    # API
    path("api/", include(api_urls.urlpatterns)),
    re_path(r"^api$", unknown_endpoint),
]


def handler400(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if is_api(request):
        return error_response(400, "Bad request")
    return defaults.bad_request(request, exception)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if is_api(request):
        return error_response(404, UNKNOWN_ENDPOINT)
    return defaults.page_not_found(request, exception)


def handler500(request: HttpRequest, *args: Any) -> HttpResponseBase:
    if is_api(request):
        return error_response(500, INTERNAL_ERROR)
    return defaults.server_error(request)
