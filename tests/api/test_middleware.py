"""The API takes a lane of its own, past what is there for pages; its errors stay JSON."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest
from django.http import HttpRequest, HttpResponseBase
from pytest_django import Settings

from tests.clients import ApiClient


def for_pages_only(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        raise AssertionError("this is for pages")

    return middleware


@pytest.fixture
def client_in_lane(alice_client: ApiClient, settings: Settings) -> ApiClient:
    settings.MIDDLEWARE = [
        "django.middleware.common.CommonMiddleware",
        "importops.api.middleware.ApiLane",
        f"{__name__}.for_pages_only",
    ]
    return alice_client


def test_an_endpoint_is_reached_past_the_pages(client_in_lane: ApiClient) -> None:
    response = client_in_lane.get("import.status")
    assert response.content == b'{"state":"none","success":true}'
    assert response["Content-Length"] == str(len(response.content))


def test_a_page_still_goes_the_long_way(client_in_lane: ApiClient) -> None:
    assert client_in_lane.client.get("/admin/").status_code == 500


def test_an_unknown_path_is_json(client_in_lane: ApiClient) -> None:
    for path in ("/api", "/api/", "/api/v1/nothing"):
        response = client_in_lane.client.get(path)
        assert (response.status_code, response.json()["success"]) == (404, False)


def test_a_crash_is_json(client_in_lane: ApiClient) -> None:
    with patch("importops.api.endpoint.Endpoint.dispatch", side_effect=ZeroDivisionError):
        response = client_in_lane.get("import.status")
    assert (response.status_code, response.json()["success"]) == (500, False)
