"""Every error of every route is a JSON object with `success: false` and an `error` text."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.test import Client
from pytest_django import Settings

from importops.api.urls import ENDPOINTS
from tests.clients import ApiClient
from tests.factories import ImportOperationFactory

ROUTES = list(ENDPOINTS)
POSTS = [name for name, endpoint in ENDPOINTS.items() if hasattr(endpoint, "post")]
FOR_EVERYBODY = {"login"}
FOR_EVERY_USER = {
    "logout",
    "me",
    "users.info",
    "users.generatePersonalAccessToken",
    "users.regeneratePersonalAccessToken",
    "users.removePersonalAccessToken",
    "users.getPersonalAccessTokens",
}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def method_of(route: str) -> str:
    return "POST" if route in POSTS else "GET"


def methods_of(route: str) -> set[str]:
    return {method for method in METHODS if hasattr(ENDPOINTS[route], method.lower())} - {"OPTIONS"}


def assert_error(response: Any, status: int, error: str | None = None) -> None:
    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    body = response.json()
    assert body["success"] is False
    assert isinstance(body["error"], str)
    assert body["error"]
    if error is not None:
        assert body["error"] == error


@pytest.mark.parametrize("route", [route for route in ROUTES if route not in FOR_EVERYBODY])
@pytest.mark.parametrize("method", METHODS)
def test_without_a_token_it_is_401(nobody_client: ApiClient, route: str, method: str) -> None:
    response = nobody_client.request(method, route)
    assert_error(response, 401, "unauthorized")
    assert response["WWW-Authenticate"]


@pytest.mark.parametrize("route", [r for r in ROUTES if r not in FOR_EVERYBODY | FOR_EVERY_USER])
def test_without_the_permission_it_is_403(bob_client: ApiClient, route: str) -> None:
    assert_error(bob_client.request(method_of(route), route), 403)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", METHODS)
def test_another_method_is_405(alice_client: ApiClient, route: str, method: str) -> None:
    if method in methods_of(route):
        return
    response = alice_client.request(method, route)
    assert_error(response, 405)
    assert methods_of(route) <= set(response["Allow"].split(", "))


@pytest.mark.parametrize("route", POSTS)
def test_another_media_type_is_415(alice_client: ApiClient, route: str) -> None:
    for media_type in ("text/plain", "application/xml", "nonsense", ";"):
        assert_error(alice_client.send(route, b"<x/>", media_type), 415)


@pytest.mark.parametrize("route", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b"\x00",
        b'{"a":' + b"[" * 60_000,
        b'{"a":' + b"9" * 5_000 + b"}",
    ],
)
def test_malformed_json_is_400(alice_client: ApiClient, route: str, body: bytes) -> None:
    ImportOperationFactory.create()
    response = alice_client.send(route, body)
    assert_error(response, 400)
    assert response.json()["error"].startswith("The body is not valid JSON")


@pytest.mark.parametrize("route", [route for route in POSTS if route != "uploadImportFile"])
def test_a_huge_body_is_413(alice_client: ApiClient, route: str) -> None:
    assert_error(alice_client.send(route, b"{}", length=10**9), 413)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("debug", [True, False])
def test_a_crash_is_500(
    alice_client: ApiClient, route: str, debug: bool, settings: Settings
) -> None:
    settings.DEBUG = debug
    handler = f"{ENDPOINTS[route].__module__}.{ENDPOINTS[route].__name__}"
    with patch(f"{handler}.{method_of(route).lower()}", side_effect=ZeroDivisionError("x")):
        response = alice_client.request(method_of(route), route)
    assert_error(response, 500, "Internal server error")


def test_a_crash_before_any_endpoint_is_500(alice_client: ApiClient) -> None:
    with patch("django.middleware.common.CommonMiddleware.process_request") as crash:
        crash.side_effect = ZeroDivisionError
        assert_error(alice_client.get("import.status"), 500, "Internal server error")


def test_a_database_out_of_reach_is_503(alice_client: ApiClient) -> None:
    with patch("importops.api.views.operations.read_current_operation") as read:
        read.side_effect = OperationalError("database is locked")
        response = alice_client.get("import.status")
    assert_error(response, 503)
    assert response["Retry-After"] == "2"


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v1/getcurrentimportoperation",
        "/api/v1/getCurrentImportOperation/",
        "/api/v1/getCurrentImportOperation%0A",
        "/api/v1/import.status/extra",
        "/api/v1//import.status",
        "/api/v1/importXstatus",
        "/api/v2/import.status",
    ],
)
def test_any_other_path_is_404(
    alice_client: ApiClient, path: str, debug: bool, settings: Settings
) -> None:
    settings.DEBUG = debug
    client = Client(raise_request_exception=False)
    for method in METHODS:
        response = client.generic(method, path, headers=alice_client.headers)
        assert_error(response, 404, "API endpoint does not exist")


def test_an_unknown_host_is_400(alice_client: ApiClient) -> None:
    alice_client.headers["Host"] = "evil.example"
    assert_error(alice_client.get("import.status"), 400)


def test_pages_outside_the_api_are_djangos(db: None) -> None:
    response = Client(raise_request_exception=False).get("/nothing")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*;q=0", "x"])
def test_accept_does_not_matter(alice_client: ApiClient, accept: str) -> None:
    alice_client.headers["Accept"] = accept
    response = alice_client.get("import.status")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


def test_the_language_of_a_reader_changes_no_text(bob_client: ApiClient) -> None:
    bob_client.headers["Accept-Language"] = "de"
    assert_error(
        bob_client.get("import.status"),
        403,
        "User does not have the permissions required for this action [error-unauthorized]",
    )
