"""Out-of-fold runs."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from mining.training.folds import MAX_FOLDS
from reviewapp.access import access_one
from reviewapp.actions.folds import start_folds
from reviewapp.actions.runs import cancel_run, resume_run
from reviewapp.api.base import DatasetViewSet
from reviewapp.models import FoldRun, ModelVersion, Role, User
from reviewapp.tasks import enqueue_folds


class FoldRunSerializer(serializers.ModelSerializer[FoldRun]):
    """One out-of-fold scan in the making; `scan` once it is done.

    `progress` has `fold`, `epoch`, and samples `done` of `all` in it.
    """

    settings = serializers.DictField(read_only=True)
    progress = serializers.DictField(read_only=True)
    notes = serializers.ListField(child=serializers.CharField(), read_only=True)
    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )

    class Meta:
        model = FoldRun
        fields = [
            "id",
            "parent",
            "folds",
            "settings",
            "state",
            "message",
            "progress",
            "notes",
            "scan",
            "requested_by",
            "created_at",
            "started_at",
            "finished_at",
        ]


class FoldRequest(serializers.Serializer[FoldRun]):
    """Which models to train for it, and with what."""

    parent = serializers.IntegerField(  # type: ignore[assignment]  # DRF's own is set later
        help_text="Id of the version whose architecture the models have"
    )
    folds = serializers.IntegerField(
        default=5,
        min_value=2,
        max_value=MAX_FOLDS,
        help_text="Models to train, each without one part of the train split",
    )
    settings = serializers.DictField(
        default=dict,
        help_text="Fields of `mining.training.settings.TrainSettings`; the others take "
        "their defaults. `start` is always `scratch`",
    )


@extend_schema(tags=["out-of-fold"])
class FoldRunsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[FoldRun]
):
    """Out-of-fold runs of the data set, the latest first."""

    queryset = FoldRun.objects.none()
    serializer_class = FoldRunSerializer
    roles = {"create": Role.LEAD, "cancel": Role.LEAD, "resume": Role.LEAD}
    lookup_url_kwarg = "fold_run_id"

    def rows(self) -> QuerySet[FoldRun]:
        """Return the data set's runs."""
        return FoldRun.objects.for_dataset(self.dataset).with_names()

    @extend_schema(request=FoldRequest, responses={202: FoldRunSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Scan the train split out-of-fold; poll what comes back."""
        body = self.read(FoldRequest(data=request.data))
        versions = ModelVersion.objects.for_dataset(self.dataset).with_names()
        parent = access_one(versions, pk=body.pop("parent"))
        run = start_folds(dataset=self.dataset, parent=parent, by=self.person, **body)
        return _enqueued(run)

    @extend_schema(request=None, responses=FoldRunSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, slug: str, fold_run_id: int) -> Response:
        """Stop a run; the folds that are done are kept."""
        run = cancel_run(run=self.get_object(), by=self.person)
        return Response(FoldRunSerializer(run).data)

    @extend_schema(request=None, responses={202: FoldRunSerializer})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, slug: str, fold_run_id: int) -> Response:
        """Go on with a run that failed or was stopped."""
        return _enqueued(resume_run(run=self.get_object(), by=self.person))


def _enqueued(run: FoldRun) -> Response:
    enqueue_folds(run)
    return Response(FoldRunSerializer(run).data, status=status.HTTP_202_ACCEPTED)
