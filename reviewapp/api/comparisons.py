"""Comparisons of two scans."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.comparisons import start_comparison
from reviewapp.api.base import DatasetViewSet
from reviewapp.models import Comparison, Scan, User
from reviewapp.tasks import enqueue_comparison


class ComparisonSerializer(serializers.ModelSerializer[Comparison]):
    """One scan against another; `figures` is empty until there are some.

    Shares are 0-1; `difference.value` is the candidate's accuracy minus the baseline's.
    `seen` counts samples that were reviewed or trained on, and has the figures without.
    """

    figures = serializers.DictField(read_only=True)
    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )

    class Meta:
        model = Comparison
        fields = [
            "id",
            "baseline",
            "candidate",
            "labels",
            "common",
            "state",
            "message",
            "figures",
            "requested_by",
            "requested_at",
            "finished_at",
        ]


class ComparisonDetailsSerializer(serializers.ModelSerializer[Comparison]):
    """The tables of a comparison.

    `images`: cell -> the first [sample id, label, baseline's class, candidate's class].
    `classes`: [class, samples, precision, recall, F1 of the baseline, of the candidate].
    `confusions`: change -> [actual, predicted, before, after, both, p, p by Holm].
    `left_out`: why samples differ -> how many, and the first keys.
    """

    details = serializers.DictField(read_only=True)

    class Meta:
        model = Comparison
        fields = ["id", "details"]


class ComparisonRequest(serializers.Serializer[Comparison]):
    """Which scans to compare, and how."""

    baseline = serializers.IntegerField(help_text="Id of a finished scan")
    candidate = serializers.IntegerField(help_text="Id of another one")
    labels = serializers.ChoiceField(
        choices=Comparison.Labels.choices,
        default=Comparison.Labels.CORRECTED.value,
        help_text="Both scans are scored with these",
    )
    common = serializers.BooleanField(
        default=False, help_text="Leave out samples that differ instead of refusing"
    )


@extend_schema(tags=["comparisons"])
class ComparisonsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Comparison]
):
    """Comparisons of a data set's scans, the latest first."""

    queryset = Comparison.objects.none()
    serializer_class = ComparisonSerializer
    lookup_url_kwarg = "comparison_id"

    def rows(self) -> QuerySet[Comparison]:
        """Return the data set's comparisons."""
        return Comparison.objects.for_dataset(self.dataset).lean()

    @extend_schema(request=ComparisonRequest, responses={202: ComparisonSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Compare two scans, or compare them again; poll what comes back."""
        body = self.read(ComparisonRequest(data=request.data))
        comparison = start_comparison(
            baseline=self._scan(body.pop("baseline")),
            candidate=self._scan(body.pop("candidate")),
            by=self.person,
            **body,
        )
        enqueue_comparison(comparison)
        answer = ComparisonSerializer(comparison)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses=ComparisonDetailsSerializer)
    @action(detail=True, methods=["get"])
    def details(self, request: Request, slug: str, comparison_id: int) -> Response:
        """Return the images, classes and confusions of a comparison."""
        return Response(ComparisonDetailsSerializer(self.get_object()).data)

    def _scan(self, pk: Any) -> Scan:
        return access_one(Scan.objects.for_dataset(self.dataset), pk=pk)
