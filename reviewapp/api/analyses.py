"""What a scan says of thresholds and of slices."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.analyses import start_analyses
from reviewapp.api.base import PAGING, DatasetViewSet
from reviewapp.forms.analyses import RegionForm
from reviewapp.models import Analysis, Scan, User
from reviewapp.regions import classes_of, region_of
from reviewapp.tasks import enqueue_analysis

LINES: Final = ("true", "predicted", "cost")


class AnalysisSerializer(serializers.ModelSerializer[Analysis]):
    """One analysis of a scan and how far it is."""

    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )

    class Meta:
        model = Analysis
        fields = [
            "id",
            "scan",
            "what",
            "state",
            "message",
            "requested_by",
            "requested_at",
            "finished_at",
        ]


class AnalysisRequest(serializers.Serializer[Analysis]):
    """Which scan to analyse."""

    scan = serializers.IntegerField(help_text="Id of a finished scan")


class RegionSerializer(serializers.Serializer[Any]):
    """The threshold region of a scan; both are empty until it is computed.

    `figures`: samples, errors, unreadable ones and the `reliability` diagrams with their
    calibration errors. `region`: what the threshold does, in all (`at`) and by class, the
    `band` about it, the `cheapest` threshold, and the `curve`. Shares are 0-1.
    """

    figures = serializers.DictField(read_only=True)
    region = serializers.DictField(read_only=True)


class SlicesSerializer(serializers.Serializer[Any]):
    """What goes with a scan's errors; empty until it is computed.

    `tables`: one for each attribute, each slice with its errors, their rate (0-1) and its
    interval, the share of all errors it covers, and p by Holm. `leaves`: those of the
    tree. `left_out`: attributes that were not looked at, and why.
    """

    figures = serializers.DictField(read_only=True)


@extend_schema(tags=["analyses"])
class AnalysesViewSet(DatasetViewSet[Analysis]):
    """Thresholds and slices of a data set's scans, by the id of the scan."""

    queryset = Analysis.objects.none()
    serializer_class = AnalysisSerializer
    lookup_field = "scan"
    lookup_url_kwarg = "scan_id"
    pagination_class = None

    def rows(self) -> QuerySet[Analysis]:
        """Return the analyses of the data set's scans."""
        return Analysis.objects.for_dataset(self.dataset)

    @extend_schema(
        request=AnalysisRequest, responses={202: AnalysisSerializer(many=True)}
    )
    def create(self, request: Request, slug: str) -> Response:
        """Analyse a scan, or analyse it again; poll what comes back by the scan's id."""
        body = self.read(AnalysisRequest(data=request.data))
        analyses = start_analyses(scan=self._scan(body["scan"]), by=self.person)
        for analysis in analyses:
            enqueue_analysis(analysis)
        answer = AnalysisSerializer(analyses, many=True)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses=AnalysisSerializer(many=True))
    def retrieve(self, request: Request, slug: str, scan_id: int) -> Response:
        """Return how far a scan's analyses are; none when nobody asked for them."""
        scan = self._scan(scan_id)
        return Response(AnalysisSerializer(scan.analyses.lean(), many=True).data)

    @extend_schema(
        responses=RegionSerializer,
        parameters=[
            OpenApiParameter("threshold", OpenApiTypes.DOUBLE, description="0-1; 0.9"),
            OpenApiParameter("width", OpenApiTypes.DOUBLE, description="0-1; 0.05"),
            OpenApiParameter("label", OpenApiTypes.INT, description="Id; all classes"),
            OpenApiParameter("look", OpenApiTypes.DOUBLE, description="Its cost; 1"),
            OpenApiParameter("error", OpenApiTypes.DOUBLE, description="Its cost; 10"),
            *(
                OpenApiParameter(name, OpenApiTypes.STR, many=True, description=text)
                for name, text in zip(
                    LINES,
                    ("Class whose errors cost otherwise", "As which; any", "Cost"),
                    strict=True,
                )
            ),
        ],
    )
    @action(detail=True, methods=["get"])
    def thresholds(self, request: Request, slug: str, scan_id: int) -> Response:
        """Return what a threshold does; by default 0.9, a look costs 1, an error 10."""
        scan = self._scan(scan_id)
        form = RegionForm(request.query_params, classes=classes_of(scan))
        known = {*form.fields, *LINES} | PAGING
        if unknown := set(request.query_params) - known:
            raise serializers.ValidationError(
                {name: ["There is no such field here."] for name in unknown}
            )
        if not form.is_valid():
            wrong = {name: [str(e) for e in es] for name, es in form.errors.items()}
            raise serializers.ValidationError(wrong)
        analyses = scan.analyses.filter(what=Analysis.What.THRESHOLDS)
        found = analyses.defer("counts").first()
        if found is None or not found.figures:
            return Response({"figures": {}, "region": {}})
        return Response({"figures": found.figures, "region": region_of(found, form)})

    @extend_schema(responses=SlicesSerializer)
    @action(detail=True, methods=["get"])
    def slices(self, request: Request, slug: str, scan_id: int) -> Response:
        """Return which attributes and image properties go with the errors."""
        analyses = self._scan(scan_id).analyses.filter(what=Analysis.What.SLICES)
        found = analyses.values_list("figures", flat=True).first()
        return Response({"figures": found or {}})

    def _scan(self, pk: Any) -> Scan:
        return access_one(Scan.objects.for_dataset(self.dataset), pk=pk)
