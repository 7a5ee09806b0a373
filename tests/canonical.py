"""The workspace as text over natural keys only: two workspaces are the same when their dumps are equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from importops.models import File, Membership, Message, Room, RoomImportId, User, UserImportId


def canonical_dump() -> list[str]:
    """Every row of the workspace, one JSON line each, sorted; no key, time or id of ours in it."""
    return sorted(json.dumps(line, sort_keys=True, default=str) for line in lines())


def canonical_hash() -> str:
    return hashlib.sha256("\n".join(canonical_dump()).encode()).hexdigest()


def lines() -> Iterator[list[Any]]:
    for user in User.objects.prefetch_related("emails", "groups"):
        yield [
            "user",
            user.username,
            user.name,
            user.bio,
            user.status_text,
            user.utc_offset,
            user.type,
            user.pending_avatar_url,
            user.is_active,
            user.is_placeholder,
            user.is_staff,
            sorted(email.address for email in user.emails.all()),
            sorted(group.name for group in user.groups.all()),
        ]
    for known in UserImportId.objects.select_related("user"):
        yield ["user id", known.source, known.import_id, known.user.username]
    for room in Room.objects.select_related("creator"):
        yield [
            "room",
            room_key(room),
            room.topic,
            room.description,
            room.archived,
            room.creator and room.creator.username,
        ]
    for known_room in RoomImportId.objects.select_related("room"):
        yield ["room id", known_room.source, known_room.import_id, room_key(known_room.room)]
    for membership in Membership.objects.select_related("room", "user"):
        yield ["member", room_key(membership.room), membership.user.username]
    for message in Message.objects.select_related("room", "author").iterator(2000):
        yield [
            "message",
            room_key(message.room),
            message.source_id,
            message.author.username,
            message.sent_at,
            message.text,
            message.type,
            message.alias,
            message.thread_source_id,
            message.edited_at,
            message.edited_by,
            message.reactions,
            message.mentions,
            message.attachments,
        ]
    for file in File.objects.select_related("message__room"):
        yield [
            "file",
            room_key(file.message.room),
            file.message.source_id,
            file.source_id,
            file.name,
            file.size,
            file.mime_type,
            file.url,
            file.status,
            file.external,
            file.problem,
        ]


def room_key(room: Room) -> str:
    if room.type != Room.Type.DIRECT:
        return f"{room.type} {room.name}"
    members = room.memberships.values_list("user__username", flat=True)
    return f"d {','.join(sorted(members))}"
