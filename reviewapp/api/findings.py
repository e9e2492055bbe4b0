"""Findings, and verdicts on them."""

from __future__ import annotations

from django.db.models import QuerySet
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.known import as_new, is_blind
from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.reviews import skip
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.datasets import LabelSerializer
from reviewapp.api.reviews import (
    DecideRequest,
    GivenSerializer,
    ReviewSerializer,
    decision_of,
)
from reviewapp.filters import FindingFilter
from reviewapp.models import Finding, Sighting


class FindingSerializer(serializers.ModelSerializer[Finding]):
    """An error or near miss under review; `version` goes back with a verdict."""

    key = serializers.CharField(source="sample.key", read_only=True)
    split = serializers.CharField(source="sample.split", read_only=True)
    true_label = LabelSerializer(read_only=True)
    predicted_label = LabelSerializer(read_only=True)
    p_true = serializers.FloatField(read_only=True)
    image = serializers.SerializerMethodField(help_text="1280 pixels, JPEG or WebP")
    first_scan = serializers.IntegerField(read_only=True, allow_null=True)
    last_scan = serializers.IntegerField(read_only=True, allow_null=True)

    class Meta:
        model = Finding
        fields = [
            "id",
            "sample",
            "key",
            "split",
            "true_label",
            "predicted_label",
            "registered_model",
            "kind",
            "review_state",
            "presence",
            "p_true",
            "priority",
            "confidence",
            "digest",
            "image",
            "first_scan",
            "last_scan",
            "version",
            "reopened_because",
            "created_at",
        ]

    def get_image(self, finding: Finding) -> str:
        """Return the address of the image for a signed-in browser."""
        slug = self.context["view"].dataset.slug
        return reverse(
            "finding-image", args=[slug, finding.pk, finding.digest, "focus"]
        )


class SightingSerializer(serializers.ModelSerializer[Sighting]):
    """A finding as one scan saw it; `top_labels` are label ids, surest first."""

    class Meta:
        model = Sighting
        fields = [
            "scan",
            "confidence",
            "p_true",
            "margin",
            "loss",
            "top_labels",
            "top_probs",
        ]


class FindingDetailSerializer(FindingSerializer):
    """A finding with all sightings and reviews."""

    sightings = SightingSerializer(many=True, read_only=True)
    reviews = ReviewSerializer(many=True, read_only=True)

    class Meta(FindingSerializer.Meta):
        fields = [*FindingSerializer.Meta.fields, "sightings", "reviews"]


@extend_schema(tags=["findings"])
class FindingsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Finding]
):
    """The findings of a data set, hardest first."""

    queryset = Finding.objects.none()
    serializer_class = FindingSerializer
    filterset_class = FindingFilter
    lookup_url_kwarg = "finding_id"
    keyset = ("priority", "id")

    def rows(self) -> QuerySet[Finding]:
        """Return the data set's findings."""
        return Finding.objects.for_dataset(self.dataset).with_names().with_scans()

    @extend_schema(responses=FindingDetailSerializer)
    def retrieve(self, request: Request, slug: str, finding_id: int) -> Response:
        """Show a finding with all sightings and reviews."""
        rows = self.rows().prefetch_related(
            "sightings",
            "reviews__reviewer",
            "reviews__label_before",
            "reviews__new_label",
            "reviews__undo",
        )
        finding = access_one(rows, pk=finding_id)
        blind = is_blind(finding=finding, by=self.person)
        shown = as_new(finding) if blind else finding
        answer = FindingDetailSerializer(shown, context=self.get_serializer_context())
        return Response({**answer.data, "reviews": []} if blind else answer.data)

    @extend_schema(request=DecideRequest, responses={201: GivenSerializer})
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, slug: str, finding_id: int) -> Response:
        """Record a verdict on the version of the finding that the caller saw.

        The same `key` again changes nothing and gives the same answer.
        """
        finding = self.get_object()
        body = self.read(DecideRequest(data=request.data))
        decision = decision_of(body, self.dataset)
        given = give_verdict(finding=finding, by=self.person, decision=decision)
        answer = GivenSerializer(given)
        return Response(answer.data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={204: None})
    @action(detail=True, methods=["post"])
    def skip(self, request: Request, slug: str, finding_id: int) -> Response:
        """Put a finding off; it comes to the caller last."""
        skip(finding=self.get_object(), by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)
