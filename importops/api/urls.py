"""The routes of the REST API. The name of a route is its endpoint's name on the wire."""

from __future__ import annotations

from django.urls import URLPattern, path, re_path

from importops.api.endpoint import Endpoint
from importops.api.exceptions import unknown_endpoint
from importops.api.views import accounts, operations, tokens

ENDPOINTS: dict[str, type[Endpoint]] = {
    "getCurrentImportOperation": operations.GetCurrentImportOperation,
    "getLatestImportOperations": operations.GetLatestImportOperations,
    "getImportProgress": operations.GetImportProgress,
    "getImportFileData": operations.GetImportFileData,
    "uploadImportFile": operations.UploadImportFile,
    "startImport": operations.StartImport,
    "import.status": operations.ImportStatus,
    "import.cancel": operations.ImportCancel,
    "import.resume": operations.ImportResume,
    "import.rollback": operations.ImportRollback,
    "import.report": operations.ImportReport,
    "import.failures": operations.ImportFailures,
    "import.preview": operations.ImportPreview,
    "import.retryFailed": operations.ImportRetryFailed,
    "login": accounts.Login,
    "logout": accounts.Logout,
    "me": accounts.Me,
    "users.info": accounts.UsersInfo,
    "users.generatePersonalAccessToken": tokens.GeneratePersonalAccessToken,
    "users.regeneratePersonalAccessToken": tokens.RegeneratePersonalAccessToken,
    "users.removePersonalAccessToken": tokens.RemovePersonalAccessToken,
    "users.getPersonalAccessTokens": tokens.GetPersonalAccessTokens,
}

urlpatterns: list[URLPattern] = [
    *(path(f"v1/{name}", endpoint.as_view(), name=name) for name, endpoint in ENDPOINTS.items()),
    # Here, and not in Django's 404 handler, so that no slash is appended and no debug page shown.
    re_path(r"", unknown_endpoint),
]
