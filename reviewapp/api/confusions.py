"""The ledger of confusions."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.api.base import DatasetViewSet
from reviewapp.api.datasets import LabelSerializer
from reviewapp.api.registry import RegisteredModelSerializer
from reviewapp.filters import ConfusionFilter
from reviewapp.ledger import histories
from reviewapp.models import Confusion, ConfusionEvent, Scan

SCANS = 200  # as far back as a history goes


class ConfusionSerializer(serializers.ModelSerializer[Confusion]):
    """One ledger line: an ordered pair (true label, predicted label) and its state."""

    true_label = LabelSerializer(read_only=True)
    predicted_label = LabelSerializer(read_only=True)
    registered_model = RegisteredModelSerializer(read_only=True)

    class Meta:
        model = Confusion
        fields = [
            "id",
            "true_label",
            "predicted_label",
            "registered_model",
            "state",
            "present",
            "peak",
            "first_scan",
            "last_scan",
            "updated_at",
        ]


class ConfusionEventSerializer(serializers.ModelSerializer[ConfusionEvent]):
    """One change of a ledger line's state; without a scan it came from a review."""

    evidence = serializers.DictField(read_only=True)

    class Meta:
        model = ConfusionEvent
        fields = ["id", "scan", "old_state", "new_state", "evidence", "created_at"]


class ScanCountSerializer(serializers.Serializer[object]):
    """Errors of the pair in one scan; null: the scan says nothing about the pair."""

    scan = serializers.IntegerField()
    count = serializers.IntegerField(allow_null=True)


class ConfusionHistorySerializer(serializers.Serializer[object]):
    """A ledger line with its errors in each scan that counts and its state changes."""

    confusion = ConfusionSerializer()
    counts = ScanCountSerializer(many=True, help_text="The oldest scan first")
    events = ConfusionEventSerializer(many=True, help_text="The oldest first")


@extend_schema(tags=["confusions"])
class ConfusionsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Confusion]
):
    """The ledger of a data set, most frequent first."""

    queryset = Confusion.objects.none()
    serializer_class = ConfusionSerializer
    filterset_class = ConfusionFilter
    lookup_url_kwarg = "confusion_id"
    keyset = ("present", "peak", "id")

    def rows(self) -> QuerySet[Confusion]:
        """Return the data set's ledger."""
        return Confusion.objects.for_dataset(self.dataset).with_names()

    @extend_schema(responses=ConfusionHistorySerializer)
    @action(detail=True, methods=["get"])
    def history(self, request: Request, slug: str, confusion_id: int) -> Response:
        """Show the line in the last 200 scans of its model that count."""
        line = self.get_object()
        counted = Scan.objects.for_dataset(self.dataset).finished().counted()
        of_model = counted.lean().of_model(line.registered_model).newest_first()
        scans = list(of_model[:SCANS])[::-1]
        [entry] = histories(lines=[line], scans=scans)
        answer = ConfusionHistorySerializer(
            {
                "confusion": line,
                "counts": [
                    {"scan": scan.pk, "count": n}
                    for scan, n in zip(scans, entry.counts, strict=True)
                ],
                "events": line.events.order_by("id"),
            }
        )
        return Response(answer.data)
