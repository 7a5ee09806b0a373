"""Two users found to be one, from the list of users: choose both, say who stays."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from importops.actions.undoing import merge_users
from importops.admin.people import may_change, signed_in
from importops.errors import ImportopsError
from importops.models import User


@admin.action(description=_("Merge two users into one"), permissions=["merge"])
def merge_selected(
    site: Any, request: HttpRequest, queryset: QuerySet[User]
) -> HttpResponse | None:
    """Ask who stays, and when the answer has come, begin."""
    pair = list(queryset.order_by("pk")[:3])
    actor = signed_in(request)
    if len(pair) != 2:
        site.message_user(request, gettext("Choose exactly two users."), messages.ERROR)
        return None
    if not all(may_change(actor, user) for user in pair):
        site.message_user(request, gettext("You may not change both of them."), messages.ERROR)
        return None
    if not (into := request.POST.get("into")):
        context = {
            **site.admin_site.each_context(request),
            "title": _("Who of the two stays?"),
            "users": pair,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "opts": site.opts,
            "media": site.media,
        }
        return TemplateResponse(request, "admin/importops/user/merge.html", context)
    stays, goes = sorted(pair, key=lambda user: str(user.pk) != into)
    _begin(site, request, goes, stays)
    return None


def _begin(site: Any, request: HttpRequest, goes: User, stays: User) -> None:
    try:
        operation = merge_users(goes, stays, signed_in(request))
    except ImportopsError as error:
        site.message_user(request, error.message, messages.ERROR)
        return
    site.log_change(request, stays, f"Merge of {goes} into this account started.")
    url = reverse("admin:importops_importoperation_change", args=[operation.pk])
    text = gettext("Merging {} into {}: {}")
    link = format_html('<a href="{}">{}</a>', url, operation)
    site.message_user(request, format_html(text, goes, stays, link))
