from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from importops.admin.looking import BoundedPaginator
from importops.models import File, Message, Room, RoomImportId
from tests.admin.conftest import SignIn, Staff
from tests.factories import MembershipFactory, MessageFactory, RoomFactory, UserFactory

ROOMS = "admin:importops_room_changelist"
MESSAGES = "admin:importops_message_changelist"
FILES = "admin:importops_file_changelist"


@pytest.fixture
def private(db: None) -> Message:
    room = RoomFactory.create(type="p", name="board", name_key="board")
    message = MessageFactory.create(room=room, text="the secret plan")
    File.objects.create(message=message, source_id="F1", name="secret.pdf")
    return message


@pytest.fixture
def direct(db: None) -> Message:
    room = RoomFactory.create(type="d", name="", name_key="", direct_key="x")
    return MessageFactory.create(room=room, text="just us two")


def test_private_rooms_are_hidden_from_ordinary_staff(
    staff: Staff, sign_in: SignIn, private: Message, direct: Message
) -> None:
    MessageFactory.create(text="for all", room=RoomFactory.create(name="general"))
    client = sign_in(staff("view_room", "view_message", "view_file"))
    rooms = client.get(reverse(ROOMS)).content.decode()
    assert "general" in rooms
    assert "board" not in rooms
    listed = client.get(reverse(MESSAGES)).content.decode()
    assert "for all" in listed
    assert "secret plan" not in listed
    assert "just us two" not in listed
    assert "secret.pdf" not in client.get(reverse(FILES)).content.decode()
    of_room = client.get(reverse(MESSAGES), {"room__id__exact": private.room_id})
    assert "secret plan" not in of_room.content.decode()


def test_private_rows_cannot_be_opened_by_their_number(
    staff: Staff, sign_in: SignIn, private: Message
) -> None:
    client = sign_in(staff("view_room", "view_message", "view_file"))
    file = File.objects.get()
    for row in (private.room, private, file):
        url = reverse(f"admin:importops_{row._meta.model_name}_change", args=[row.pk])
        response = client.get(url, follow=True)
        assert b"secret" not in response.content
        assert response.redirect_chain


def test_who_may_read_private_messages_does(
    staff: Staff, sign_in: SignIn, private: Message, direct: Message
) -> None:
    client = sign_in(staff("view_message", "view_private_messages"))
    page = client.get(reverse(MESSAGES)).content.decode()
    assert "the secret plan" in page
    assert "just us two" in page


def test_a_room_leads_to_its_messages_in_order(root_client: Client) -> None:
    room = RoomFactory.create()
    for day in (2, 1, 3):
        sent_at = datetime(2024, 1, day, tzinfo=UTC)
        MessageFactory.create(room=room, sent_at=sent_at, text=f"day {day}")
    MessageFactory.create(text="elsewhere")
    url = reverse(MESSAGES) + f"?room__id__exact={room.pk}"
    assert url.replace("&", "&amp;") in root_client.get(reverse(ROOMS)).content.decode()
    texts = [row.text for row in root_client.get(url).context["cl"].result_list]
    assert texts == ["day 3", "day 2", "day 1"]


def test_messages_are_searched_within_a_room_only(root_client: Client) -> None:
    message = MessageFactory.create(text="needle")
    MessageFactory.create(room=message.room, text="hay")
    query = {"room__id__exact": str(message.room_id), "q": "needle"}
    response = root_client.get(reverse(MESSAGES), query)
    assert [row.text for row in response.context["cl"].result_list] == ["needle"]
    assert "searchbar" not in root_client.get(reverse(MESSAGES)).content.decode()


def test_no_page_counts_a_whole_table(root_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedPaginator, "REACH", 60)
    room, author = RoomFactory.create(), UserFactory.create()
    MessageFactory.create_batch(70, room=room, author=author)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = root_client.get(reverse(MESSAGES))
    counted = [q["sql"] for q in queries if "COUNT(" in q["sql"]]
    assert counted
    assert all("LIMIT 60" in sql for sql in counted)
    assert len(queries) <= 8
    page = response.content.decode()
    assert "The first 60 messages. There may be more" in page
    assert root_client.get(reverse(MESSAGES), {"p": "2"}).status_code == 200


def test_rooms_show_their_members(root_client: Client) -> None:
    room = RoomFactory.create(name="general")
    for name in ("zoe", "ann"):
        MembershipFactory.create(room=room, user=UserFactory.create(username=name))
    assert (
        '<td class="field-member_count">2</td>' in root_client.get(reverse(ROOMS)).content.decode()
    )
    url = reverse("admin:importops_room_change", args=[room.pk])
    assert "ann, zoe" in root_client.get(url).content.decode()


def test_a_room_of_many_shows_some_of_them(
    root_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importops.admin.workspace.MEMBERS_SHOWN", 1)
    room = RoomFactory.create()
    for name in ("ann", "bea", "cleo"):
        MembershipFactory.create(room=room, user=UserFactory.create(username=name))
    url = reverse("admin:importops_room_change", args=[room.pk])
    assert "ann and 2 more" in root_client.get(url).content.decode()


@pytest.mark.parametrize("words", ["ПРИВ", "C42", "room-public-id"])
def test_rooms_are_found_by_name_and_ids(root_client: Client, words: str) -> None:
    room = RoomFactory.create(name="Привет", name_key="привет", public_id="room-public-id")
    RoomImportId.objects.create(room=room, source="slack", import_id="C42")
    RoomFactory.create()
    response = root_client.get(reverse(ROOMS), {"q": words})
    assert list(response.context["cl"].result_list) == [room]


def test_a_file_shows_its_address_without_the_secret(root_client: Client) -> None:
    url = "https://files.slack.com/files-pri/T1-F1/a.pdf?t=xoxe-123-456"
    message = MessageFactory.create(attachments=[{"title_link": url}])
    file = File.objects.create(message=message, source_id="F1", url=url)
    for row in (file, message):
        name = f"admin:importops_{row._meta.model_name}_change"
        page = root_client.get(reverse(name, args=[row.pk])).content.decode()
        assert "xox-REDACTED" in page
        assert "xoxe-123" not in page


def test_the_workspace_is_for_looking_only(root_client: Client) -> None:
    room = RoomFactory.create()
    url = reverse("admin:importops_room_change", args=[room.pk])
    assert root_client.post(url, {"name": "x"}).status_code == 403
    assert Room.objects.get().name == room.name
