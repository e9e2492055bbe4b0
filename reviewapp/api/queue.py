"""The queue: findings handed out to the caller alone."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.actions.known import as_new, is_blind, mix_in
from reviewapp.actions.reviews import claim, release, renew
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.findings import FindingSerializer
from reviewapp.models import Finding, Split
from reviewapp.queues import Lane, Order, read_queue

MAX_CLAIMS = 100


class QueueRequest(serializers.Serializer[Finding]):
    """Which findings to hold; a field that is not given filters nothing."""

    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_CLAIMS, required=False, help_text="To hold at once"
    )
    lane = serializers.ChoiceField(
        choices=[lane.value for lane in Lane if lane],
        required=False,
        help_text="Every error, when it is not given",
    )
    order = serializers.ChoiceField(choices=Order.choices, required=False)
    true_label = serializers.IntegerField(required=False, help_text="Label id")
    predicted_label = serializers.IntegerField(required=False, help_text="Label id")
    registered_model = serializers.IntegerField(required=False, help_text="Model id")
    split = serializers.ChoiceField(
        choices=[choice for choice in Split.choices if choice[0]], required=False
    )
    p_true_below = serializers.FloatField(min_value=0, max_value=1, required=False)
    key = serializers.CharField(required=False, help_text="File name contains")


class HeldSerializer(serializers.Serializer[object]):
    """How many findings were given back, or are held on."""

    findings = serializers.IntegerField()


@extend_schema(tags=["findings"])
class QueueViewSet(DatasetViewSet[Finding]):
    """What waits for a verdict, for the caller alone until the claim expires."""

    queryset = Finding.objects.none()
    serializer_class = FindingSerializer

    @extend_schema(request=QueueRequest, responses=FindingSerializer(many=True))
    @action(detail=False, methods=["post"], pagination_class=None)
    def next(self, request: Request, slug: str) -> Response:
        """Hand out the next findings of a queue, those held already first."""
        body = self.read(QueueRequest(data=request.data))
        limit = body.pop("limit", None)
        fields = {name: str(value) for name, value in body.items()}
        queue = read_queue(self.dataset, fields)
        held = claim(queue=queue, by=self.person, limit=limit)
        findings = mix_in(queue=queue, by=self.person, findings=held)
        return Response(self.get_serializer(self._shown(findings), many=True).data)

    def _shown(self, findings: list[Finding]) -> list[Finding]:
        """Load what a list shows; those with a known answer as if they were new."""
        rows: Any = Finding.objects.for_dataset(self.dataset).with_names().with_scans()
        by_id = rows.in_bulk([finding.pk for finding in findings])
        shown = [by_id[finding.pk] for finding in findings if finding.pk in by_id]
        return [
            as_new(finding) if is_blind(finding=finding, by=self.person) else finding
            for finding in shown
        ]

    @extend_schema(request=None, responses=HeldSerializer)
    @action(detail=False, methods=["post"])
    def renew(self, request: Request, slug: str) -> Response:
        """Hold on to everything the caller holds on the data set."""
        return Response({"findings": renew(dataset=self.dataset, by=self.person)})

    @extend_schema(request=None, responses=HeldSerializer)
    @action(detail=False, methods=["post"])
    def release(self, request: Request, slug: str) -> Response:
        """Give back everything the caller holds on the data set."""
        return Response({"findings": release(dataset=self.dataset, by=self.person)})
