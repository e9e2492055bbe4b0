"""A registered model over time."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one, id_from
from reviewapp.api.base import PAGING, DatasetViewSet
from reviewapp.models import RegisteredModel
from reviewapp.trends import Trends, last_scanned, trends_of


class PointSerializer(serializers.Serializer[Any]):
    """What one scan said; the accuracy with Wilson's 95 % interval, 0-1."""

    scan = serializers.IntegerField(source="scan.pk")
    version = serializers.IntegerField(source="scan.model_version.number")
    split = serializers.CharField(source="scan.split", help_text="Empty: every split")
    folds = serializers.IntegerField(
        source="scan.folds", help_text="Out-of-fold, by so many models; 0: not so"
    )
    started = serializers.DateTimeField(source="scan.created_at")
    accuracy = serializers.FloatField(source="scan.accuracy", allow_null=True)
    low = serializers.FloatField(source="interval.low")
    high = serializers.FloatField(source="interval.high")
    errors = serializers.IntegerField(source="scan.errors")  # type: ignore[assignment]  # the metaclass takes it
    readable = serializers.IntegerField(source="scan.readable")
    waiting = serializers.IntegerField(
        source="scan.waiting",
        allow_null=True,
        help_text="Findings of the model without a verdict when it had ended",
    )


class WeekSerializer(serializers.Serializer[Any]):
    """The verdicts of one week that were not taken back in it."""

    start = serializers.DateField(help_text="Its Monday")
    verdicts = serializers.IntegerField()
    confirmed = serializers.IntegerField()
    relabelled = serializers.IntegerField(help_text="Labels corrected")
    dismissed = serializers.IntegerField()


class TrendsSerializer(serializers.Serializer[Any]):
    """The last 100 scans that count and the last 26 weeks, the oldest first.

    Both are empty before the first scan that counts.
    """

    points = PointSerializer(many=True)
    weeks = WeekSerializer(many=True)


@extend_schema(tags=["trends"])
class TrendsViewSet(DatasetViewSet[RegisteredModel]):
    """One registered model over time."""

    queryset = RegisteredModel.objects.none()
    pagination_class = None

    @extend_schema(
        responses=TrendsSerializer,
        parameters=[
            OpenApiParameter(
                "registered_model",
                int,
                description="Left out: the one that was scanned last",
            )
        ],
    )
    def list(self, request: Request, slug: str) -> Response:
        """Show a model's scans, and the verdicts on its findings by week."""
        if unknown := set(request.query_params) - {"registered_model"} - PAGING:
            raise serializers.ValidationError(
                {name: ["There is no such field here."] for name in unknown}
            )
        chosen = request.query_params.get("registered_model")
        if chosen is not None:
            models = self.dataset.registered_models.all()
            model: RegisteredModel | None = access_one(models, pk=id_from(chosen))
        else:
            model = last_scanned(self.dataset)
        trends = trends_of(self.dataset, model) if model else Trends([], [])
        return Response(TrendsSerializer(trends).data)
