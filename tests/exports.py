"""Builders of small exports, so that a test's odd byte stands beside its assertion.

slack_zip(
    tmp_path / "export.zip",
    users=[slack_user("U1", "ann")],
    channels=[slack_room("C1", "general", ["U1"])],
    messages={"general": {"2024-01-02": [slack_message("hello", user="U1")]}},
)
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

Json = Any
"""A value for `json.dumps`, or `bytes` that are written as they are."""
Target = TypeVar("Target", bound=Path | IO[bytes])

FIRST_TS = "1704189600.000100"
"""2024-01-02 10:00:00.0001 UTC: when a message was written if the test does not say."""


def slack_zip(
    target: Target,
    *,
    users: Json = None,
    channels: Json = None,
    groups: Json = None,
    dms: Json = None,
    mpims: Json = None,
    messages: Mapping[str, Mapping[str, Json]] | None = None,
    extra: Mapping[str, Json] | None = None,
    prefix: str = "",
) -> Target:
    """Write a Slack export to `target`, a path or an open file, and hand it back.

    `messages` is `{folder: {day: [message, ...]}}`. What is None is not in the zip.
    `prefix` is put before every name (`"My export/"`).
    """
    files: dict[str, Json] = {
        "users.json": users,
        "channels.json": channels,
        "groups.json": groups,
        "dms.json": dms,
        "mpims.json": mpims,
    }
    for folder, days in (messages or {}).items():
        files |= {f"{folder}/{day}.json": content for day, content in days.items()}
    files |= extra or {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            if content is not None:
                archive.writestr(prefix + name, json_bytes(content))
    return target


def json_bytes(content: Json) -> bytes:
    """`content` as Slack writes JSON: ASCII only, slashes escaped. Bytes stay as they are."""
    if isinstance(content, bytes):
        return content
    return json.dumps(content).replace("/", "\\/").encode("ascii")


def slack_user(user_id: str, name: str, **fields: Json) -> dict[str, Json]:
    """A member as in `users.json`; `profile` is merged, other fields are set."""
    profile = {
        "real_name": name.title(),
        "display_name": name,
        "email": f"{name}@example.com",
    }
    profile |= fields.pop("profile", {})
    return {
        "id": user_id,
        "team_id": "T1",
        "name": name,
        "deleted": False,
        "tz_offset": 3600,
        "is_bot": False,
        "profile": profile,
        **fields,
    }


def slack_room(room_id: str, name: str, members: list[str], **fields: Json) -> dict[str, Json]:
    """A room as in `channels.json`, `groups.json` and `mpims.json`."""
    return {
        "id": room_id,
        "name": name,
        "created": 1600000000,
        "creator": members[0] if members else None,
        "is_archived": False,
        "members": members,
        "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": {"value": "", "creator": "", "last_set": 0},
        **fields,
    }


def slack_dm(room_id: str, members: list[str], **fields: Json) -> dict[str, Json]:
    """A conversation as in `dms.json`."""
    return {"id": room_id, "created": 1600000000, "members": members, **fields}


def slack_message(
    text: Json = "hello", ts: Json = FIRST_TS, user: Json = "U1", **fields: Json
) -> dict[str, Json]:
    """A message as in a day file. `user=None` leaves the key out, as for bots."""
    message = {"type": "message", "text": text, "ts": ts, **fields}
    return message if user is None else {"user": user, **message}


def slack_messages(count: int, **fields: Json) -> list[dict[str, Json]]:
    """`count` messages, a second apart, texts `message 0`, `message 1`, …"""
    start = int(FIRST_TS[:10])
    return [slack_message(f"message {i}", f"{start + i}.000100", **fields) for i in range(count)]


def slack_file(file_id: str, name: str = "report.pdf", **fields: Json) -> dict[str, Json]:
    """A file as in a message's `files`."""
    url = f"https://files.example.com/files-pri/T1-{file_id}"
    return {
        "id": file_id,
        "name": name,
        "mimetype": "application/pdf",
        "size": 1234,
        "mode": "hosted",
        "is_external": False,
        "url_private": f"{url}/{name}",
        "url_private_download": f"{url}/download/{name}",
        **fields,
    }


def hosted_url(file_id: str, name: str = "report.pdf") -> str:
    """Where a `slack_file` is downloaded from."""
    return f"https://files.example.com/files-pri/T1-{file_id}/download/{name}"
