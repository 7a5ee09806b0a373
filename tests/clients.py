"""The client that API tests use: Django's own, with the two headers and short paths."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from django.test import Client


class ApiClient:
    """`alice_client.get("import.status")`; a crash is a 500, as outside."""

    def __init__(self, user_id: str = "", token: str = "") -> None:
        self.headers: dict[str, str] = {}
        if user_id:
            self.headers["X-User-Id"] = user_id
        if token:
            self.headers["X-Auth-Token"] = token
        self.client = Client(raise_request_exception=False)

    def get(self, endpoint: str, **kwargs: Any) -> Any:
        return self.request("GET", endpoint, **kwargs)

    def post(self, endpoint: str, body: Any = None, **kwargs: Any) -> Any:
        """`body` is sent as JSON; pass `data` and `content_type` for anything else."""
        if "data" not in kwargs:
            kwargs["data"] = {} if body is None else body
        kwargs.setdefault("content_type", "application/json")
        return self.request("POST", endpoint, **kwargs)

    def request(self, method: str, endpoint: str, **kwargs: Any) -> HttpResponseBase:
        headers = {**self.headers, **kwargs.pop("headers", {})}
        send = getattr(self.client, method.lower())
        response: HttpResponseBase = send(f"/api/v1/{endpoint}", headers=headers, **kwargs)
        return response
