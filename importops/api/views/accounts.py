"""The endpoints about accounts: getting a token, giving it back, and looking at people."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from importops.actions.accounts import account_of, look_up_user, revoke_token
from importops.actions.login import LoggedIn, log_in, resume
from importops.api.account_bodies import me_body, rooms_body, user_body
from importops.api.bodies import decode_fields
from importops.api.endpoint import Endpoint, caller, caller_token, success
from importops.api.exceptions import LoginRefused, RequestError, TooManyCalls
from importops.api.login_body import LoginBody, login_body
from importops.api.permissions import SignedIn
from importops.api.user_lookup import user_lookup
from importops.clients import login_attempt
from importops.errors import LoginLocked, UserNotFound, WrongCredentials

LOGIN_BODY_LIMIT = 64 * 1024


class Login(Endpoint):
    """For everybody; so what is sent is kept small, and a token that comes along is not looked at."""

    authentication_classes = ()
    permission_classes = ()
    query_schema = None
    body_limit = LOGIN_BODY_LIMIT

    def post(self, request: Request) -> Response:
        wanted = login_body(self.body(request))
        try:
            done = self._log_in(request, wanted)
        except WrongCredentials:
            raise LoginRefused("Unauthorized", "Unauthorized") from None
        except LoginLocked as locked:
            raise TooManyCalls(locked.seconds) from None
        me = me_body(account_of(done.user), site_of(request))
        data = {"userId": done.user.public_id, "authToken": done.token, "me": me}
        return success(status="success", data=data)

    def _log_in(self, request: Request, wanted: LoginBody) -> LoggedIn:
        if wanted.resume:
            return resume(wanted.resume)
        return log_in(
            login_attempt(request._request),
            username=wanted.username,
            email=wanted.email,
            password=wanted.password,
            digest=wanted.digest,
        )

    def handle_exception(self, exc: Exception) -> Response:
        """This endpoint's errors have two keys more than everybody else's."""
        response = super().handle_exception(exc)
        response.data.setdefault("message", response.data["error"])
        response.data["status"] = "error"
        return response


class Logout(Endpoint):
    permission_classes = (SignedIn,)
    query_schema = None

    def get(self, request: Request) -> Response:
        return self._end(request)

    def post(self, request: Request) -> Response:
        self.body(request)
        return self._end(request)

    def _end(self, request: Request) -> Response:
        revoke_token(caller_token(request))
        return Response({"status": "success", "data": {"message": "You've been logged out!"}})


class Me(Endpoint):
    permission_classes = (SignedIn,)
    query_schema = None

    def get(self, request: Request) -> Response:
        return success(**me_body(account_of(caller(request)), site_of(request)))


class UsersInfo(Endpoint):
    permission_classes = (SignedIn,)
    query_schema = None
    """Checked in `get`: it is one of several schemas."""

    def get(self, request: Request) -> Response:
        reader = caller(request)
        text = request.META.get("QUERY_STRING", "")
        lookup = user_lookup(decode_fields(text, RequestError))
        try:
            user = look_up_user(reader, lookup.key, lookup.value)
        except UserNotFound:
            raise RequestError("User not found.") from None
        body = user_body(user, reader)
        if lookup.rooms and (user.pk == reader.pk or reader.can_view_rooms_of_others):
            body["rooms"] = rooms_body(user, reader)
        return success(user=body)


def site_of(request: Request) -> str:
    """This server's own address, as the caller wrote it."""
    return request.build_absolute_uri("/").removesuffix("/")
