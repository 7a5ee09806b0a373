"""The endpoints about personal access tokens: a token's text is told once, when it is made."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from importops.actions.accounts import (
    issue_token,
    regenerate_personal_token,
    remove_personal_token,
)
from importops.actions.login import confirm_password
from importops.api.account_bodies import token_body
from importops.api.endpoint import Endpoint, caller, caller_token, success
from importops.api.exceptions import RequestError, TooManyCalls
from importops.api.permissions import SignedIn
from importops.api.validation import Field
from importops.clients import login_attempt
from importops.conf import conf
from importops.errors import (
    ImportopsError,
    LoginLocked,
    NotAuthorized,
    PasswordInvalid,
    PasswordRequired,
    WrongCredentials,
)
from importops.models import ApiToken, User
from importops.records import NAME_LIMIT

PASSWORD = "password"  # noqa: S105 - a method, on the wire


class TokenEndpoint(Endpoint):
    """What those that change a token have in common: the checks, and how their errors name them."""

    permission_classes = (SignedIn,)
    query_schema = None
    body_schema = {
        "tokenName": Field("string", max_length=NAME_LIMIT),
        "bypassTwoFactor": Field("boolean"),
    }
    body_open = True
    wire_method: str

    def post(self, request: Request) -> Response:
        user = caller(request)
        if not user.can_create_tokens:
            raise NotAuthorized
        body = self.body(request)
        name = body.get("tokenName", "")
        if not name.strip():
            raise RequestError("The 'tokenName' param is required")
        ask_for_password(request, user, caller_token(request))
        return self.change(user, name, bypass_two_factor=body.get("bypassTwoFactor", False))

    def change(self, user: User, name: str, *, bypass_two_factor: bool) -> Response:
        raise NotImplementedError

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, ImportopsError) and not exc.details:
            exc.details = {"method": f"personalAccessTokens:{self.wire_method}"}
        return super().handle_exception(exc)


class GeneratePersonalAccessToken(TokenEndpoint):
    wire_method = "generateToken"

    def change(self, user: User, name: str, *, bypass_two_factor: bool) -> Response:
        _, text = issue_token(
            user, name, ApiToken.Kind.PERSONAL, bypass_two_factor=bypass_two_factor
        )
        return success(token=text)


class RegeneratePersonalAccessToken(TokenEndpoint):
    wire_method = "regenerateToken"

    def change(self, user: User, name: str, *, bypass_two_factor: bool) -> Response:
        return success(token=regenerate_personal_token(user, name))


class RemovePersonalAccessToken(TokenEndpoint):
    wire_method = "removeToken"

    def change(self, user: User, name: str, *, bypass_two_factor: bool) -> Response:
        remove_personal_token(user, name)
        return success()


class GetPersonalAccessTokens(Endpoint):
    permission_classes = (SignedIn,)
    query_schema = None

    def get(self, request: Request) -> Response:
        if not caller(request).can_create_tokens:
            raise NotAuthorized
        tokens = ApiToken.objects.personal(caller(request)).order_by("created_at", "pk")
        return success(tokens=[token_body(token) for token in tokens])


def ask_for_password(request: Request, user: User, token: ApiToken) -> None:
    """Check the password in the `x-2fa-…` headers, and insist on them where that is wanted.

    There is no second factor here; what these headers carry is the digest of the password. A digest
    that is sent is always checked. Raises `PasswordRequired`, `PasswordInvalid`, `TooManyCalls`.
    """
    if not user.has_usable_password():
        return
    method = request.META.get("HTTP_X_2FA_METHOD", "")
    code = request.META.get("HTTP_X_2FA_CODE", "")
    if method == PASSWORD and code:
        try:
            confirm_password(login_attempt(request._request), user, code)
        except WrongCredentials:
            raise PasswordInvalid(details={"method": PASSWORD}) from None
        except LoginLocked as locked:
            raise TooManyCalls(locked.seconds) from None
    elif conf().ask_password_for_tokens and not token.bypass_two_factor:
        details = {"method": PASSWORD, "codeGenerated": False, "availableMethods": []}
        raise PasswordRequired(details=details)
