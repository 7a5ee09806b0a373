"""API tokens: 43 random characters, of which only the SHA-256 is ever stored.

A token is random, so a slow hash would buy nothing: there is no dictionary to try.
"""

from __future__ import annotations

import hashlib
import secrets

TOKEN_LENGTH = 43
RECOGNISABLE = 6


def new_token() -> str:
    """43 characters of `a-z A-Z 0-9 - _` (256 bits)."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """The lower-case hex SHA-256 under which a token is stored and found."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def last_part(token: str) -> str:
    """The last six characters, by which a person recognises a token in a list."""
    return token[-RECOGNISABLE:]
