"""What came of training runs."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.reports import start_report
from reviewapp.api.base import DatasetViewSet
from reviewapp.models import Report, TrainingRun, User
from reviewapp.tasks import enqueue_report


class ReportSerializer(serializers.ModelSerializer[Report]):
    """The proof of a training run; `figures` is empty until it is made.

    Shares are 0-1. `claim.verdict`: "gain" or "loss" where it is hardly luck, else "none";
    "nothing" where no image is untouched. `labels`: kind of labels -> subset
    ("untouched", "reviewed", "whole") -> before ("baseline") and after ("candidate"),
    and confusions as [actual, predicted, before, after, p, p by Holm]. `control`: its
    gain, what is over it, and its share of the gain. `credit`: errors fewer by confusion
    and by cause.
    """

    figures = serializers.DictField(read_only=True)
    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )

    class Meta:
        model = Report
        fields = [
            "run",
            "state",
            "message",
            "figures",
            "requested_by",
            "requested_at",
            "finished_at",
        ]


class ReportRequest(serializers.Serializer[Report]):
    """Which training run to report on."""

    run = serializers.IntegerField(help_text="Id of a training run that was verified")


@extend_schema(tags=["reports"])
class ReportsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Report]
):
    """Reports of a data set's training runs, by the id of the run, the latest first."""

    queryset = Report.objects.none()
    serializer_class = ReportSerializer
    lookup_field = "run"
    lookup_url_kwarg = "run_id"

    def rows(self) -> QuerySet[Report]:
        """Return the data set's reports."""
        reports = Report.objects.for_dataset(self.dataset)
        return reports.select_related("requested_by")

    @extend_schema(request=ReportRequest, responses={202: ReportSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Make a report, or make it again; poll what comes back by the run's id.

        Reports are made by themselves when the scans of a run are done.
        """
        body = self.read(ReportRequest(data=request.data))
        runs = TrainingRun.objects.for_dataset(self.dataset).with_names()
        report = start_report(run=access_one(runs, pk=body["run"]), by=self.person)
        enqueue_report(report)
        answer = ReportSerializer(report)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)
