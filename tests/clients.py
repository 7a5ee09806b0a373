"""The client that API tests use: Django's own, with the two headers and short paths."""

from __future__ import annotations

import json
from io import BytesIO
from typing import IO, Any

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

    def post(self, endpoint: str, body: Any = None) -> Any:
        """`body` is sent as JSON."""
        return self.send(endpoint, json.dumps({} if body is None else body).encode())

    def send(
        self,
        endpoint: str,
        body: bytes | IO[bytes],
        content_type: str = "application/json",
        length: int | None = None,
    ) -> Any:
        """POST these very bytes, announcing `length` of them."""
        stream = BytesIO(body) if isinstance(body, bytes) else body
        if length is None and isinstance(body, bytes):
            length = len(body)
        environ: dict[str, Any] = {
            "wsgi.input": stream,
            "CONTENT_TYPE": content_type,
            "CONTENT_LENGTH": str(length),
        }
        path = f"/api/v1/{endpoint}"
        return self.client.generic("POST", path, headers=self.headers, **environ)

    def request(self, method: str, endpoint: str, **kwargs: Any) -> Any:
        send = getattr(self.client, method.lower())
        return send(f"/api/v1/{endpoint}", headers=self.headers, **kwargs)
