"""The admin: Django's own, with our tables in it. One module per subject, as in `models/`."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from importops.admin import accounts, operations, workspace

__all__ = ["accounts", "operations", "workspace"]

admin.site.site_header = "importops"
admin.site.site_title = "importops"
admin.site.index_title = _("Imports, people and what was said")
