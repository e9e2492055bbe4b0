"""Fix sets: previewed, frozen and exported."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db.models import QuerySet
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.fixsets import request_export
from reviewapp.api.base import DatasetViewSet
from reviewapp.downloads import send_export
from reviewapp.forms.fixsets import FixSetForm
from reviewapp.models import Cause, Export, Finding, FixItem, FixSet, Role, Split, User
from reviewapp.tasks import enqueue_export


class FixSetSerializer(serializers.ModelSerializer[FixSet]):
    """A frozen set; `filter` says by name what it was made from."""

    created_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True
    )
    filter = serializers.DictField(read_only=True)

    class Meta:
        model = FixSet
        fields = [
            "id",
            "name",
            "filter",
            "size",
            "digest",
            "stale_because",
            "created_by",
            "created_at",
            "frozen_at",
        ]


class FixItemSerializer(serializers.ModelSerializer[FixItem]):
    """One finding as it was when the set was frozen; `label` is the one to train with."""

    class Meta:
        model = FixItem
        fields = [
            "id",
            "finding",
            "sample_key",
            "digest",
            "split",
            "original_label",
            "true_label",
            "label",
            "predicted",
            "verdict",
            "causes",
            "p_true",
            "confidence",
            "reviewer",
            "reviewed_at",
            "note",
        ]


class PreviewSerializer(serializers.Serializer[object]):
    """What a fix set under a filter would hold; `lost` have another image by now."""

    size = serializers.IntegerField()
    by_verdict = serializers.DictField(child=serializers.IntegerField())
    by_label = serializers.DictField(child=serializers.IntegerField())
    by_cause = serializers.DictField(child=serializers.IntegerField())
    by_split = serializers.DictField(child=serializers.IntegerField())
    lost = serializers.IntegerField()


class FixSetFilter(serializers.Serializer[Finding]):
    """The filter over findings; a field that is not given filters nothing."""

    true_label = serializers.IntegerField(required=False, help_text="Label id")
    predicted_label = serializers.IntegerField(required=False, help_text="Label id")
    registered_model = serializers.IntegerField(required=False, help_text="Model id")
    kind = serializers.ChoiceField(choices=Finding.Kind.choices, required=False)
    review_state = serializers.ChoiceField(
        choices=Finding.ReviewState.choices, required=False
    )
    presence = serializers.ChoiceField(choices=Finding.Presence.choices, required=False)
    split = serializers.ChoiceField(
        choices=[choice for choice in Split.choices if choice[0]], required=False
    )
    cause = serializers.ChoiceField(choices=Cause.choices, required=False)
    p_true_below = serializers.FloatField(min_value=0, max_value=1, required=False)
    key = serializers.CharField(required=False, help_text="File name contains")


class PreviewRequest(serializers.Serializer[FixSet]):
    """What a fix set is to be made from."""

    filter = FixSetFilter(required=False)


class FixSetRequest(PreviewRequest):
    """What it takes to freeze a fix set."""

    name = serializers.CharField(max_length=100)


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
class FixSetsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[FixSet]
):
    """The fix sets of a data set, the latest first."""

    queryset = FixSet.objects.none()
    serializer_class = FixSetSerializer
    lookup_url_kwarg = "fix_set_id"
    roles = {"create": Role.ADMIN, "preview": Role.ADMIN}

    def rows(self) -> QuerySet[FixSet]:
        """Return the data set's fix sets."""
        return FixSet.objects.for_dataset(self.dataset).with_names()

    @extend_schema(request=FixSetRequest, responses={201: FixSetSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Freeze the confirmed and relabelled findings that match (admin)."""
        body = self.read(FixSetRequest(data=request.data))
        fix_set = self._form(body).freeze(by=self.person)
        answer = FixSetSerializer(fix_set)
        return Response(answer.data, status=status.HTTP_201_CREATED)

    @extend_schema(request=PreviewRequest, responses=PreviewSerializer)
    @action(detail=False, methods=["post"])
    def preview(self, request: Request, slug: str) -> Response:
        """Count what freezing now would hold (admin); changes nothing."""
        body = self.read(PreviewRequest(data=request.data))
        return Response(asdict(self._form({"name": "preview"} | body).preview()))

    @extend_schema(responses=FixItemSerializer(many=True))
    @action(detail=True, methods=["get"])
    def items(self, request: Request, slug: str, fix_set_id: int) -> Response:
        """List what a fix set holds."""
        return self.page_of(self.get_object().items.all(), FixItemSerializer)

    def _form(self, body: dict[str, Any]) -> FixSetForm:
        """Return the page's form over the request, checked."""
        data = {"name": body["name"]} | body.get("filter", {})
        form = FixSetForm(data, dataset=self.dataset)
        if not form.is_valid():
            problems = (form.errors, form.query.errors)
            raise serializers.ValidationError(
                {
                    name: [str(error) for error in errors]
                    for part in problems
                    for name, errors in part.items()
                }
            )
        return form


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
