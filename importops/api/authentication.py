"""Who is asking: the two headers, and nothing else. Cookies and sessions are never looked at."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from importops.models import ApiToken, User

# Names no scheme that would make a browser ask for a password.
CHALLENGE = 'X-Auth-Token realm="importops"'


class HeaderTokenAuthentication(BaseAuthentication):
    """`X-User-Id` and `X-Auth-Token`, which must both be there and belong together.

    Every way of failing gives the same answer, so that nothing can be learned from it.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        user_id = request.META.get("HTTP_X_USER_ID", "")
        token = request.META.get("HTTP_X_AUTH_TOKEN", "")
        if not user_id and not token:
            return None
        found = ApiToken.objects.authenticate(user_id, token)
        if found is None:
            raise AuthenticationFailed
        found[1].note_use()
        return found

    def authenticate_header(self, request: Request) -> str:
        # Without one, DRF would answer 403 where it means 401.
        return CHALLENGE
