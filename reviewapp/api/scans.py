"""Scans, their shards, confusions and unreadable samples, and schedules."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.scans import cancel_scan, resume_scan, start_scan
from reviewapp.actions.schedules import schedule_scan, unschedule
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.datasets import LabelSerializer
from reviewapp.api.registry import RegisteredModelSerializer
from reviewapp.filters import ScanFilter, ShardFilter
from reviewapp.models import (
    ConfusionCount,
    ModelVersion,
    Role,
    Scan,
    Schedule,
    Shard,
    Split,
    UnreadableSample,
    User,
)
from reviewapp.tasks import enqueue_scan
from reviewapp.watching import Watch, watch


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
    is_in_sample = serializers.BooleanField(
        read_only=True,
        help_text="Its model may have been trained on what it judges: too few errors",
    )

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
            "folds",
            "is_in_sample",
            "samples",
            "samples_done",
            "correct",
            "errors",
            "near_misses",
            "unreadable",
            "rechecked",
            "changed",
            "accuracy",
            "error_rate",
            "message",
            "requested_by",
            "created_at",
            "started_at",
            "finished_at",
        ]


class ShardCountsSerializer(serializers.Serializer[object]):
    """How many shards of a scan are in each state."""

    queued = serializers.IntegerField()
    running = serializers.IntegerField()
    done = serializers.IntegerField()
    quarantined = serializers.IntegerField()


class ScanProgressSerializer(serializers.Serializer[Watch]):
    """How a scan goes; rate and pace are of the last minute while it runs."""

    rate = serializers.FloatField(allow_null=True, help_text="Images per second")
    seconds_left = serializers.SerializerMethodField(help_text="At that rate")
    shards = serializers.SerializerMethodField()
    pace = serializers.DictField(
        help_text="What the workers measured: device, precision, images, seconds by "
        "part, memory in MiB; empty when nothing is known"
    )
    bottleneck = serializers.CharField(
        source="limit", help_text="What limits the speed, in a sentence; may be empty"
    )

    def get_seconds_left(self, seen: Watch) -> float | None:
        """Return the time left, None when the scan does not move."""
        return seen.left.total_seconds() if seen.left else None

    @extend_schema_field(ShardCountsSerializer)
    def get_shards(self, seen: Watch) -> dict[str, int]:
        """Return the shards of each state, those that none is in included."""
        return dict.fromkeys(Shard.State.values, 0) | seen.states


class ScanDetailSerializer(ScanSerializer):
    """A scan, and how it goes."""

    progress = serializers.SerializerMethodField()

    class Meta(ScanSerializer.Meta):
        fields = [*ScanSerializer.Meta.fields, "progress"]

    @extend_schema_field(ScanProgressSerializer)
    def get_progress(self, scan: Scan) -> dict[str, Any]:
        """Measure the scan now."""
        return dict(ScanProgressSerializer(watch(scan)).data)


class ShardSerializer(serializers.ModelSerializer[Shard]):
    """A run of consecutive samples that one worker does at a time."""

    pace = serializers.DictField(
        read_only=True, help_text="What its worker measured; empty before it began"
    )

    class Meta:
        model = Shard
        fields = [
            "number",
            "state",
            "samples",
            "samples_done",
            "attempts",
            "failures",
            "losses",
            "worker",
            "started_at",
            "heartbeat_at",
            "finished_at",
            "correct",
            "errors",
            "near_misses",
            "unreadable",
            "rechecked",
            "changed",
            "pace",
            "message",
        ]


class UnreadableSampleSerializer(serializers.ModelSerializer[UnreadableSample]):
    """A sample that a scan could not read, and why."""

    key = serializers.CharField(source="sample.key", read_only=True)
    image = serializers.SerializerMethodField(
        help_text="1280 pixels, JPEG or WebP; null when the bytes could not be decoded"
    )

    class Meta:
        model = UnreadableSample
        fields = ["sample", "key", "reason", "image"]

    def get_image(self, row: UnreadableSample) -> str | None:
        """Return the address of the image for a signed-in browser, if there is one."""
        if not row.digest:
            return None
        slug = self.context["view"].dataset.slug
        where = [slug, row.scan_id, row.sample_id, row.digest, "focus"]
        return reverse("scan-image", args=where)


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
        required=False,
        help_text="Overrides, e.g. near_miss_below, precision, batch_size",
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
    roles = {"create": Role.LEAD, "cancel": Role.LEAD, "resume": Role.LEAD}

    def rows(self) -> QuerySet[Scan]:
        """Return the data set's scans with their progress."""
        return Scan.objects.for_dataset(self.dataset).with_names().with_progress()

    @extend_schema(responses=ScanDetailSerializer)
    def retrieve(self, request: Request, slug: str, scan_id: int) -> Response:
        """Read one scan, and how it goes."""
        return self._answer(self.get_object())

    @extend_schema(request=ScanRequest, responses={202: ScanDetailSerializer})
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

    @extend_schema(request=None, responses=ScanDetailSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, slug: str, scan_id: int) -> Response:
        """Stop a scan (lead); what its finished shards found stays."""
        return self._answer(cancel_scan(scan=self.get_object(), by=self.person))

    @extend_schema(request=None, responses={202: ScanDetailSerializer})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, slug: str, scan_id: int) -> Response:
        """Go on with a partial, failed or cancelled scan (lead): what is missing runs."""
        scan = resume_scan(scan=self.get_object(), by=self.person)
        enqueue_scan(scan)
        return self._answer(scan, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses=ShardSerializer(many=True))
    @action(
        detail=True,
        methods=["get"],
        keyset=("number",),
        filterset_class=ShardFilter,
        queryset=Shard.objects.none(),
    )
    def shards(self, request: Request, slug: str, scan_id: int) -> Response:
        """List the shards of a scan, the last first; `state` filters."""
        scan = access_one(self.rows(), pk=scan_id)
        shards: Any = scan.shards.all()  # the view's own rows are scans
        return self.page_of(self.filter_queryset(shards), ShardSerializer)

    @extend_schema(responses=UnreadableSampleSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], keyset=("sample_id",), filterset_class=None)
    def unreadable(self, request: Request, slug: str, scan_id: int) -> Response:
        """List what a scan could not read, with the reasons."""
        rows = self.get_object().unreadable_samples.select_related("sample")
        return self.page_of(rows, UnreadableSampleSerializer)

    @extend_schema(responses=ConfusionCountSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], keyset=("count", "id"), filterset_class=None)
    def confusions(self, request: Request, slug: str, scan_id: int) -> Response:
        """List what a finished scan confused, most frequent first."""
        counts = self.get_object().confusion_counts.all().errors().with_names()
        return self.page_of(counts, ConfusionCountSerializer)

    def _answer(self, scan: Scan, *, status: int = status.HTTP_200_OK) -> Response:
        answer = ScanDetailSerializer(self.rows().get(pk=scan.pk))
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
