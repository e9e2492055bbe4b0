"""Reviews: verdicts, and taking them back."""

from __future__ import annotations

from typing import Any
from uuid import RFC_4122, UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.opinions import Given, take_back_last
from reviewapp.actions.reviews import Decision, last_reviews, undo
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.datasets import LabelSerializer
from reviewapp.models import Cause, Dataset, DismissReason, Review, User, Verdict


class ReviewSerializer(serializers.ModelSerializer[Review]):
    """One verdict by one reviewer on one version of a finding."""

    reviewer = serializers.SlugRelatedField[User](slug_field="username", read_only=True)
    label_before = LabelSerializer(read_only=True)
    new_label = LabelSerializer(read_only=True, allow_null=True)
    undone = serializers.SerializerMethodField()

    class Meta:
        model = Review
        fields = [
            "id",
            "finding",
            "finding_version",
            "reviewer",
            "verdict",
            "label_before",
            "new_label",
            "reason",
            "causes",
            "note",
            "batch",
            "undone",
            "created_at",
        ]

    def get_undone(self, review: Review) -> bool:
        """Return whether it was taken back."""
        return hasattr(review, "undo")


class KeyField(serializers.UUIDField):
    """A key of the caller's choice.

    What is given as one is told by the first half of a key: a number that was written
    as a UUID would put verdicts together that have nothing to do with each other.
    """

    def to_internal_value(self, data: Any) -> UUID:
        """Return the UUID.

        Raises:
            ValidationError: It is none, or one that nobody has drawn.
        """
        key: UUID = super().to_internal_value(data)
        if key.variant != RFC_4122:
            raise serializers.ValidationError(
                "This is not a UUID of RFC 4122. Draw a random one for each verdict."
            )
        return key


class VerdictRequest(serializers.Serializer[Review]):
    """A verdict, on whatever it is."""

    verdict = serializers.ChoiceField(choices=Verdict.choices)
    new_label = serializers.IntegerField(
        required=False, allow_null=True, help_text="Label id; for relabel alone"
    )
    reason = serializers.ChoiceField(
        choices=DismissReason.choices, required=False, help_text="For dismiss alone"
    )
    causes = serializers.ListField(
        child=serializers.ChoiceField(choices=Cause.choices), required=False
    )
    note = serializers.CharField(required=False, allow_blank=True, max_length=10_000)
    key = KeyField(
        required=False,
        help_text="Of your choice; with the same one again it is the same verdict",
    )


class DecideRequest(VerdictRequest):
    """A verdict on the version of a finding that the reviewer saw."""

    version = serializers.IntegerField(min_value=0, help_text="As read of the finding")


def decision_of(body: dict[str, Any], dataset: Dataset) -> Decision:
    """Return what a valid `VerdictRequest` with a `version` decides.

    Raises:
        Http404: The data set has no such label.
    """
    label = body.get("new_label")
    classes = dataset.labels.current()
    return Decision(
        **body
        | {
            "verdict": Verdict(body["verdict"]),
            "new_label": None if label is None else access_one(classes, pk=label),
        }
    )


class GivenSerializer(serializers.Serializer[Given]):
    """What became of a verdict; one that is not public yet has no review."""

    said = serializers.CharField()
    review = ReviewSerializer(allow_null=True)


@extend_schema(tags=["reviews"])
class ReviewsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Review]
):
    """The verdicts on a data set, undone ones included, the latest first."""

    queryset = Review.objects.none()
    serializer_class = ReviewSerializer
    lookup_url_kwarg = "review_id"

    def rows(self) -> QuerySet[Review]:
        """Return the data set's reviews."""
        return Review.objects.for_dataset(self.dataset).with_names()

    @extend_schema(responses=ReviewSerializer(many=True))
    @action(detail=False, pagination_class=None, filter_backends=[])
    def mine(self, request: Request, slug: str) -> Response:
        """List the caller's last 50 verdicts, undone ones too."""
        rows = last_reviews(dataset=self.dataset, by=self.person)
        return Response(ReviewSerializer(rows, many=True).data)

    @extend_schema(request=None, responses={204: None})
    @action(detail=False, methods=["post"], url_path="undo-last")
    def undo_last(self, request: Request, slug: str) -> Response:
        """Take the caller's last verdict back, whether it has a review or not."""
        take_back_last(dataset=self.dataset, by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=ReviewSerializer)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, slug: str, review_id: int) -> Response:
        """Take one's own verdict back; the finding is as it was before it."""
        undo(review=self.get_object(), by=self.person)
        return Response(ReviewSerializer(access_one(self.rows(), pk=review_id)).data)
