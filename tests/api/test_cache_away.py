"""A cache that cannot be reached takes nothing of the API along."""

from __future__ import annotations

import logging

import pytest
from django.core.cache import caches
from pytest_django import Settings

from importops.models import User
from tests.clients import ApiClient
from tests.factories import PASSWORD, ApiTokenFactory, UserFactory, secret_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def cache_away(settings: Settings) -> None:
    """Nobody listens on port 1."""
    redis = pytest.importorskip("redis", reason="requirements-celery.txt is not installed")
    assert redis
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1/0",
        }
    }
    assert "Redis" in type(caches["default"]).__name__


def test_polls_and_logins_are_answered(
    alice: User, nobody_client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = ApiClient(alice.public_id, secret_of(ApiTokenFactory.create(user=alice)))
    user = UserFactory.create(username="dora")
    with caplog.at_level(logging.WARNING):
        poll = client.get("getCurrentImportOperation")
        login = nobody_client.post("login", {"user": user.username, "password": PASSWORD})

    assert (poll.status_code, login.status_code) == (200, 200), login.json()
    assert "the cache is away" in caplog.text
