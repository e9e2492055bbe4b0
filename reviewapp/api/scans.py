"""Scans, their confusions, and schedules."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.scans import cancel_scan, start_scan
from reviewapp.actions.schedules import schedule_scan, unschedule
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.datasets import LabelSerializer
from reviewapp.api.registry import RegisteredModelSerializer
from reviewapp.filters import ScanFilter
from reviewapp.models import (
    ConfusionCount,
    ModelVersion,
    Role,
    Scan,
    Schedule,
    Split,
    User,
)
from reviewapp.tasks import enqueue_scan


class ScanVersionSerializer(serializers.ModelSerializer[ModelVersion]):
    """The model version of a scan."""

    registered_model = RegisteredModelSerializer(read_only=True)

    class Meta:
        model = ModelVersion
        fields = ["id", "number", "registered_model"]


class ScanSerializer(serializers.ModelSerializer[Scan]):
    """One model version over one data set or split; counts are null before the end."""

    model_version = ScanVersionSerializer(read_only=True)
    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )
    settings = serializers.DictField(read_only=True)
    samples_done = serializers.IntegerField(read_only=True, allow_null=True)
    accuracy = serializers.FloatField(read_only=True, allow_null=True)
    error_rate = serializers.FloatField(read_only=True, allow_null=True)

    class Meta:
        model = Scan
        fields = [
            "id",
            "model_version",
            "split",
            "state",
            "trigger",
            "settings",
            "for_record",
            "samples",
            "samples_done",
            "correct",
            "errors",
            "near_misses",
            "unreadable",
            "accuracy",
            "error_rate",
            "message",
            "requested_by",
            "created_at",
            "started_at",
            "finished_at",
        ]


class ConfusionCountSerializer(serializers.ModelSerializer[ConfusionCount]):
    """How often a scan took one class for another."""

    true_label = LabelSerializer(read_only=True)
    predicted_label = LabelSerializer(read_only=True)

    class Meta:
        model = ConfusionCount
        fields = ["true_label", "predicted_label", "count"]


class ScanRequest(serializers.Serializer[Scan]):
    """What it takes to start a scan."""

    model_version = serializers.IntegerField(help_text="Id of the model version")
    split = serializers.ChoiceField(
        choices=Split.choices, required=False, help_text="Empty: every sample"
    )
    settings = serializers.DictField(
        required=False, help_text="Overrides, e.g. near_miss_below, batch_size"
    )


class ScheduleSerializer(serializers.ModelSerializer[Schedule]):
    """Scans of a model's latest version at the times of a cron line."""

    registered_model = RegisteredModelSerializer(read_only=True)

    class Meta:
        model = Schedule
        fields = [
            "id",
            "registered_model",
            "split",
            "cron",
            "enabled",
            "last_message",
            "created_at",
        ]


class ScheduleRequest(serializers.Serializer[Schedule]):
    """What it takes to scan by the clock."""

    registered_model = serializers.IntegerField(help_text="Id of the model")
    cron = serializers.CharField(max_length=100, help_text="For example 0 2 * * *")
    split = serializers.ChoiceField(choices=Split.choices, required=False, default="")
    enabled = serializers.BooleanField(default=True)


@extend_schema(tags=["scans"])
class ScansViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Scan]
):
    """The scans of a data set, the latest first."""

    queryset = Scan.objects.none()
    serializer_class = ScanSerializer
    filterset_class = ScanFilter
    lookup_url_kwarg = "scan_id"
    roles = {"create": Role.LEAD, "cancel": Role.LEAD}

    def rows(self) -> QuerySet[Scan]:
        """Return the data set's scans with their progress."""
        return Scan.objects.for_dataset(self.dataset).with_names().with_progress()

    @extend_schema(request=ScanRequest, responses={202: ScanSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Start a scan (lead); poll the scan that comes back."""
        body = self.read(ScanRequest(data=request.data))
        versions = ModelVersion.objects.for_dataset(self.dataset)
        scan = start_scan(
            dataset=self.dataset,
            version=access_one(versions, pk=body.pop("model_version")),
            trigger=Scan.Trigger.API,
            by=self.person,
            **body,
        )
        enqueue_scan(scan)
        return self._answer(scan, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=ScanSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, slug: str, scan_id: int) -> Response:
        """Stop a scan (lead); what its finished shards found stays."""
        return self._answer(cancel_scan(scan=self.get_object(), by=self.person))

    @extend_schema(responses=ConfusionCountSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], keyset=("count", "id"), filterset_class=None)
    def confusions(self, request: Request, slug: str, scan_id: int) -> Response:
        """List what a finished scan confused, most frequent first."""
        counts = self.get_object().confusion_counts.all().errors().with_names()
        return self.page_of(counts, ConfusionCountSerializer)

    def _answer(self, scan: Scan, *, status: int = status.HTTP_200_OK) -> Response:
        answer = ScanSerializer(self.rows().get(pk=scan.pk))
        return Response(answer.data, status=status)


@extend_schema(tags=["scans"])
class SchedulesViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Schedule]
):
    """The schedules of a data set."""

    queryset = Schedule.objects.none()
    serializer_class = ScheduleSerializer
    lookup_url_kwarg = "schedule_id"
    roles = {"create": Role.LEAD, "destroy": Role.LEAD}

    def rows(self) -> QuerySet[Schedule]:
        """Return the data set's schedules."""
        return self.dataset.schedules.select_related("registered_model", "dataset")

    @extend_schema(request=ScheduleRequest, responses={201: ScheduleSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Scan by the clock (lead); the same model and split again changes the line."""
        body = self.read(ScheduleRequest(data=request.data))
        models = self.dataset.registered_models.all()
        schedule = schedule_scan(
            dataset=self.dataset,
            model=access_one(models, pk=body.pop("registered_model")),
            by=self.person,
            **body,
        )
        answer = ScheduleSerializer(schedule)
        return Response(answer.data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, slug: str, schedule_id: int) -> Response:
        """Stop scanning by this schedule (lead)."""
        unschedule(schedule=self.get_object(), by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)
