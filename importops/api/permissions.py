"""What a caller may do. Each endpoint names its own; the rules themselves are `User`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from importops.models import User

if TYPE_CHECKING:
    # DRF's views load this module while they are being loaded themselves.
    from rest_framework.views import APIView


class SignedIn(BasePermission):
    """Whoever has a token."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.user is not None


class RunImport(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        user = cast("User | None", request.user)
        return user is not None and user.can_run_imports


class ViewImportOperations(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        user = cast("User | None", request.user)
        return user is not None and user.can_view_imports
