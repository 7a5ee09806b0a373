"""Public ids: 17 characters without look-alikes, the form clients of the REST API know.

Source of the form: docs/api.md, "Identifiers".
"""

from __future__ import annotations

import secrets

ALPHABET = "23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz"
LENGTH = 17


def new_public_id() -> str:
    """A random id; 98 bits, so a collision need not be planned for."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
