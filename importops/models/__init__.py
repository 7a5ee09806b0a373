"""The tables. This file only re-exports, so that `importops.models.User` is where others expect it."""

from __future__ import annotations

from importops.models.accounts import ApiToken, User, UserEmail, UserImportId
from importops.models.operations import (
    ImportFailure,
    ImportOperation,
    ImportSlice,
    Phase,
    StagedRecord,
    Status,
)
from importops.models.workspace import File, Membership, Message, Room, RoomImportId

__all__ = [
    "ApiToken",
    "File",
    "ImportFailure",
    "ImportOperation",
    "ImportSlice",
    "Membership",
    "Message",
    "Phase",
    "Room",
    "RoomImportId",
    "StagedRecord",
    "Status",
    "User",
    "UserEmail",
    "UserImportId",
]
