"""Rooms, messages and files, to look at. Private ones are not for every staff member's eyes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from importops.admin.looking import LookOnlyAdmin
from importops.admin.people import signed_in
from importops.models import File, Membership, Message, Room
from importops.records import fold
from importops.redaction import redact

MEMBERS_SHOWN = 50
IN_ROOM = "room__id__exact"


def readable_rooms(request: HttpRequest) -> QuerySet[Room]:
    """The rooms that the one who asks may look into."""
    if signed_in(request).has_perm("importops.view_private_messages"):
        return Room.objects.all()
    return Room.objects.filter(type=Room.Type.PUBLIC)


@admin.register(Room)
class RoomAdmin(LookOnlyAdmin[Room]):
    list_display = ("__str__", "type", "topic_start", "member_count", "archived", "said")
    list_filter = ("type", "archived")
    search_fields = ("name",)
    search_help_text = _("Part of a room's name; a whole id or import id.")
    ordering = ("name_key",)
    fields = (
        "public_id",
        "name",
        "type",
        "topic",
        "description",
        "archived",
        "creator",
        "members",
        "created_at",
        "operation",
        "said",
    )
    readonly_fields = ("members", "said")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Room]:
        members = (
            Membership.objects.filter(room=OuterRef("pk"))
            .values("room")
            .annotate(number=Count("pk"))
        )
        return readable_rooms(request).annotate(
            number_of_members=Subquery(members.values("number"))
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Room], search_term: str
    ) -> tuple[QuerySet[Room], bool]:
        found = queryset.filter(name_key__contains=fold(search_term.strip()))
        if search_term and not found.exists():
            word = search_term.strip()
            by_id = queryset.filter(public_id=word)
            by_import_id = queryset.filter(import_ids__import_id=word)
            return (by_id | by_import_id).distinct(), False
        return found, False

    @admin.display(description=_("topic"))
    def topic_start(self, room: Room) -> str:
        return Truncator(room.topic).chars(60)

    @admin.display(description=_("members"), ordering="number_of_members")
    def member_count(self, room: Any) -> int:
        return room.number_of_members or 0

    @admin.display(description=_("members"))
    def members(self, room: Any) -> str:
        names = room.memberships.order_by("user__username_key").values_list(
            "user__username", flat=True
        )
        shown = ", ".join(names[:MEMBERS_SHOWN])
        more = (room.number_of_members or 0) - MEMBERS_SHOWN
        return (
            gettext("%(names)s and %(n)d more")
            % {
                "names": shown,
                "n": more,
            }
            if more > 0
            else shown
        )

    @admin.display(description=_("messages"))
    def said(self, room: Room) -> SafeString:
        url = reverse("admin:importops_message_changelist")
        return format_html('<a href="{}?{}={}">{}</a>', url, IN_ROOM, room.pk, gettext("read"))


@admin.register(Message)
class MessageAdmin(LookOnlyAdmin[Message]):
    """Reached from a room: there only can messages be searched, and read in their order."""

    list_display = ("sent_at", "room", "author", "text_start", "type")
    list_display_links = ("sent_at",)
    list_select_related = ("room", "author")
    sortable_by = ()
    fields = (
        "room",
        "author",
        "alias",
        "sent_at",
        "text",
        "type",
        "thread_source_id",
        "edited_at",
        "edited_by",
        "reactions",
        "mentions",
        "attached",
        "source_id",
        "operation",
    )
    readonly_fields = ("attached",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        messages = super().get_queryset(request)
        if signed_in(request).has_perm("importops.view_private_messages"):
            return messages
        return messages.filter(room__type=Room.Type.PUBLIC)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        # Both are orders in which an index lies; any other would sort millions of rows.
        return ("-sent_at",) if IN_ROOM in request.GET else ("-pk",)

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("text", "alias") if IN_ROOM in request.GET else ()

    @admin.display(description=_("text"))
    def text_start(self, message: Message) -> str:
        return Truncator(message.text).chars(120)

    @admin.display(description=_("attachments"))
    def attached(self, message: Message) -> str:
        return redact(str(message.attachments)) if message.attachments else "-"


@admin.register(File)
class FileAdmin(LookOnlyAdmin[File]):
    list_display = ("__str__", "mime_type", "size", "status", "room")
    list_filter = ("status", "external")
    list_select_related = ("message__room",)
    sortable_by = ()
    ordering = ("-pk",)
    fields = (
        "name",
        "mime_type",
        "size",
        "status",
        "external",
        "problem",
        "address",
        "room",
        "message_link",
        "source_id",
        "operation",
    )
    readonly_fields = ("address", "room", "message_link")

    def get_queryset(self, request: HttpRequest) -> QuerySet[File]:
        files = super().get_queryset(request)
        if signed_in(request).has_perm("importops.view_private_messages"):
            return files
        return files.filter(message__room__type=Room.Type.PUBLIC)

    @admin.display(description=_("room"))
    def room(self, file: File) -> str:
        return str(file.message.room)

    @admin.display(description=_("source address"))
    def address(self, file: File) -> str:
        return redact(file.url)

    @admin.display(description=_("message"))
    def message_link(self, file: File) -> SafeString:
        url = reverse("admin:importops_message_change", args=[file.message_id])
        return format_html('<a href="{}">{}</a>', url, file.message)
