"""What the wire says of people and their tokens. Properties without a value are left out."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any
from urllib.parse import quote

from importops.engine.progress import iso_ms
from importops.models import ApiToken, Membership, Room, User

OFFLINE = "offline"
"""There is no chat here that anybody could be connected to."""


def me_body(user: User, site: str) -> dict[str, Any]:
    """All that a user is told about themselves; `site` is this server's address, without a path."""
    verified = [email.address for email in user.emails.all() if email.verified]
    return _without_nothing(
        {
            **_public(user),
            **_full(user),
            "email": verified[0] if verified else None,
            "_updatedAt": iso_ms(user.updated_at),
            "avatarUrl": f"{site}/avatar/{quote(user.username, safe='')}",
            "isOAuthUser": False,
            "settings": {"profile": {}, "preferences": {}},
            "services": {"password": {"exists": user.has_usable_password()}},
        }
    )


def user_body(user: User, reader: User) -> dict[str, Any]:
    """As much of `user` as `reader` may see."""
    own = user.pk == reader.pk
    sees_all = own or reader.can_view_all_user_info
    body = {**_public(user), "canViewAllInfo": sees_all}
    if sees_all:
        ids = user.import_ids.order_by("pk").values_list("import_id", flat=True)
        body |= {**_full(user), "importIds": list(ids) or None}
    if own:
        body["services"] = {"password": True} if user.has_usable_password() else None
    return _without_nothing(body)


def rooms_body(user: User, reader: User) -> list[dict[str, Any]]:
    """The rooms that `user` is in; of another user's, private ones only for who may read them."""
    memberships = Membership.objects.filter(user=user).select_related("room")
    if user.pk != reader.pk and not reader.can_view_private_messages:
        memberships = memberships.filter(room__type=Room.Type.PUBLIC)
    others = _others_in_direct_rooms(user)
    rooms = [
        _room(membership.room, user, others.get(membership.room_id, []))
        for membership in memberships
    ]
    return sorted(rooms, key=lambda room: (room["t"], room["name"]))


def token_body(token: ApiToken) -> dict[str, Any]:
    return {
        "name": token.name,
        "createdAt": iso_ms(token.created_at),
        "lastTokenPart": token.last_part,
        "bypassTwoFactor": token.bypass_two_factor,
    }


def _public(user: User) -> dict[str, Any]:
    return {
        "_id": user.public_id,
        "name": user.name,
        "username": user.username,
        "type": user.type,
        "status": OFFLINE,
        "statusText": user.status_text,
        "bio": user.bio,
        "utcOffset": user.utc_offset,
        "active": user.is_active,
    }


def _full(user: User) -> dict[str, Any]:
    emails = [{"address": each.address, "verified": each.verified} for each in user.emails.all()]
    return {
        "emails": emails or None,
        "statusConnection": OFFLINE,
        "roles": sorted(group.name for group in user.groups.all()),
        "createdAt": iso_ms(user.created_at),
        "lastLogin": _moment(user.last_login),
    }


def _room(room: Room, user: User, others: list[str]) -> dict[str, Any]:
    name = room.name or ", ".join(sorted(others)) or user.username
    body: dict[str, Any] = {
        "_id": room.public_id + user.public_id,
        "rid": room.public_id,
        "name": name,
    }
    if room.creator_id == user.pk:
        body["roles"] = ["owner"]
    return {**body, "t": room.type, "unread": 0}


def _others_in_direct_rooms(user: User) -> dict[int, list[str]]:
    """Who else is in the direct rooms of `user`, which have no name but theirs."""
    names: dict[int, list[str]] = defaultdict(list)
    rows = (
        Membership.objects.filter(room__type=Room.Type.DIRECT, room__memberships__user=user)
        .exclude(user=user)
        .values_list("room_id", "user__username")
    )
    for room_id, username in rows:
        names[room_id].append(username)
    return names


def _moment(moment: datetime | None) -> str | None:
    return iso_ms(moment) if moment else None


def _without_nothing(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None and value != ""}
