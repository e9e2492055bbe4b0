"""Exports: asked for, watched and downloaded."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.exports import request_export
from reviewapp.api.base import DatasetViewSet
from reviewapp.downloads import send_export
from reviewapp.models import Export, FixSet, Role, User
from reviewapp.tasks import enqueue_export


class ExportSerializer(serializers.ModelSerializer[Export]):
    """One file made from a frozen set; `done` counts items while it runs."""

    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )

    class Meta:
        model = Export
        fields = [
            "id",
            "fix_set",
            "format",
            "state",
            "done",
            "size",
            "sha256",
            "message",
            "requested_by",
            "created_at",
            "finished_at",
        ]


class ExportRequest(serializers.Serializer[Export]):
    """What it takes to export a fix set."""

    fix_set = serializers.IntegerField(help_text="Id of the fix set")
    format = serializers.ChoiceField(choices=Export.Format.choices)


@extend_schema(tags=["fix sets"])
class ExportsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Export]
):
    """The exports of a data set's fix sets, the latest first."""

    queryset = Export.objects.none()
    serializer_class = ExportSerializer
    lookup_url_kwarg = "export_id"
    roles = {"create": Role.ADMIN, "download": Role.ADMIN}

    def rows(self) -> QuerySet[Export]:
        """Return the exports of the data set's fix sets."""
        return Export.objects.for_dataset(self.dataset).with_names()

    @extend_schema(request=ExportRequest, responses={202: ExportSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Queue an export (admin); poll the export that comes back."""
        body = self.read(ExportRequest(data=request.data))
        fix_sets = FixSet.objects.for_dataset(self.dataset)
        export = request_export(
            fix_set=access_one(fix_sets, pk=body["fix_set"]),
            format=body["format"],
            by=self.person,
        )
        enqueue_export(export)
        answer = ExportSerializer(export)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    @action(detail=True, methods=["get"])
    def download(self, request: Request, slug: str, export_id: int) -> FileResponse:
        """Send the file of a finished export (admin)."""
        return send_export(self.get_object())
