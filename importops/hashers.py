"""How passwords rest: Argon2 over the lower-case hex SHA-256 of the password.

The digest in between lets clients log in that send `{"digest": …, "algorithm": "sha-256"}` instead
of the password. The cost (19 MiB, two passes, one lane) is the first choice of the OWASP password
storage cheat sheet, a fifth of Django's memory, so that a burst of logins fits a small server.
"""

from __future__ import annotations

import hashlib

from django.contrib.auth.hashers import Argon2PasswordHasher


def password_digest(password: str) -> str:
    """What clients call the digest of a password."""
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).hexdigest()


class DigestArgon2PasswordHasher(Argon2PasswordHasher):
    algorithm = "argon2_digest"
    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        return super().encode(password_digest(password), salt)

    def verify(self, password: str, encoded: str) -> bool:
        return self.verify_digest(password_digest(password), encoded)

    def verify_digest(self, digest: str, encoded: str) -> bool:
        """Whether `digest`, sent by a client in place of the password, is the right one."""
        return super().verify(digest.lower(), encoded)
