"""What the body of `login` asks for, in each of the forms that clients send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from importops.api.exceptions import InvalidParams, LoginRefused
from importops.api.validation import Field, check_field

ALGORITHM = "sha-256"


@dataclass(frozen=True, slots=True)
class LoginBody:
    """Either `resume`, or a name or an address with one of `password` and `digest`."""

    resume: str = ""
    username: str = ""
    email: str = ""
    password: str = ""
    digest: str = ""


def login_body(data: object) -> LoginBody:
    """Raises `LoginRefused` for what no client means."""
    try:
        if not isinstance(data, dict):
            raise InvalidParams("must be object")
        if "password" not in data and "resume" in data:
            return LoginBody(resume=_string(data["resume"]))
        if "password" not in data:
            raise InvalidParams("must have required property 'password'")
        return LoginBody(**_who(data), **_secret(data["password"]))
    except InvalidParams as error:
        raise LoginRefused(error.error_type, str(error)) from None


def _who(data: dict[str, Any]) -> dict[str, str]:
    """`user`, as text or as an object, else `username`, else `email`."""
    user = data.get("user")
    if isinstance(user, dict):
        data = user
    elif user is not None:
        text = _string(user)
        return {"email" if "@" in text else "username": text}
    for name in ("username", "email"):
        if data.get(name) is not None:
            return {name: _string(data[name])}
    raise InvalidParams("must have required property 'user'")


def _secret(password: object) -> dict[str, str]:
    """The password itself, or its digest in one of two wrappings."""
    if not isinstance(password, dict):
        return {"password": _string(password)}
    if "hashed" in password:
        return {"digest": _string(password["hashed"])}
    if "digest" not in password:
        raise InvalidParams("must have required property 'digest'")
    if password.get("algorithm") != ALGORITHM:
        raise InvalidParams(f"algorithm must be {ALGORITHM}")
    return {"digest": _string(password["digest"])}


def _string(value: object) -> str:
    text: str = check_field(value, Field("string"), InvalidParams)
    return text
