"""Users, their addresses and import ids; roles; API tokens."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from importops.actions.accounts import issue_token, revoke_token
from importops.admin.forms import (
    EmailForm,
    EmailFormSet,
    TokenForm,
    UserAddForm,
    UserForm,
)
from importops.admin.generic import ModelAdmin, TabularInline, UserAdmin
from importops.admin.merging import merge_selected
from importops.admin.people import may_change, signed_in
from importops.models import ApiToken, User, UserEmail, UserImportId
from importops.records import fold

OWN_TOKENS = "importops.create_personal_access_tokens"


class EmailInline(TabularInline[UserEmail, User]):
    """Whoever may change the user may change the addresses: `UserAdmin` has decided that."""

    model = UserEmail
    form = EmailForm
    formset = EmailFormSet  # type: ignore[assignment]
    extra = 0

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


class ImportIdInline(TabularInline[UserImportId, User]):
    model = UserImportId
    fields = readonly_fields = ("source", "import_id", "operation")
    extra = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[UserImportId]:
        return super().get_queryset(request).select_related("operation")


class TokenInline(TabularInline[ApiToken, User]):
    model = ApiToken
    fields = readonly_fields = (
        "kind",
        "name",
        "last_part",
        "created_at",
        "last_used_at",
        "expires_at",
    )
    extra = 0
    can_delete = False
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj == request.user or super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class AccountAdmin(UserAdmin[User]):
    form = UserForm
    add_form = UserAddForm
    list_display = ("username", "name", "addresses", "roles", "type", "is_active", "is_staff")
    list_filter = (
        "is_active",
        "is_staff",
        "is_superuser",
        "type",
        "is_placeholder",
        "groups",
    )
    search_fields = ("username",)
    search_help_text = _("Part of a name or an e-mail address; a whole id or import id.")
    ordering = ("username_key",)
    show_full_result_count = False
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("name", "type", "bio", "status_text", "utc_offset")}),
        (
            _("Rights"),
            {
                "fields": (
                    "is_active",
                    "is_staff",
                    "is_superuser",
                    "groups",
                    "user_permissions",
                ),
                "description": _(
                    "Users are deactivated, never deleted: what they wrote stays theirs."
                ),
            },
        ),
        (
            _("Origin"),
            {
                "fields": (
                    "public_id",
                    "is_placeholder",
                    "operation",
                    "created_at",
                    "updated_at",
                    "last_login",
                )
            },
        ),
    )
    readonly_fields = (
        "public_id",
        "is_placeholder",
        "operation",
        "created_at",
        "updated_at",
        "last_login",
    )
    rights = ("is_staff", "is_superuser", "groups", "user_permissions")
    actions = (merge_selected,)

    def has_merge_permission(self, request: HttpRequest) -> bool:
        return signed_in(request).can_run_imports and self.has_change_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("emails", "groups")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        """Every word has to be found somewhere, in any case and any script."""
        for word in search_term.split():
            of_user = {"user": OuterRef("pk")}
            address = UserEmail.objects.filter(**of_user, address_key__contains=fold(word))
            import_id = UserImportId.objects.filter(**of_user, import_id=word)
            queryset = queryset.filter(
                Q(username_key__contains=fold(word))
                # SQLite's LIKE knows the case of ASCII only, its REGEXP (Python's) of every script.
                | Q(name__iregex=re.escape(word))
                | Q(public_id=word)
                | Exists(address)
                | Exists(import_id)
            )
        return queryset, False

    def get_inlines(self, request: HttpRequest, obj: User | None) -> list[Any]:
        return [] if obj is None else [EmailInline, ImportIdInline, TokenInline]

    def get_readonly_fields(
        self, request: HttpRequest, obj: User | None = None
    ) -> list[Any] | tuple[Any, ...]:
        fields = super().get_readonly_fields(request, obj)
        return fields if signed_in(request).is_superuser else (*fields, *self.rights)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or may_change(signed_in(request), obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        # Messages have no index on their author (it would double the cost of an import), so to
        # delete a user would be to read every message there is; and no constraint, so an import that
        # is running could go on to write messages of somebody who is gone.
        return False

    @admin.display(description=_("e-mail addresses"))
    def addresses(self, user: User) -> str:
        return ", ".join(email.address for email in user.emails.all())

    @admin.display(description=_("roles"))
    def roles(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())


@admin.register(ApiToken)
class TokenAdmin(ModelAdmin[ApiToken]):
    """Issuing shows the secret in the answer to that very request, and nowhere ever again."""

    form = TokenForm
    list_display = (
        "shown",
        "user",
        "kind",
        "created_at",
        "last_used_at",
        "expires_at",
    )
    list_filter = ("kind",)
    list_select_related = ("user",)
    search_fields = ("name", "last_part", "user__username_key")
    ordering = ("-created_at",)
    fields = ("user", "kind", "name", "expires_at")

    class Media:
        css = {"all": ("importops/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        tokens = super().get_queryset(request)
        if super().has_view_permission(request):
            return tokens
        return tokens.filter(user=signed_in(request))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        allowed = signed_in(request).has_perm(OWN_TOKENS)
        return allowed or super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return signed_in(request).has_perm(OWN_TOKENS)

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        actor = signed_in(request)
        own = obj is None or obj.user_id == actor.pk
        return (own and actor.has_perm(OWN_TOKENS)) or super().has_delete_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> list[Any]:
        fields = list(super().get_fields(request, obj))
        return [*fields, "shown", "created_at", "last_used_at"] if obj else fields

    def get_readonly_fields(
        self, request: HttpRequest, obj: ApiToken | None = None
    ) -> tuple[str, ...]:
        return ("shown", "created_at", "last_used_at") if obj else ()

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("user",) if signed_in(request).is_superuser else ()

    def formfield_for_foreignkey(
        self, db_field: Any, request: HttpRequest, **kwargs: Any
    ) -> forms.ModelChoiceField[Any] | None:
        if db_field.name == "user":
            users = User.objects.filter(is_active=True)
            actor = signed_in(request)
            if not actor.is_superuser:
                users = users.filter(pk=actor.pk)
                kwargs["initial"] = actor
            kwargs["queryset"] = users
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        token, text = issue_token(
            obj.user, obj.name, kind=ApiToken.Kind(obj.kind), expires_at=obj.expires_at
        )
        obj.pk = token.pk
        obj.refresh_from_db()
        # Lives as long as this request does; `response_add` is given the same object.
        obj.__dict__["text"] = text

    def response_add(
        self, request: HttpRequest, obj: ApiToken, post_url_continue: Any = None
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": _("Token issued"),
            "opts": self.opts,
            "token": obj,
            "text": obj.__dict__["text"],
            "media": self.media,
        }
        template = "admin/importops/apitoken/issued.html"
        return TemplateResponse(request, template, context)

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        revoke_token(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset:
            revoke_token(token)

    @admin.display(description=_("token"), ordering="name")
    def shown(self, token: ApiToken) -> SafeString:
        return format_html("{} <code>…{}</code>", token.name or _("unnamed"), token.last_part)


admin.site.unregister(Group)


@admin.register(Group)
class RoleAdmin(ModelAdmin[Group]):
    """Roles carry permissions, so only superusers may touch them."""

    search_fields = ("name",)
    ordering = ("name",)
    filter_horizontal = ("permissions",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return signed_in(request).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return signed_in(request).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return signed_in(request).is_superuser

    def formfield_for_manytomany(
        self, db_field: Any, request: HttpRequest, **kwargs: Any
    ) -> forms.ModelMultipleChoiceField[Any] | None:
        kwargs.setdefault(
            "queryset", db_field.remote_field.model.objects.select_related("content_type")
        )
        return super().formfield_for_manytomany(db_field, request, **kwargs)
