"""Staff: `root` may do everything, `staff("view_user", …)` just what is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from importops.models import User
from tests.factories import UserFactory

BACKEND = "django.contrib.auth.backends.ModelBackend"

Staff = Callable[..., User]
SignIn = Callable[[User], Client]


@pytest.fixture
def sign_in() -> SignIn:
    def signed_in(user: User) -> Client:
        client = Client()
        client.force_login(user, backend=BACKEND)
        return client

    return signed_in


@pytest.fixture
def staff(db: None) -> Staff:
    def make(*codenames: str, **fields: Any) -> User:
        user = UserFactory.create(is_staff=True, **fields)
        granted = Permission.objects.filter(
            codename__in=codenames, content_type__app_label__in=["importops", "auth"]
        )
        assert granted.count() == len(codenames)
        user.user_permissions.set(granted)
        return user

    return make


@pytest.fixture
def root(db: None) -> User:
    return UserFactory.create(username="root", is_staff=True, is_superuser=True)


@pytest.fixture
def root_client(root: User, sign_in: SignIn) -> Client:
    return sign_in(root)
