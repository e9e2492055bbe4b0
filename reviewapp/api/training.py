"""Training runs."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.training import (
    cancel_training,
    resume_training,
    start_training,
)
from reviewapp.api.base import DatasetViewSet
from reviewapp.models import (
    ModelVersion,
    Recipe,
    Role,
    Split,
    TrainingRun,
    User,
)
from reviewapp.tasks import enqueue_training


class TrainingRunSerializer(serializers.ModelSerializer[TrainingRun]):
    """One retraining.

    `progress` has `epoch`, samples `done` of `all` in it and `rate` in samples a second.
    Losses are in nats, accuracies and shares 0-1. `material` is a digest of the samples,
    their labels and images.
    """

    settings = serializers.DictField(read_only=True)
    progress = serializers.DictField(read_only=True)
    epochs = serializers.ListField(child=serializers.DictField(), read_only=True)
    outcome = serializers.DictField(read_only=True)
    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )

    class Meta:
        model = TrainingRun
        fields = [
            "id",
            "parent",
            "recipe",
            "control_of",
            "settings",
            "scan_split",
            "state",
            "message",
            "progress",
            "epochs",
            "outcome",
            "material",
            "version",
            "verifying_scan",
            "requested_by",
            "created_at",
            "started_at",
            "finished_at",
        ]


class TrainingRequest(serializers.Serializer[TrainingRun]):
    """What to retrain, and with what."""

    parent = serializers.IntegerField(  # type: ignore[assignment]  # DRF's own is set later
        help_text="Id of the version to start from"
    )
    recipe = serializers.IntegerField(
        default=None,
        allow_null=True,
        help_text="Id of a recipe that is done; null: the train split as it is",
    )
    settings = serializers.DictField(
        default=dict,
        help_text="Fields of `mining.training.settings.TrainSettings`; the others take "
        "their defaults",
    )
    with_control = serializers.BooleanField(
        default=False,
        help_text="Train another version with as many samples, drawn at random",
    )
    scan_split = serializers.ChoiceField(
        choices=Split.choices,
        default=Split.TEST.value,
        help_text="What the new version is scanned over; empty: every sample",
    )


@extend_schema(tags=["training"])
class TrainingViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[TrainingRun]
):
    """Training runs of the data set, the latest first."""

    queryset = TrainingRun.objects.none()
    serializer_class = TrainingRunSerializer
    roles = {"create": Role.LEAD, "cancel": Role.LEAD, "resume": Role.LEAD}
    lookup_url_kwarg = "run_id"

    def rows(self) -> QuerySet[TrainingRun]:
        """Return the data set's runs."""
        return TrainingRun.objects.for_dataset(self.dataset).with_names()

    @extend_schema(request=TrainingRequest, responses={202: TrainingRunSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Retrain a model version; poll what comes back."""
        body = self.read(TrainingRequest(data=request.data))
        run = start_training(
            dataset=self.dataset,
            parent=self._parent(body.pop("parent")),
            recipe=self._recipe(body.pop("recipe")),
            by=self.person,
            **body,
        )
        enqueue_training(run)
        answer = TrainingRunSerializer(run)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=TrainingRunSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, slug: str, run_id: int) -> Response:
        """Stop a run, and its control with it; the last whole epoch of each is kept."""
        run = cancel_training(run=self.get_object(), by=self.person)
        return Response(TrainingRunSerializer(run).data)

    @extend_schema(request=None, responses={202: TrainingRunSerializer})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, slug: str, run_id: int) -> Response:
        """Go on with a run that failed or was stopped, and with a control stopped with it."""
        run = resume_training(run=self.get_object(), by=self.person)
        enqueue_training(run)
        answer = TrainingRunSerializer(run)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)

    def _parent(self, pk: Any) -> ModelVersion:
        versions = ModelVersion.objects.for_dataset(self.dataset).with_names()
        return access_one(versions, pk=pk)

    def _recipe(self, pk: Any) -> Recipe | None:
        if pk is None:
            return None
        recipes = Recipe.objects.for_dataset(self.dataset).select_related("fix_set")
        return access_one(recipes.defer("content"), pk=pk)
