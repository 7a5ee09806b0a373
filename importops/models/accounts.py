"""People: accounts, their addresses, their ids in other workspaces, and their API tokens."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.core.cache import cache
from django.db import connection, models
from django.db.utils import OperationalError
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _

from importops.ids import new_public_id
from importops.records import KEY_LIMIT, NAME_LIMIT, fold
from importops.tokens import hash_token, last_part

if TYPE_CHECKING:
    from importops.models.operations import ImportOperation

logger = logging.getLogger(__name__)

RUN_IMPORT = "importops.run_import"


def created_by(
    *, indexed: bool = True
) -> models.ForeignKey[ImportOperation | None, ImportOperation | None]:
    """The column by which a row knows the import that made it; empty for what people made.

    The tables that grow by the million go without its index, which would cost every insert, and so
    without the database's own constraint: checking it would read such a table whole for each row that
    is deleted on the other side.
    """
    return models.ForeignKey(
        "importops.ImportOperation",
        verbose_name=_("created by import"),
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=indexed,
        db_constraint=indexed,
    )


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> User:
        """Look a user up by name, ignoring case in any script; every login goes through here."""
        return self.get(username_key=fold(username or ""))

    def create_user(self, username: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(username=username, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, username: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(username, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """An account. Roles are groups; `public_id` is `_id` on the wire and `X-User-Id` in requests."""

    class Type(models.TextChoices):
        USER = "user", _("user")
        BOT = "bot", _("bot")

    public_id = models.CharField(
        _("id"), max_length=24, unique=True, default=new_public_id, editable=False
    )
    username = models.CharField(_("username"), max_length=NAME_LIMIT)
    username_key = models.CharField(max_length=KEY_LIMIT, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=NAME_LIMIT, blank=True)
    bio = models.TextField(_("bio"), blank=True)
    status_text = models.CharField(_("status"), max_length=NAME_LIMIT, blank=True)
    utc_offset = models.FloatField(_("hours east of UTC"), null=True, blank=True, default=None)
    type = models.CharField(_("type"), max_length=8, choices=Type.choices, default=Type.USER)
    avatar = models.FileField(_("avatar"), upload_to="avatars/", blank=True)
    pending_avatar_url = models.TextField(_("avatar to fetch"), blank=True)
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Inactive users cannot sign in.")
    )
    is_staff = models.BooleanField(
        _("staff"), default=False, help_text=_("May use this admin site.")
    )
    is_placeholder = models.BooleanField(
        _("placeholder"),
        default=False,
        editable=False,
        help_text=_("Stands for an author whose account was not imported."),
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    operation = created_by()

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "username"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        permissions = [
            ("create_personal_access_tokens", _("Can create personal access tokens")),
            ("view_full_other_user_info", _("Can see everything about other users")),
            ("view_other_user_channels", _("Can see the rooms of other users")),
            ("bypass_rate_limit", _("Is not rate limited")),
        ]

    def __str__(self) -> str:
        return self.username

    def save(self, *args: Any, **kwargs: Any) -> None:
        # The key is what makes names unique; a name must never be written without it.
        self.username_key = fold(self.username)
        fields = kwargs.get("update_fields")
        if fields is not None and "username" in fields:
            kwargs["update_fields"] = {*fields, "username_key"}
        super().save(*args, **kwargs)

    def clean(self) -> None:
        super().clean()
        self.username_key = fold(self.username)

    def get_full_name(self) -> str:
        return self.name or self.username

    def get_short_name(self) -> str:
        return self.username

    @property
    def can_run_imports(self) -> bool:
        """Whether this user may run imports; the API and the admin both ask this.

        Token authentication has the answer already, from the statement that found the token.
        """
        known: bool | None = self.__dict__.get("run_import_granted")
        if known is not None:
            return known
        return self.is_active and self.has_perm(RUN_IMPORT)

    @property
    def can_view_private_messages(self) -> bool:
        """Whether what stands in private rooms and direct messages is for this user's eyes."""
        return self.is_active and self.has_perm("importops.view_private_messages")

    @property
    def can_create_tokens(self) -> bool:
        """Whether this user may have personal access tokens."""
        return self.is_active and self.has_perm("importops.create_personal_access_tokens")

    @property
    def can_view_all_user_info(self) -> bool:
        """Whether everything about other users is for this user's eyes."""
        return self.is_active and self.has_perm("importops.view_full_other_user_info")

    @property
    def can_view_rooms_of_others(self) -> bool:
        return self.is_active and self.has_perm("importops.view_other_user_channels")

    @property
    def can_bypass_rate_limit(self) -> bool:
        return self.is_active and self.has_perm("importops.bypass_rate_limit")

    @property
    def can_view_imports(self) -> bool:
        return self.is_active and self.has_perm("importops.view_importoperation")


class UserEmail(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="emails")
    address = models.CharField(_("address"), max_length=320)
    address_key = models.CharField(max_length=KEY_LIMIT, unique=True, editable=False)
    verified = models.BooleanField(_("verified"), default=False)
    operation = created_by()

    class Meta:
        verbose_name = _("e-mail address")
        verbose_name_plural = _("e-mail addresses")

    def __str__(self) -> str:
        return self.address

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.address_key = fold(self.address)
        super().save(*args, **kwargs)

    def clean(self) -> None:
        super().clean()
        self.address_key = fold(self.address)


class UserImportId(models.Model):
    """Who a user is in another workspace; the first thing matching looks at."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="import_ids")
    source = models.CharField(_("source"), max_length=64)
    import_id = models.CharField(_("import id"), max_length=NAME_LIMIT)
    operation = created_by()

    class Meta:
        verbose_name = _("import id")
        verbose_name_plural = _("import ids")
        constraints = [
            models.UniqueConstraint(fields=["source", "import_id"], name="user_import_id_unique")
        ]

    def __str__(self) -> str:
        return f"{self.source}: {self.import_id}"


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def issue(
        self,
        user: User,
        token: str,
        *,
        name: str = "",
        kind: str = "login",
        expires_at: datetime | None = None,
        bypass_two_factor: bool = False,
    ) -> ApiToken:
        """Store `token`, by its hash only."""
        return self.create(
            user=user,
            name=name,
            kind=kind,
            token_hash=hash_token(token),
            last_part=last_part(token),
            expires_at=expires_at,
            bypass_two_factor=bypass_two_factor,
        )

    def personal(self, user: User) -> ApiTokenQuerySet:
        return self.filter(user=user, kind=ApiToken.Kind.PERSONAL)

    def replace_text(self, token: str) -> int:
        """Give the one token of this set a new text, and a new life. Returns how many there were."""
        return self.update(
            token_hash=hash_token(token),
            last_part=last_part(token),
            created_at=timezone.now(),
            last_used_at=None,
            expires_at=None,
        )

    def usable(self) -> ApiTokenQuerySet:
        """Those that would be accepted now."""
        unexpired = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        return self.filter(unexpired, user__is_active=True)

    def with_text(self, token: str) -> ApiTokenQuerySet:
        """The one, if any, whose text is `token`."""
        return self.filter(token_hash=hash_token(token))

    def authenticate(self, public_id: str, token: str) -> tuple[User, ApiToken] | None:
        """The active user whose id and unexpired token these are, with `can_run_imports` known.

        One statement, written out: building these joins with the ORM on every poll costs ten times
        what the database needs to answer them (docs/benchmarks.md). The permission is part of it,
        so one that is taken away counts at the next request.
        """
        with connection.cursor() as cursor:
            cursor.execute(_AUTHENTICATE, [hash_token(token)])
            row = cursor.fetchone()
        if row is None:
            return None
        token_id, last_used_at, expires_at, granted, *values = row
        user = User.from_db(connection.alias, _USER_FIELDS, values)
        if not constant_time_compare(user.public_id, public_id) or not user.is_active:
            return None
        expires_at, last_used_at = _as_datetime(expires_at), _as_datetime(last_used_at)
        if expires_at is not None and expires_at <= timezone.now():
            return None
        user.__dict__["run_import_granted"] = bool(user.is_superuser or granted)
        found = ApiToken.from_db(
            connection.alias,
            ["id", "user_id", "last_used_at", "expires_at"],
            [token_id, user.pk, last_used_at, expires_at],
        )
        return user, found


# In the order of the model's fields: that is how `from_db` reads values.
_USER_FIELDS = ["id", "is_superuser", "public_id", "username", "name", "is_active"]
_AUTHENTICATE = """
    SELECT t.id, t.last_used_at, t.expires_at,
        EXISTS (
            SELECT 1 FROM importops_user_groups ug
            JOIN auth_group_permissions gp ON gp.group_id = ug.group_id
            JOIN auth_permission p ON p.id = gp.permission_id
            JOIN django_content_type c ON c.id = p.content_type_id
            WHERE ug.user_id = u.id AND p.codename = 'run_import'
                AND c.app_label = 'importops'
        ) OR EXISTS (
            SELECT 1 FROM importops_user_user_permissions up
            JOIN auth_permission p ON p.id = up.permission_id
            JOIN django_content_type c ON c.id = p.content_type_id
            WHERE up.user_id = u.id AND p.codename = 'run_import'
                AND c.app_label = 'importops'
        ),
        u.id, u.is_superuser, u.public_id, u.username, u.name, u.is_active
    FROM importops_apitoken t JOIN importops_user u ON u.id = t.user_id
    WHERE t.token_hash = %s
"""


def _as_datetime(value: datetime | None) -> datetime | None:
    """A column read past the ORM: SQLite hands its times out without their zone."""
    if value is not None and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


class ApiToken(models.Model):
    """A secret that stands for a user in the REST API. Only its SHA-256 is stored."""

    class Kind(models.TextChoices):
        LOGIN = "login", _("login")
        PERSONAL = "personal", _("personal access token")

    USED_EVERY = timedelta(minutes=1)

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.LOGIN)
    name = models.CharField(_("name"), max_length=NAME_LIMIT, blank=True)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    last_part = models.CharField(_("ends in"), max_length=6, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    bypass_two_factor = models.BooleanField(
        _("never asks for the password"), default=False, editable=False
    )

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        constraints = [
            models.UniqueConstraint(
                fields=["user", "name"],
                condition=models.Q(kind="personal"),
                name="personal_token_name_unique",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name or self.get_kind_display()} …{self.last_part}"

    def note_use(self) -> None:
        """Remember when this token was last used: at most once a minute, best effort, never waiting.

        A poll must not queue behind an import's writes, so a locked database is simply not told.
        """
        now = timezone.now()
        if self.last_used_at and now - self.last_used_at < self.USED_EVERY:
            return
        try:
            if not cache.add(f"token-use-{self.pk}", 1, timeout=60):
                return
        except Exception as error:  # noqa: BLE001 - each cache has errors of its own
            logger.warning("the use of a token is not noted, the cache is away: %s", error)
            return
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA busy_timeout=0")
            try:
                ApiToken.objects.filter(pk=self.pk).update(last_used_at=now)
            except OperationalError:
                return
            finally:
                if connection.vendor == "sqlite":
                    timeout = cast(int, connection.settings_dict["OPTIONS"]["timeout"])
                    cursor.execute(f"PRAGMA busy_timeout={timeout * 1000}")
