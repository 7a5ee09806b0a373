from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ImportopsConfig(AppConfig):
    name = "importops"
    verbose_name = _("Workspace imports")

    def ready(self) -> None:
        from importops import checks  # noqa: F401 - registers them
