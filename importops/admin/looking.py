"""Pages for looking only, at tables with millions of rows: nothing to edit, and no full count."""

from __future__ import annotations

from typing import Any, TypeVar

from django.contrib.admin import ShowFacets
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from importops.admin.generic import ModelAdmin

M = TypeVar("M", bound=Model)


class BoundedPaginator(Paginator[Any]):
    """Counts `REACH` rows and no further; past them a filter or a search leads, not paging."""

    REACH = 5_000

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        # Neither the order nor the joined columns matter for a count.
        return rows.order_by().select_related(None)[: self.REACH].count()

    @property
    def is_cut(self) -> bool:
        """Whether there may be more rows than pages; `pagination.html` says so."""
        return self.count >= self.REACH


class LookOnlyAdmin(ModelAdmin[M]):
    """Shows rows, and lets nobody add, change or delete one here, superusers included."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER  # each would be a count of its own
    list_per_page = 50
    list_max_show_all = 0
    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False
