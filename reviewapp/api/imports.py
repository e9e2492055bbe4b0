"""Predictions made elsewhere: uploaded, checked, and recorded as a scan."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from mining.training.folds import MAX_FOLDS
from reviewapp.actions.imports import request_import
from reviewapp.api.base import DatasetViewSet
from reviewapp.models import Import, Role, Split, User
from reviewapp.tasks import enqueue_import


class ImportSerializer(serializers.ModelSerializer[Import]):
    """One file of predictions; `report` counts its bad rows by kind and lists the first."""

    model = serializers.CharField(source="model_name", read_only=True)
    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )
    report = serializers.DictField(read_only=True)

    class Meta:
        model = Import
        fields = [
            "id",
            "model",
            "split",
            "format",
            "file_name",
            "size",
            "sha256",
            "near_miss_below",
            "folds",
            "allow_partial",
            "state",
            "progress",
            "rows",
            "report",
            "scan",
            "message",
            "requested_by",
            "created_at",
            "finished_at",
        ]


class ImportRequest(serializers.Serializer[Import]):
    """What it takes to import predictions."""

    file = serializers.FileField(help_text="A .parquet, .csv, .jsonl or .npz file")
    model = serializers.CharField(
        max_length=100, help_text="Name of the registered model; a new one is made"
    )
    split = serializers.ChoiceField(
        choices=Split.choices, required=False, help_text="Empty: every sample"
    )
    classes = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        max_length=100_000,
        help_text="Order of the probabilities, if the file has no names",
    )
    near_miss_below = serializers.FloatField(min_value=0, max_value=1, required=False)
    folds = serializers.IntegerField(
        min_value=2,
        max_value=MAX_FOLDS,
        required=False,
        help_text="Of out-of-fold predictions: how many models made them",
    )
    allow_partial = serializers.BooleanField(
        required=False, help_text="Leave bad rows out instead of refusing the file"
    )


@extend_schema(tags=["scans"])
class ImportsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Import]
):
    """The imports of a data set, the latest first."""

    queryset = Import.objects.none()
    serializer_class = ImportSerializer
    lookup_url_kwarg = "import_id"
    parser_classes = (MultiPartParser,)
    roles = {"create": Role.LEAD}

    def rows(self) -> QuerySet[Import]:
        """Return the data set's imports."""
        return Import.objects.for_dataset(self.dataset).with_names()

    @extend_schema(
        request={"multipart/form-data": ImportRequest},
        responses={202: ImportSerializer},
    )
    def create(self, request: Request, slug: str) -> Response:
        """Upload predictions (lead); poll the import that comes back."""
        body = self.read(ImportRequest(data=request.data))
        job = request_import(dataset=self.dataset, by=self.person, **body)
        enqueue_import(job)
        answer = ImportSerializer(job)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)
