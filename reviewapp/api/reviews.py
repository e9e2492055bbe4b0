"""Reviews: verdicts, and taking them back."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.reviews import undo
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.datasets import LabelSerializer
from reviewapp.models import Cause, Review, User, Verdict


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
            "causes",
            "note",
            "undone",
            "created_at",
        ]

    def get_undone(self, review: Review) -> bool:
        """Return whether it was taken back."""
        return hasattr(review, "undo")


class DecideRequest(serializers.Serializer[Review]):
    """A verdict on the version of a finding that the reviewer saw."""

    verdict = serializers.ChoiceField(choices=Verdict.choices)
    version = serializers.IntegerField(min_value=0, help_text="As read of the finding")
    new_label = serializers.IntegerField(
        required=False, allow_null=True, help_text="Label id; for relabel alone"
    )
    causes = serializers.ListField(
        child=serializers.ChoiceField(choices=Cause.choices), required=False
    )
    note = serializers.CharField(required=False, allow_blank=True, max_length=10_000)


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

    @extend_schema(request=None, responses=ReviewSerializer)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, slug: str, review_id: int) -> Response:
        """Take one's own verdict back; the finding is as it was before it."""
        undo(review=self.get_object(), by=self.person)
        return Response(ReviewSerializer(access_one(self.rows(), pk=review_id)).data)
