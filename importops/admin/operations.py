"""Imports: what is going on, what came of it, and what could not be imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext, gettext_lazy, ngettext
from django.utils.translation import gettext_lazy as _

from importops.actions.operations import cancel_operation, resume_operation
from importops.actions.retrying import retry_failed
from importops.actions.undoing import rollback_operation
from importops.admin.looking import LookOnlyAdmin
from importops.admin.people import signed_in
from importops.engine.progress import counts, has_failures, report
from importops.engine.retrying import failures_to_retry
from importops.engine.undoing import count_undo
from importops.errors import ImportopsError
from importops.models import ImportFailure, ImportOperation, Status
from importops.models.operations import ENDED, IMPORTING, LOADING
from importops.redaction import redact

FAILURES_SHOWN = 100
OUTCOMES = {
    "total": gettext_lazy("total"),
    "created": gettext_lazy("created"),
    "updated": gettext_lazy("updated"),
    "removed": gettext_lazy("removed"),  # by an undo or a merge only
    "skipped": gettext_lazy("skipped"),
    "failed": gettext_lazy("failed"),
}
KIND_NAMES = {
    "users": gettext_lazy("users"),
    "channels": gettext_lazy("rooms"),
    "messages": gettext_lazy("messages"),
    "files": gettext_lazy("files"),
}


def status_badge(operation: ImportOperation) -> SafeString:
    """The status in one or two words, with the colour of how it is going."""
    if operation.is_cancelling:
        look, text = "busy", gettext("cancelling")
    elif operation.rolled_back_at:
        look, text = "over", gettext("taken back")
    elif operation.status == Status.DONE and has_failures(operation):
        look, text = "mixed", gettext("done, with failures")
    elif not operation.valid and operation.status not in ENDED:
        look, text = "over", gettext("replaced by a newer import")
    else:
        look, text = _look(operation.status), operation.get_status_display()
    return format_html('<span class="importops-badge {}">{}</span>', look, text)


def _look(status: str) -> str:
    if status in (*LOADING, *IMPORTING):
        return "busy"
    looks: dict[str, str] = {
        Status.DONE: "good",
        Status.FAILED: "bad",
        Status.CANCELLED: "over",
        Status.USER_SELECTION: "waiting",
    }
    return looks.get(status, "over")


class StatusFilter(admin.SimpleListFilter):
    """The twenty statuses of the wire in the six groups that people think in."""

    title = _("status")
    parameter_name = "is"
    groups: dict[str, tuple[Any, tuple[Status, ...]]] = {
        "reading": (_("being read"), LOADING),
        "ready": (_("ready to start"), (Status.NEW, Status.USER_SELECTION)),
        "importing": (_("importing"), IMPORTING),
        "done": (_("done"), (Status.DONE,)),
        "failed": (_("failed"), (Status.FAILED,)),
        "cancelled": (_("cancelled"), (Status.CANCELLED,)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, title) for key, (title, _statuses) in self.groups.items()]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ImportOperation]
    ) -> QuerySet[ImportOperation]:
        if self.value() not in self.groups:
            return queryset
        return queryset.filter(status__in=self.groups[str(self.value())][1])


class ForThoseWhoSeeImports(LookOnlyAdmin[Any]):
    """Open to staff who may run imports, or may see them."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        user = signed_in(request)
        return user.can_run_imports or user.can_view_imports

    def has_module_permission(self, request: HttpRequest) -> bool:
        # The login page asks too, for nobody.
        return request.user.is_authenticated and self.has_view_permission(request)


@admin.register(ImportOperation)
class OperationAdmin(ForThoseWhoSeeImports):
    list_display = ("name", "badge", "records", "began")
    list_filter = (StatusFilter, "importer_key")
    list_select_related = ("user",)
    search_fields = ("=public_id", "file")
    search_help_text = _("An import's id, or part of its file's name.")
    date_hierarchy = None
    actions = ("cancel_selected", "resume_selected", "retry_selected", "undo_selected")
    fieldsets = (
        (None, {"fields": ("badge", "error", "ts", "user", "took")}),
        (
            _("What was imported"),
            {"fields": ("type", "file", "source", "chosen")},
        ),
    )
    readonly_fields = ("badge", "took", "chosen")

    class Media:
        css = {"all": ("importops/admin.css",)}

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Asked for by the actions, and by the buttons that lead to them."""
        return signed_in(request).can_run_imports

    @admin.action(description=_("Cancel the selected imports"), permissions=["run"])
    def cancel_selected(
        self, request: HttpRequest, queryset: QuerySet[ImportOperation]
    ) -> HttpResponse | None:
        return self._confirmed(
            request,
            queryset,
            action="cancel_selected",
            question=_("Cancel these imports?"),
            consequence=_(
                "What was imported so far stays. A cancelled import can be resumed and goes on "
                "where it stopped."
            ),
            act=cancel_operation,
            logged=gettext("Cancelled."),
        )

    @admin.action(description=_("Resume the selected imports"), permissions=["run"])
    def resume_selected(
        self, request: HttpRequest, queryset: QuerySet[ImportOperation]
    ) -> HttpResponse | None:
        return self._confirmed(
            request,
            queryset,
            action="resume_selected",
            question=_("Resume these imports?"),
            consequence=_(
                "Each goes on where it stopped, in the background. Only one import can write to "
                "the workspace at a time."
            ),
            act=resume_operation,
            logged=gettext("Resumed."),
        )

    @admin.action(
        description=_("Try again what failed in the selected imports"), permissions=["run"]
    )
    def retry_selected(
        self, request: HttpRequest, queryset: QuerySet[ImportOperation]
    ) -> HttpResponse | None:
        return self._confirmed(
            request,
            queryset,
            action="retry_selected",
            question=_("Try again what failed?"),
            consequence=_(
                "Only the failed records are imported again, in the background. That helps when their "
                "cause is gone: a limit was raised, a room made private."
            ),
            act=retry_failed,
            logged=gettext("Failed records are tried again."),
        )

    @admin.action(description=_("Undo the selected imports"), permissions=["run"])
    def undo_selected(
        self, request: HttpRequest, queryset: QuerySet[ImportOperation]
    ) -> HttpResponse | None:
        return self._confirmed(
            request,
            queryset,
            action="undo_selected",
            question=_("Undo these imports?"),
            consequence=gettext(
                "Removes what they created, at most %(what)s, in the background. What a later import "
                "or a person uses stays and is listed in the report; what was there before and was "
                "changed stays changed."
            )
            % {"what": _most_removed(queryset)},
            act=lambda operation: rollback_operation(operation, signed_in(request)),
            logged=gettext("Undo started."),
        )

    def _confirmed(
        self,
        request: HttpRequest,
        queryset: QuerySet[ImportOperation],
        *,
        action: str,
        question: Any,
        consequence: Any,
        act: Callable[[ImportOperation], object],
        logged: str,
    ) -> HttpResponse | None:
        """Ask, and when the answer has come, do it: as Django's own "delete selected" does."""
        if request.POST.get("confirmed"):
            self._act(request, queryset, act, logged)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": question,
            "consequence": consequence,
            "operations": [(one, status_badge(one)) for one in queryset.select_related("user")],
            "action": action,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "opts": self.opts,
            "media": self.media,
        }
        template = "admin/importops/importoperation/confirm.html"
        return TemplateResponse(request, template, context)

    def _act(
        self,
        request: HttpRequest,
        queryset: QuerySet[ImportOperation],
        act: Callable[[ImportOperation], object],
        logged: str,
    ) -> None:
        done = 0
        for operation in queryset:
            try:
                act(operation)
            except ImportopsError as error:
                text = f"{operation}: {error.message}"
                self.message_user(request, text, messages.ERROR)
            else:
                done += 1
                self.log_change(request, operation, logged)
        if done:
            text = ngettext("%(n)d import: %(what)s", "%(n)d imports: %(what)s", done)
            self.message_user(request, text % {"n": done, "what": logged})

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        operation = self.get_object(request, object_id)
        context = dict(extra_context or {})
        if operation is not None and self.has_view_permission(request, operation):
            context |= self._report(request, operation)
        return super().change_view(request, object_id, form_url, context)

    def _report(self, request: HttpRequest, operation: ImportOperation) -> dict[str, Any]:
        failures = ImportFailure.objects.of(operation)
        told = report(operation)
        may_run = self.has_run_permission(request)
        ended = operation.status in ENDED
        return {
            "title": str(operation),
            "subtitle": None,
            "report": told,
            "headings": [
                title for name, title in OUTCOMES.items() if name in told["counts"]["users"]
            ],
            "rows": [table_row(kind, numbers) for kind, numbers in told["counts"].items()],
            "skipped": [
                (KIND_NAMES[kind], reasons) for kind, reasons in told["skipped"].items() if reasons
            ],
            "failures": failures.defer("raw")[:FAILURES_SHOWN],
            "failures_total": sum(told["failures"].values()),
            "failures_url": reverse("admin:importops_importfailure_changelist")
            + f"?operation__id__exact={operation.pk}",
            "can_cancel": may_run and not ended and not operation.is_cancelling,
            "can_resume": may_run
            and ended
            and operation.status != Status.DONE
            and not operation.rolled_back_at,
            "can_retry": may_run
            and operation.is_import
            and operation.status == Status.DONE
            and not operation.rolled_back_at
            and failures_to_retry(operation).exists(),
            "can_undo": may_run
            and ended
            and operation.is_import
            and operation.has_started
            and not operation.rolled_back_at,
            "no_worker": operation.status in (*LOADING, *IMPORTING) and not told["worker"]["alive"],
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }

    @admin.display(description=_("status"))
    def badge(self, operation: ImportOperation) -> SafeString:
        return status_badge(operation)

    @admin.display(description=_("import"), ordering="public_id")
    def name(self, operation: ImportOperation) -> SafeString:
        return format_html(
            '{}<br><span class="importops-quiet">{}</span>', operation.type, operation.public_id
        )

    @admin.display(description=_("records"))
    def records(self, operation: ImportOperation) -> str:
        """What became of records of any kind; an outcome that none had is left out."""
        sums = {
            name: sum(numbers.get(name, 0) for numbers in counts(operation).values())
            for name in OUTCOMES
            if name != "total"
        }
        told = [f"{number:,} {OUTCOMES[name]}" for name, number in sums.items() if number]
        return ", ".join(told) or "-"

    @admin.display(description=_("created"), ordering="ts")
    def began(self, operation: ImportOperation) -> SafeString:
        by = gettext("by %s") % operation.user
        if operation.duration is not None:
            by = gettext("%(by)s, took %(time)s") % {"by": by, "time": self.took(operation)}
        return format_html(
            '{}<br><span class="importops-quiet">{}</span>',
            f"{timezone.localtime(operation.ts):%Y-%m-%d %H:%M}",
            by,
        )

    @admin.display(description=_("duration"))
    def took(self, operation: ImportOperation) -> str:
        if operation.duration is None:
            return "-"
        return str(timedelta(seconds=round(operation.duration.total_seconds())))

    @admin.display(description=_("chosen"))
    def chosen(self, operation: ImportOperation) -> str:
        if operation.target is not None:
            return gettext("to take back %s") % operation.target
        if not operation.is_import:
            return " → ".join(operation.selection.get("names", []))
        if not operation.selection:
            return gettext("nothing yet")
        parts = [
            f"{KIND_NAMES[kind]}: {_chosen_of(operation.selection.get(kind))}"
            for kind in ("users", "channels")
        ]
        for name, text in (("since", gettext("since")), ("until", gettext("until"))):
            if operation.selection.get(name):
                parts.append(f"{text} {operation.selection[name]}")
        if operation.selection.get("grantRoles"):
            parts.append(gettext("with the roles that the export asks for"))
        return "; ".join(parts)


def _most_removed(operations: QuerySet[ImportOperation]) -> str:
    """What an undo of these would remove if nothing of it were in use."""
    sums: Counter[str] = Counter()
    for operation in operations:
        sums.update(count_undo(operation))
    return ", ".join(f"{sums[f'{kind}.total']:,} {name}" for kind, name in KIND_NAMES.items())


def table_row(kind: str, numbers: dict[str, int]) -> tuple[Any, list[tuple[str, bool]]]:
    """The name of the kind, then per outcome its number and whether it is a bad sign."""
    cells = [
        (f"{numbers[name]:,}", name == "failed" and numbers[name] > 0)
        for name in OUTCOMES
        if name in numbers
    ]
    return KIND_NAMES[kind], cells


def _chosen_of(selector: Any) -> str:
    if not isinstance(selector, dict):
        return gettext("none")
    if selector.get("all"):
        return gettext("all")
    number = len(selector.get("list") or [])
    return gettext("%d chosen") % number if number else gettext("none")


@admin.register(ImportFailure)
class FailureAdmin(ForThoseWhoSeeImports):
    list_display = ("place", "kind", "code", "explanation", "operation")
    list_filter = ("kind", "code")
    list_select_related = ("operation",)
    search_fields = ("place", "=import_id")
    search_help_text = _("Part of the place in the export; a whole import id.")
    ordering = ("pk",)
    readonly_fields = ("record", "withheld")

    class Media:
        css = {"all": ("importops/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ImportFailure]:
        failures = ImportFailure.objects.to_be_shown().defer("raw")
        return failures.order_by(*(self.get_ordering(request) or ()))

    @admin.display(description=_("explanation"))
    def explanation(self, failure: ImportFailure) -> str:
        return Truncator(failure.message).chars(120)

    def get_fields(self, request: HttpRequest, obj: ImportFailure | None = None) -> list[Any]:
        withheld = obj is not None and not obj.may_be_read_by(signed_in(request))
        about = ["operation", "kind", "import_id", "place", "code", "message", "retryable"]
        # It may be from a private room; where from exactly, a bad record does not always tell.
        return [*about, "withheld" if withheld else "record"]

    @admin.display(description=_("record"))
    def record(self, failure: ImportFailure) -> SafeString:
        return format_html('<pre class="importops-record">{}</pre>', redact(failure.raw))

    @admin.display(description=_("record"))
    def withheld(self, failure: ImportFailure) -> str:
        return gettext("Shown to those who may read private rooms.")
