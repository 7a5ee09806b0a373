"""What a rollback kept, and why: the codes, their sentences, and its part of `import.report`.

Everything that is kept is a row of the failures list, under one of these codes, and is counted as skipped
for that reason; so `import.failures` and `import_failures` list it, and filter by it.
"""

from __future__ import annotations

from typing import Any

from importops.models import ImportOperation
from importops.models.operations import ROLLBACK
from importops.records import BadRecord

KEPT = {
    "kept-has-later-files": "A later import added files to this message.",
    "kept-has-messages": "There are messages left in this room.",
    "kept-has-members": "This room has members whom the import did not let in.",
    "kept-room-known-elsewhere": "Another import knows this room too.",
    "kept-signed-in": "Somebody has signed in to this account, or acted with it.",
    "kept-has-password": "This account has been given a password.",
    "kept-has-token": "This account has API tokens.",
    "kept-has-rights": "This account has been given rights or roles.",
    "kept-edited": "This account has been edited since.",
    "kept-wrote-messages": "There are messages left that this user wrote.",
    "kept-is-member": "This user is a member of rooms that stay.",
    "kept-created-rooms": "This user is the creator of rooms that stay.",
    "kept-ran-imports": "This user has run imports.",
    "kept-user-known-elsewhere": "Another import, or a person, gave this user an id or an address.",
    "kept-referred-to": "Something else in the database refers to this user.",
    "kept-import-id-in-use": "A later import found this account or room by the id that stays.",
    "kept-address-in-use": "The account has been put to use, and may sign in with this address.",
}
GONE = "gone"
"""Reason of what the import had created and somebody else has removed since."""
CONTENT_LEFT = "undo-content-not-deleted"

ATTACHED = {"memberships": "memberships", "import_ids": "importIds", "emails": "emails"}


def kept(kind: Any, place: str, code: str, import_id: str = "") -> BadRecord:
    """The row that says what was kept and why."""
    return BadRecord(kind=kind, place=place, code=code, message=KEPT[code], import_id=import_id)


def undo_body(operation: ImportOperation) -> dict[str, Any] | None:
    """Per kind removed, kept (by reason) and failed; None for anything but a rollback."""
    if operation.importer_key != ROLLBACK or operation.target is None:
        return None
    tally = operation.tally
    body: dict[str, Any] = {"operation": operation.target.public_id}
    for kind in ("users", "channels", "messages", "files"):
        prefix = f"{kind}.skipped."
        reasons = {
            key.removeprefix(prefix): number
            for key, number in sorted(tally.items())
            if key.startswith(prefix) and number
        }
        body[kind] = {
            "total": tally.get(f"{kind}.total", 0),
            "removed": tally.get(f"{kind}.removed", 0),
            "kept": sum(reasons.values()),
            "failed": tally.get(f"{kind}.failed", 0),
            "reasons": reasons,
        }
    for name, wire in ATTACHED.items():
        body[wire] = {outcome: tally.get(f"{name}.{outcome}", 0) for outcome in ("removed", "kept")}
    body["updatesKept"] = updates_kept(operation.target)
    return body


def updates_kept(target: ImportOperation) -> dict[str, int]:
    """What was there before the import, was changed by it, and stays changed."""
    numbers = {
        kind: target.tally.get(f"{kind}.updated", 0) for kind in ("users", "channels", "messages")
    }
    return {kind: number for kind, number in numbers.items() if number}
