"""The one view of `bare_drf.py`."""

from __future__ import annotations

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from importops.engine.progress import operation_body
from importops.models import ImportOperation


class CurrentOperation(APIView):
    def get(self, request: Request) -> Response:
        operation = ImportOperation.objects.select_related("user").order_by("-ts").first()
        assert operation is not None
        return Response({"success": True, "operation": operation_body(operation)})


urlpatterns = [path("api/v1/getCurrentImportOperation", CurrentOperation.as_view())]
