"""Pages of other origins get in only when listed. The setting is read at start, so this asks processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.clients import ApiClient
from tests.tasks.installation import ROOT, Installation

ORIGIN = "https://chat.example.com"
ASK = """
import json, sys
import django
django.setup()
from django.test import Client
headers, client = json.loads(sys.argv[1]), Client(SERVER_NAME="localhost")
asked = {
    "page": client.get("/admin/login/", headers=headers),
    "error": client.get("/api/v1/me", headers=headers),
    "nothing": client.get("/api/v1/nothing", headers=headers),
    "preflight": client.options("/api/v1/me", headers=headers | {
        "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-auth-token"}),
}
print(json.dumps({
    name: [answer.status_code, {key.lower(): value for key, value in answer.headers.items()}]
    for name, answer in asked.items()
}))
"""


def ask(installation: Installation, origin: str) -> Any:
    return json.loads(installation.run("-c", ASK, json.dumps({"Origin": origin})))


@pytest.fixture
def listing(tmp_path: Path) -> Installation:
    installation = Installation(tmp_path, cors_origins=ORIGIN)
    installation.manage("migrate", "-v0")
    return installation


@pytest.mark.process
def test_a_listed_origin_may_call_the_api_without_cookies(listing: Installation) -> None:
    answers = ask(listing, ORIGIN)
    for name in ("error", "nothing", "preflight"):
        _, headers = answers[name]
        assert headers["access-control-allow-origin"] == ORIGIN, name
        assert "access-control-allow-credentials" not in headers
        assert "origin" in headers["vary"].lower()
    status, headers = answers["preflight"]
    assert status == 200
    assert headers["access-control-allow-methods"] == "GET, POST"
    assert "x-auth-token" in headers["access-control-allow-headers"]
    status, headers = answers["error"]
    assert status == 401
    assert "x-ratelimit-remaining" in headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in answers["page"][1]


@pytest.mark.process
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://chat.example.com", f"{ORIGIN}.evil.example", "null"]
)
def test_no_other_origin_may(listing: Installation, origin: str) -> None:
    answers = ask(listing, origin)
    for status, headers in answers.values():
        assert status
        assert "access-control-allow-origin" not in headers


@pytest.mark.process
@pytest.mark.parametrize("nonsense", ["*", "chat.example.com", f"{ORIGIN}/path"])
def test_nonsense_in_the_list_stops_the_start(tmp_path: Path, nonsense: str) -> None:
    installation = Installation(tmp_path, cors_origins=nonsense)
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=installation.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "corsheaders.E0" in done.stderr


def test_by_default_there_is_none_of_it(bob_client: ApiClient) -> None:
    assert "corsheaders.middleware.CorsMiddleware" not in settings.MIDDLEWARE
    bob_client.headers["Origin"] = ORIGIN
    response = bob_client.get("me")
    assert response.status_code == 200
    assert not [name for name in response.headers if name.lower().startswith("access-control")]
    assert bob_client.request("OPTIONS", "me").status_code == 405
