"""`GET users.info`: by one key, and as much as the caller may see."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth.models import Permission

from importops.models import Room, User, UserImportId
from tests.clients import ApiClient
from tests.factories import (
    ApiTokenFactory,
    MembershipFactory,
    RoomFactory,
    UserEmailFactory,
    UserFactory,
    secret_of,
)

NOT_FOUND = {"success": False, "error": "User not found."}
PUBLIC = {"_id", "name", "username", "type", "status", "active", "canViewAllInfo"}
FULL = {"emails", "statusConnection", "roles", "createdAt", "importIds"}
ANY_OF = (
    "must have required property 'userId'\n must have required property 'username'\n"
    " must have required property 'importId'\n must have required property 'email'\n"
    " must have required property 'freeSwitchExtension'\n must match a schema in anyOf"
)


@pytest.fixture
def ann(db: None) -> User:
    ann = UserFactory.create(username="Ann", name="Ann", groups=["user"])
    UserEmailFactory.create(user=ann, address="ann@example.com")
    UserImportId.objects.create(user=ann, source="slack", import_id="U1")
    return ann


def info(client: ApiClient, **query: Any) -> Any:
    return client.get(f"users.info?{urlencode(query, quote_via=quote)}")


def may(user: User, codename: str) -> None:
    user.user_permissions.add(Permission.objects.get(codename=codename))


def test_members_see_what_everybody_may(bob_client: ApiClient, ann: User) -> None:
    response = info(bob_client, username="ann")
    assert (response.status_code, response.json()) == (
        200,
        {
            "user": {
                "_id": ann.public_id,
                "name": "Ann",
                "username": "Ann",
                "type": "user",
                "status": "offline",
                "active": True,
                "canViewAllInfo": False,
            },
            "success": True,
        },
    )


def test_with_the_permission_everything_is_seen(alice_client: ApiClient, ann: User) -> None:
    user = info(alice_client, username="ann").json()["user"]
    assert user.keys() == PUBLIC | FULL
    assert user["canViewAllInfo"] is True
    assert user["emails"] == [{"address": "ann@example.com", "verified": True}]
    assert user["importIds"] == ["U1"]
    assert user["roles"] == ["user"]


def test_ones_own_record_has_everything_and_services(bob: User, bob_client: ApiClient) -> None:
    user = info(bob_client, userId=bob.public_id).json()["user"]
    assert user.keys() == PUBLIC | FULL - {"emails", "importIds"} | {"services"}
    assert user["services"] == {"password": True}


@pytest.mark.parametrize("name", ["Ann", "aNN", "ＡＮＮ"])
@pytest.mark.parametrize("key", ["userId", "username"])
def test_by_name_in_any_case(bob_client: ApiClient, ann: User, key: str, name: str) -> None:
    assert info(bob_client, **{key: name}).json()["user"]["_id"] == ann.public_id


def test_an_id_goes_before_a_name(bob_client: ApiClient, ann: User) -> None:
    UserFactory.create(username=ann.public_id)
    assert info(bob_client, userId=ann.public_id).json()["user"]["username"] == "Ann"


@pytest.mark.parametrize(("key", "value"), [("importId", "U1"), ("email", "ANN@example.com")])
def test_only_who_sees_all_finds_others_by_what_is_not_public(
    alice_client: ApiClient, bob_client: ApiClient, ann: User, key: str, value: str
) -> None:
    assert info(alice_client, **{key: value}).json()["user"]["_id"] == ann.public_id
    response = info(bob_client, **{key: value})
    assert (response.status_code, response.json()) == (400, NOT_FOUND)


@pytest.mark.parametrize(("key", "value"), [("importId", "U1"), ("email", "ann@example.com")])
def test_everybody_finds_themselves(ann: User, key: str, value: str) -> None:
    client = ApiClient(ann.public_id, secret_of(ApiTokenFactory.create(user=ann)))
    assert info(client, **{key: value}).json()["user"]["_id"] == ann.public_id


def test_an_import_id_of_the_api_goes_first(alice_client: ApiClient, ann: User) -> None:
    pushed = UserFactory.create()
    UserImportId.objects.create(user=pushed, source="api", import_id="U1")
    assert info(alice_client, importId="U1").json()["user"]["_id"] == pushed.public_id


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("userId", "nobody"),
        ("username", "nobody"),
        ("username", " ann"),
        ("username", "a\x00nn"),
        ("username", "%"),
        ("username", "x" * 3000),
        ("userId", "x" * 3000),
        ("importId", "u1"),
        ("email", "ann"),
        ("freeSwitchExtension", "1001"),
    ],
)
def test_nobody_is_not_found(alice_client: ApiClient, ann: User, key: str, value: str) -> None:
    response = info(alice_client, **{key: value})
    assert (response.status_code, response.json()) == (400, NOT_FOUND)


@pytest.mark.parametrize("key", ["userId", "username", "importId", "email", "freeSwitchExtension"])
def test_an_empty_key_is_invalid(bob_client: ApiClient, key: str) -> None:
    response = info(bob_client, **{key: ""})
    assert (response.status_code, response.json()) == (
        400,
        {"success": False, "error": "Invalid search query."},
    )


def test_no_key_breaks_every_schema(bob_client: ApiClient) -> None:
    response = bob_client.get("users.info")
    assert (response.status_code, response.json()) == (
        400,
        {"success": False, "errorType": "error-invalid-params", "error": ANY_OF},
    )


@pytest.mark.parametrize(
    "query", [{"userId": "1", "username": "2"}, {"username": "ann", "sort": "x"}]
)
def test_two_keys_or_unknown_ones_are_refused(bob_client: ApiClient, query: Any) -> None:
    response = info(bob_client, **query)
    assert response.status_code == 400
    assert response.json()["errorType"] == "error-invalid-params"
    assert "must NOT have additional properties" in response.json()["error"]


@pytest.mark.parametrize("text", ["%zz", "username=%ff"])
def test_a_query_that_cannot_be_read(bob_client: ApiClient, text: str) -> None:
    response = bob_client.get(f"users.info?{text}")
    assert (response.status_code, response.json()["error"]) == (400, "Invalid query parameters")


@pytest.mark.parametrize("fields", ["x", "{", "[]", "1", "[" * 3000])
def test_fields_that_are_no_object_are_refused(bob_client: ApiClient, fields: str) -> None:
    response = info(bob_client, username="bob", fields=fields)
    assert (response.status_code, response.json()) == (
        400,
        {
            "success": False,
            "error": f'Invalid fields parameter provided: "{fields[:100]}" [error-invalid-fields]',
            "errorType": "error-invalid-fields",
            "details": "users.info",
        },
    )


@pytest.fixture
def rooms(bob: User, ann: User) -> dict[str, Room]:
    rooms = {
        "town": RoomFactory.create(name="town", type="c", creator=ann),
        "attic": RoomFactory.create(name="attic", type="c"),
        "secret": RoomFactory.create(name="secret", type="p"),
        "direct": RoomFactory.create(name="", type="d"),
        "notes": RoomFactory.create(name="", type="d"),
    }
    for room in rooms.values():
        MembershipFactory.create(room=room, user=ann)
    MembershipFactory.create(room=rooms["direct"], user=bob)
    MembershipFactory.create(room=rooms["direct"], user=UserFactory.create(username="amy"))
    RoomFactory.create(name="elsewhere", type="c")
    return rooms


@pytest.mark.parametrize(
    "asking",
    [{"includeUserRooms": "true"}, {"fields": '{"userRooms":1}'}, {"fields": '{"userRooms":true}'}],
)
def test_ones_own_rooms(ann: User, rooms: dict[str, Room], asking: Any) -> None:
    client = ApiClient(ann.public_id, secret_of(ApiTokenFactory.create(user=ann)))
    listed = info(client, userId=ann.public_id, **asking).json()["user"]["rooms"]
    assert listed == [
        {
            "_id": rooms[key].public_id + ann.public_id,
            "rid": rooms[key].public_id,
            "name": name,
            "t": kind,
            "unread": 0,
            **more,
        }
        for key, name, kind, more in (
            ("attic", "attic", "c", {}),
            ("town", "town", "c", {"roles": ["owner"]}),
            ("notes", "Ann", "d", {}),
            ("direct", "amy, bob", "d", {}),
            ("secret", "secret", "p", {}),
        )
    ]


@pytest.mark.parametrize(
    "asking",
    [
        {},
        {"includeUserRooms": "false"},
        {"includeUserRooms": "TRUE"},
        {"fields": "{}"},
        {"fields": "null"},
        {"fields": ""},
        {"fields": json.dumps({"userRooms": 0})},
    ],
)
def test_rooms_are_only_told_when_asked_for(
    alice_client: ApiClient, ann: User, rooms: dict[str, Room], asking: Any
) -> None:
    response = info(alice_client, username="ann", **asking)
    assert response.status_code == 200
    assert "rooms" not in response.json()["user"]


def test_rooms_of_others_need_a_permission(
    bob: User, bob_client: ApiClient, ann: User, rooms: dict[str, Room]
) -> None:
    asking = {"username": "ann", "includeUserRooms": "true"}
    assert "rooms" not in info(bob_client, **asking).json()["user"]
    may(bob, "view_other_user_channels")
    listed = info(bob_client, **asking).json()["user"]["rooms"]
    assert [room["name"] for room in listed] == ["attic", "town"]
    may(bob, "view_private_messages")
    listed = info(bob_client, **asking).json()["user"]["rooms"]
    assert [room["t"] for room in listed] == ["c", "c", "d", "d", "p"]


def test_no_secret_of_anybody_is_told(alice_client: ApiClient, ann: User) -> None:
    text = info(alice_client, username="ann").content.decode()
    assert "argon2" not in text
    assert "services" not in text
