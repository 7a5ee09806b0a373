"""One import and its parts: the operation, its slices of work, what waits to be chosen, what failed.

Who may change what: a status moves only by the conditional updates of `ImportOperationQuerySet`,
so that of two processes that want the same step exactly one gets it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from importops.ids import new_public_id
from importops.models.accounts import User
from importops.records import NAME_LIMIT


class Status(models.TextChoices):
    """`status` on the wire (docs/api.md lists when each is entered)."""

    NEW = "importer_new", _("new")
    UPLOADING = "importer_uploading", _("uploading")
    DOWNLOADING_FILE = "importer_downloading_file", _("downloading")
    FILE_LOADED = "importer_file_loaded", _("file received")
    PREPARING_STARTED = "importer_preparing_started", _("reading")
    PREPARING_USERS = "importer_preparing_users", _("reading users")
    PREPARING_CHANNELS = "importer_preparing_channels", _("reading rooms")
    PREPARING_MESSAGES = "importer_preparing_messages", _("counting messages")
    PREPARING_CONTACTS = "importer_preparing_contacts", _("reading contacts")
    USER_SELECTION = "importer_user_selection", _("ready to start")
    IMPORTING_STARTED = "importer_importing_started", _("started")
    IMPORTING_USERS = "importer_importing_users", _("importing users")
    IMPORTING_CONTACTS = "importer_importing_contacts", _("importing contacts")
    IMPORTING_CHANNELS = "importer_importing_channels", _("importing rooms")
    IMPORTING_MESSAGES = "importer_importing_messages", _("importing messages")
    IMPORTING_FILES = "importer_importing_files", _("fetching files")
    FINISHING = "importer_finishing", _("finishing")
    DONE = "importer_done", _("done")
    FAILED = "importer_import_failed", _("failed")
    CANCELLED = "importer_import_cancelled", _("cancelled")


LOADING = (
    Status.UPLOADING,
    Status.DOWNLOADING_FILE,
    Status.FILE_LOADED,
    Status.PREPARING_STARTED,
    Status.PREPARING_USERS,
    Status.PREPARING_CHANNELS,
    Status.PREPARING_MESSAGES,
    Status.PREPARING_CONTACTS,
)
IMPORTING = (
    Status.IMPORTING_STARTED,
    Status.IMPORTING_USERS,
    Status.IMPORTING_CONTACTS,
    Status.IMPORTING_CHANNELS,
    Status.IMPORTING_MESSAGES,
    Status.IMPORTING_FILES,
    Status.FINISHING,
)
ENDED = (Status.DONE, Status.FAILED, Status.CANCELLED)


class Phase(models.TextChoices):
    """What an operation's slices are doing. Preparing ends before the person chooses; see engine/."""

    NONE = "", "-"
    LISTING = "listing", _("reading users and rooms")
    COUNTING = "counting", _("counting messages")
    USERS = "users", _("importing users")
    ROOMS = "rooms", _("importing rooms")
    MESSAGES = "messages", _("importing messages")
    FINISHING = "finishing", _("finishing")
    PREVIEWING = "previewing", _("trying what an import would do")
    RETRY_USERS = "retry_users", _("trying failed users again")
    RETRY_ROOMS = "retry_rooms", _("trying failed rooms again")
    RETRY_MESSAGES = "retry_messages", _("trying failed messages again")
    UNDO_MESSAGES = "undo_messages", _("removing messages")
    UNDO_ROOMS = "undo_rooms", _("removing rooms")
    UNDO_USERS = "undo_users", _("removing users")
    MERGING = "merging", _("merging users")


STATUS_OF_PHASE = {
    Phase.LISTING: Status.PREPARING_USERS,
    Phase.COUNTING: Status.PREPARING_MESSAGES,
    Phase.USERS: Status.IMPORTING_USERS,
    Phase.ROOMS: Status.IMPORTING_CHANNELS,
    Phase.MESSAGES: Status.IMPORTING_MESSAGES,
    Phase.FINISHING: Status.FINISHING,
    Phase.PREVIEWING: Status.USER_SELECTION,
    Phase.RETRY_USERS: Status.IMPORTING_USERS,
    Phase.RETRY_ROOMS: Status.IMPORTING_CHANNELS,
    Phase.RETRY_MESSAGES: Status.IMPORTING_MESSAGES,
    Phase.UNDO_MESSAGES: Status.IMPORTING_MESSAGES,
    Phase.UNDO_ROOMS: Status.IMPORTING_CHANNELS,
    Phase.UNDO_USERS: Status.IMPORTING_USERS,
    Phase.MERGING: Status.IMPORTING_USERS,
}

UNDOING = (Phase.UNDO_MESSAGES, Phase.UNDO_ROOMS, Phase.UNDO_USERS)
LETTING_GO = (*UNDOING, Phase.MERGING)
"""Phases that delete stored files after a commit, which therefore has to be on disk."""
ROLLBACK = "rollback"
MERGE_USERS = "merge-users"
WITHOUT_SOURCE = (ROLLBACK, MERGE_USERS)
"""`importer_key` of what runs as imports do (slices, fence, cancel, resume) and reads no export."""


class ImportOperationQuerySet(models.QuerySet["ImportOperation"]):
    def importing(self) -> Self:
        """Those that are writing to the workspace; a constraint allows one at most."""
        return self.filter(status__in=IMPORTING)

    def active(self) -> Self:
        """Those whose slices may be worked on."""
        return self.filter(valid=True, cancel_requested_at=None, finished_at=None).exclude(
            phase=Phase.NONE
        )

    def current(self) -> ImportOperation | None:
        """The one that is importing, else the latest by `ts`."""
        return (
            self.annotate(
                is_importing=models.Case(models.When(status__in=IMPORTING, then=1), default=0)
            )
            .order_by("-is_importing", "-ts", "-pk")
            .first()
        )

    def move(self, expected: Status | tuple[Status, ...], **changes: Any) -> bool:
        """Change the operations of this queryset that are still in `expected`; False: none was."""
        states = expected if isinstance(expected, tuple) else (expected,)
        changes.setdefault("updated_at", timezone.now())
        return bool(self.filter(status__in=states).update(**changes))


class ImportOperation(models.Model):
    """One import, from the arrival of its file to its report."""

    public_id = models.CharField(
        _("id"), max_length=24, unique=True, default=new_public_id, editable=False
    )
    importer_key = models.CharField(_("importer"), max_length=64)
    type = models.CharField(_("kind of export"), max_length=64)
    source = models.CharField(
        _("source"),
        max_length=64,
        help_text=_("The namespace that import ids live in."),
    )
    status = models.CharField(
        _("status"), max_length=32, choices=Status.choices, default=Status.NEW
    )
    phase = models.CharField(
        _("phase"), max_length=16, choices=Phase.choices, default=Phase.NONE, blank=True
    )
    valid = models.BooleanField(_("valid"), default=True)
    user = models.ForeignKey(
        User, verbose_name=_("started by"), on_delete=models.PROTECT, related_name="+"
    )
    ts = models.DateTimeField(_("created"), default=timezone.now, db_index=True)
    updated_at = models.DateTimeField(_("updated"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("ended"), null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    file = models.CharField(_("file"), max_length=1024, blank=True)
    content_type = models.CharField(_("content type"), max_length=NAME_LIMIT, blank=True)
    archive = models.FileField(upload_to="archives/", max_length=1024, blank=True)
    archive_path = models.TextField(blank=True, help_text=_("A file that is read where it lies."))
    fingerprint = models.CharField(max_length=64, blank=True)

    selection = models.JSONField(_("selection"), default=dict, blank=True)
    tally = models.JSONField(
        default=dict,
        help_text="Flat sums of the slices' tallies; engine/progress.py names the keys.",
    )
    base_tally = models.JSONField(
        default=dict, help_text="What was known when the run started; part of `tally`."
    )
    progress = models.JSONField(default=dict)
    notes = models.JSONField(_("notes"), default=list, blank=True)
    error = models.TextField(_("error"), blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    paused_because = models.TextField(
        _("waits because"), blank=True, help_text=_("Why it does not get on at the moment.")
    )
    preview = models.JSONField(
        default=dict, blank=True, help_text="What the last dry run found; engine/previewing.py."
    )
    target = models.ForeignKey(
        "self",
        verbose_name=_("undoes"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="undone_by",
        help_text=_("The operation that this one takes back."),
    )
    rolled_back_at = models.DateTimeField(_("taken back"), null=True, blank=True)

    # A constant: with the condition below it lets one row at most be importing.
    singleton = models.BooleanField(default=True, editable=False)

    objects = ImportOperationQuerySet.as_manager()

    class Meta:
        verbose_name = _("import operation")
        verbose_name_plural = _("import operations")
        ordering = ["-ts"]
        permissions = [("run_import", _("Can run imports"))]
        constraints = [
            models.UniqueConstraint(
                fields=["singleton"],
                condition=Q(status__in=IMPORTING),
                name="one_running_operation",
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.public_id}"

    @property
    def state(self) -> str:
        """The summary that `import.status` reports: ready, importing, done, …"""
        if self.status == Status.CANCELLED:
            return "canceled"
        if not self.valid and self.status != Status.DONE:
            return "error"
        if self.status in LOADING:
            return "loading"
        if self.status in IMPORTING:
            return "importing"
        return _STATES[Status(self.status)]

    @property
    def is_import(self) -> bool:
        """Whether it brings records; not so a rollback, and the merge of two users."""
        return self.importer_key not in WITHOUT_SOURCE

    @property
    def is_cancelling(self) -> bool:
        return self.cancel_requested_at is not None and self.status not in ENDED

    @property
    def has_started(self) -> bool:
        """Whether importing (not only preparing) has begun."""
        return self.started_at is not None

    @property
    def duration(self) -> timedelta | None:
        """How long the import phases have taken so far, or took."""
        if self.started_at is None:
            return None
        return (self.finished_at or timezone.now()) - self.started_at


_STATES = {
    Status.NEW: "new",
    Status.USER_SELECTION: "ready",
    Status.DONE: "done",
    Status.FAILED: "error",
}


class ImportSliceQuerySet(models.QuerySet["ImportSlice"]):
    def unfinished(self) -> Self:
        return self.exclude(status=ImportSlice.Status.DONE)

    def claimable(self, now: datetime) -> Self:
        """Nobody's, or held by somebody whose lease ran out."""
        return self.filter(
            Q(status=ImportSlice.Status.READY)
            | Q(status=ImportSlice.Status.RUNNING, lease_until__lt=now)
        )

    def abandoned(self, now: datetime) -> Self:
        """Held by somebody whose lease ran out."""
        return self.filter(status=ImportSlice.Status.RUNNING, lease_until__lt=now)

    def held(self, now: datetime) -> Self:
        return self.filter(status=ImportSlice.Status.RUNNING, lease_until__gte=now)

    def take_over(self) -> int:
        """Take slices from whoever has them; whoever had one finds the fence down."""
        return self.update(
            status=ImportSlice.Status.READY,
            attempt=models.F("attempt") + 1,
            stalled=0,
            lease_until=None,
            look_again_at=timezone.now(),
        )

    def due(self, now: datetime) -> Self:
        """Without those that failed a moment ago and wait for their next try."""
        return self.exclude(status=ImportSlice.Status.READY, attempt__gt=0, look_again_at__gt=now)

    def of_active_operations(self) -> Self:
        """Slices of the phase their operation is in, while it may be worked on.

        No join: Django would put an UPDATE's conditions into a subquery, and PostgreSQL does not ask
        that again when the row was changed by somebody it had to wait for. Two workers would both
        claim a slice.
        """
        theirs = ImportOperation.objects.active().filter(
            pk=models.OuterRef("operation"), phase=models.OuterRef("phase")
        )
        return self.filter(models.Exists(theirs))


class ImportSlice(models.Model):
    """A piece of a phase that one worker at a time works on, and its checkpoint."""

    class Status(models.TextChoices):
        READY = "ready", _("waiting")
        RUNNING = "running", _("being worked on")
        DONE = "done", _("done")

    operation = models.ForeignKey(ImportOperation, on_delete=models.CASCADE, related_name="slices")
    phase = models.CharField(max_length=16, choices=Phase.choices)
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.READY)
    start = models.JSONField(default=list)
    stop = models.BigIntegerField(default=0)
    weight = models.BigIntegerField(default=0)
    cursor = models.JSONField(null=True)
    tally = models.JSONField(default=dict)
    attempt = models.PositiveIntegerField(
        default=0, help_text="The fence: only the latest claim may commit."
    )
    stalled = models.PositiveIntegerField(
        default=0, help_text="Claims since the last committed batch."
    )
    takeovers = models.PositiveIntegerField(
        default=0, help_text="How often it was taken from a worker whose lease ran out."
    )
    lease_until = models.DateTimeField(null=True)
    look_again_at = models.DateTimeField(default=timezone.now)
    worker = models.CharField(max_length=NAME_LIMIT, blank=True)
    finished_at = models.DateTimeField(null=True)

    objects = ImportSliceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["operation", "phase", "number"], name="slice_unique")
        ]
        indexes = [
            models.Index(
                fields=["look_again_at"],
                condition=~Q(status="done"),
                name="slice_unfinished",
            )
        ]

    def __str__(self) -> str:
        return f"{self.phase} {self.number} of {self.operation_id}"


class StagedRecordQuerySet(models.QuerySet["StagedRecord"]):
    def users(self) -> Self:
        return self.filter(kind=StagedRecord.Kind.USER)

    def rooms(self) -> Self:
        return self.filter(kind=StagedRecord.Kind.ROOM)

    def authors(self) -> Self:
        return self.filter(kind=StagedRecord.Kind.AUTHOR)

    def settle(self, rows: Iterable[StagedRecord]) -> None:
        """Write the status and note that `rows` were given: one statement for each that occurs."""
        alike: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            alike.setdefault((row.status, row.note), []).append(row.pk)
        for (status, note), keys in alike.items():
            self.filter(pk__in=keys).update(status=status, note=note)

    def selected(self) -> Self:
        return self.filter(selected=True)

    def unfinished(self) -> Self:
        return self.filter(status=StagedRecord.Status.STAGED)


class StagedRecord(models.Model):
    """A user or room that waits to be chosen, and then what became of it."""

    class Kind(models.TextChoices):
        USER = "user", _("user")
        ROOM = "room", _("room")
        AUTHOR = "author", _("author outside the member list")

    class Status(models.TextChoices):
        STAGED = "staged", _("waiting")
        CREATED = "created", _("created")
        UPDATED = "updated", _("updated")
        SKIPPED = "skipped", _("skipped")
        FAILED = "failed", _("failed")

    operation = models.ForeignKey(ImportOperation, on_delete=models.CASCADE, related_name="staged")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    import_id = models.CharField(max_length=NAME_LIMIT)
    place = models.CharField(max_length=1024, blank=True)
    data = models.JSONField(help_text="The record as `records.py` defines it.")
    found = models.JSONField(
        default=dict,
        help_text="For rooms: how many messages and files, first and last time.",
    )
    selected = models.BooleanField(default=True)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.STAGED)
    note = models.CharField(
        max_length=NAME_LIMIT, blank=True, help_text="Why it was skipped, or renamed."
    )
    stand_in = models.CharField(
        max_length=NAME_LIMIT,
        blank=True,
        help_text="The username that a stand-in for this author gets, where it is not the export's.",
    )

    objects = StagedRecordQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["operation", "kind", "import_id"], name="staged_unique")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.import_id}"


class ImportFailureQuerySet(models.QuerySet["ImportFailure"]):
    def to_be_shown(self) -> Self:
        """What a person should see as failed: until the import starts what preparing and the dry run
        found; after that, what importing found (it meets the same bad messages again)."""
        started = Q(operation__started_at__isnull=False)
        found_twice = Q(kind=ImportFailure.Kind.MESSAGE, stage=ImportFailure.Stage.PREPARING)
        return self.exclude(started & (found_twice | Q(stage=ImportFailure.Stage.PREVIEW)))

    def of(self, operation: ImportOperation) -> Self:
        return self.filter(operation=operation).to_be_shown().order_by("pk")


class ImportFailure(models.Model):
    """A record that could not be imported: where it stands in the export, and why."""

    class Kind(models.TextChoices):
        USER = "user", _("user")
        ROOM = "room", _("room")
        MESSAGE = "message", _("message")
        FILE = "file", _("file")

    class Stage(models.TextChoices):
        PREPARING = "preparing", _("preparing")
        IMPORTING = "importing", _("importing")
        PREVIEW = "preview", _("dry run")

    operation = models.ForeignKey(
        ImportOperation, on_delete=models.CASCADE, related_name="failures"
    )
    stage = models.CharField(max_length=9, choices=Stage.choices)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    import_id = models.CharField(_("import id"), max_length=NAME_LIMIT, blank=True)
    place = models.CharField(_("place in the export"), max_length=1024)
    code = models.CharField(_("reason"), max_length=64)
    message = models.TextField(_("explanation"))
    retryable = models.BooleanField(_("worth retrying"), default=False)
    raw = models.TextField(_("record"), blank=True)
    retrying = models.BooleanField(
        default=False, editable=False, help_text="It is being tried again."
    )
    created_at = models.DateTimeField(default=timezone.now)

    objects = ImportFailureQuerySet.as_manager()

    class Meta:
        verbose_name = _("failed record")
        verbose_name_plural = _("failed records")
        # Seen again (a retry, a resume), a failure is the same row: it can never be counted twice.
        constraints = [
            models.UniqueConstraint(
                fields=["operation", "stage", "kind", "place"], name="failure_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"

    def may_be_read_by(self, user: User) -> bool:
        """Whether `user` may see the record itself: a message may come from a private room."""
        return self.kind in (self.Kind.USER, self.Kind.ROOM) or user.can_view_private_messages

    def raw_for(self, user: User) -> str:
        """The record as it stood in the export, for those who may read it."""
        return self.raw if self.may_be_read_by(user) else ""

    wire_kinds: ClassVar[dict[str, str]] = {
        "user": "users",
        "room": "channels",
        "message": "messages",
        "file": "files",
    }
