"""The workspace that imports fill: rooms, who is in them, what was said, and the files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from importops.ids import new_public_id
from importops.models.accounts import User, created_by
from importops.records import KEY_LIMIT, NAME_LIMIT


class Room(models.Model):
    class Type(models.TextChoices):
        PUBLIC = "c", _("public room")
        PRIVATE = "p", _("private room")
        DIRECT = "d", _("direct messages")

    public_id = models.CharField(
        _("id"), max_length=24, unique=True, default=new_public_id, editable=False
    )
    type = models.CharField(_("type"), max_length=1, choices=Type.choices)
    name = models.CharField(_("name"), max_length=NAME_LIMIT, blank=True)
    name_key = models.CharField(max_length=KEY_LIMIT, db_index=True, editable=False)
    topic = models.TextField(_("topic"), blank=True)
    description = models.TextField(_("description"), blank=True)
    archived = models.BooleanField(_("archived"), default=False)
    creator = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    direct_key = models.CharField(max_length=64, unique=True, null=True, blank=True, editable=False)
    operation = created_by()

    class Meta:
        verbose_name = _("room")
        verbose_name_plural = _("rooms")
        permissions = [("view_private_messages", _("Can read private rooms and direct messages"))]

    def __str__(self) -> str:
        return self.name or self.public_id

    @staticmethod
    def direct_key_of(user_ids: Iterable[int]) -> str:
        """What makes a direct room unique: its members. One id for notes to oneself."""
        members = ",".join(str(pk) for pk in sorted(set(user_ids)))
        return hashlib.sha256(members.encode()).hexdigest()


class RoomImportId(models.Model):
    """Which room this is in another workspace."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="import_ids")
    source = models.CharField(_("source"), max_length=64)
    import_id = models.CharField(_("import id"), max_length=NAME_LIMIT)
    operation = created_by()

    class Meta:
        verbose_name = _("import id")
        verbose_name_plural = _("import ids")
        constraints = [
            models.UniqueConstraint(fields=["source", "import_id"], name="room_import_id_unique")
        ]

    def __str__(self) -> str:
        return f"{self.source}: {self.import_id}"


class Membership(models.Model):
    # The unique pair serves look-ups by room; an index of its own would only slow imports down.
    room = models.ForeignKey(
        Room, on_delete=models.CASCADE, related_name="memberships", db_index=False
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    operation = created_by(indexed=False)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [models.UniqueConstraint(fields=["room", "user"], name="membership_unique")]

    def __str__(self) -> str:
        return f"{self.user} in {self.room}"


class Message(models.Model):
    """One message. Identity is `(room, source_id)`; JSON columns hold names, never keys of ours.

    Three indexes and no more: each further one costs the import a third of its speed
    (docs/benchmarks.md). So nothing may look messages up by author or operation alone.
    """

    room = models.ForeignKey(
        Room, on_delete=models.PROTECT, related_name="messages", db_index=False
    )
    # No index, so no constraint in the database either: see `created_by`.
    author = models.ForeignKey(
        User,
        on_delete=models.PROTECT,
        related_name="messages",
        db_index=False,
        db_constraint=False,
    )
    source_id = models.CharField(max_length=NAME_LIMIT)
    sent_at = models.DateTimeField(_("sent"))
    text = models.TextField(_("text"), blank=True)
    type = models.CharField(_("type"), max_length=64, blank=True)
    alias = models.CharField(_("shown name"), max_length=NAME_LIMIT, blank=True)
    thread_source_id = models.CharField(max_length=NAME_LIMIT, blank=True)
    edited_at = models.DateTimeField(_("edited"), null=True, blank=True)
    edited_by = models.CharField(_("edited by"), max_length=NAME_LIMIT, blank=True)
    reactions = models.JSONField(_("reactions"), default=dict, blank=True)
    mentions = models.JSONField(_("mentions"), default=list, blank=True)
    attachments = models.JSONField(_("attachments"), default=list, blank=True)
    operation = created_by(indexed=False)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [models.UniqueConstraint(fields=["room", "source_id"], name="message_unique")]
        indexes = [
            models.Index(fields=["room", "sent_at"], name="message_room_sent"),
            models.Index(
                fields=["room", "thread_source_id"],
                condition=~models.Q(thread_source_id=""),
                name="message_thread",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source_id} in {self.room_id}"


class File(models.Model):
    """A file that a message carries. Its content is fetched later; until then `url` is all we have."""

    class Status(models.TextChoices):
        PENDING = "pending", _("to be fetched")
        DONE = "done", _("here")
        FAILED = "failed", _("not available")

    message = models.ForeignKey(
        Message, on_delete=models.CASCADE, related_name="files", db_index=False
    )
    source_id = models.CharField(max_length=NAME_LIMIT)
    name = models.CharField(_("name"), max_length=NAME_LIMIT, blank=True)
    mime_type = models.CharField(_("type"), max_length=NAME_LIMIT, blank=True)
    size = models.BigIntegerField(_("size"), default=0)
    url = models.TextField(_("source address"), blank=True)
    status = models.CharField(
        _("status"), max_length=8, choices=Status.choices, default=Status.PENDING
    )
    external = models.BooleanField(
        _("hosted elsewhere"),
        default=False,
        help_text=_("A link to another site; there is nothing to fetch."),
    )
    problem = models.CharField(_("problem"), max_length=NAME_LIMIT, blank=True)
    content = models.FileField(_("content"), upload_to="files/", blank=True)
    operation = created_by(indexed=False)

    class Meta:
        verbose_name = _("file")
        verbose_name_plural = _("files")
        constraints = [models.UniqueConstraint(fields=["message", "source_id"], name="file_unique")]

    def __str__(self) -> str:
        return self.name or self.source_id
