"""One verdict on many findings, and taking it back as one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.actions.bulk import decide_many
from reviewapp.actions.lines import is_batch_of, take_batch_back
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.reviews import VerdictRequest, decision_of
from reviewapp.forms.bulk import MAX_AT_ONCE
from reviewapp.models import Review


class SeenFinding(serializers.Serializer[Any]):
    """A finding, and the version of it that the caller saw."""

    id = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    version = serializers.IntegerField(min_value=0, max_value=2**31 - 1)


class BulkRequest(VerdictRequest):
    """One verdict on many findings."""

    findings = serializers.ListField(
        child=SeenFinding(), allow_empty=False, max_length=MAX_AT_ONCE
    )


class RefusedSerializer(serializers.Serializer[Any]):
    """A finding that keeps what it had."""

    id = serializers.IntegerField()
    why = serializers.CharField()


class BulkSerializer(serializers.Serializer[Any]):
    """What came of one verdict on many findings; `batch` undoes it."""

    decided = serializers.ListField(child=serializers.IntegerField())
    refused = RefusedSerializer(many=True)
    batch = serializers.UUIDField()


class BulkUndoneSerializer(serializers.Serializer[Any]):
    """What came of taking a batch back."""

    undone = serializers.ListField(child=serializers.IntegerField())
    refused = RefusedSerializer(many=True)


def _refused(rows: list[tuple[int, str]]) -> list[dict[str, object]]:
    return [{"id": pk, "why": why} for pk, why in rows]


@extend_schema(tags=["reviews"])
class BulkVerdictsViewSet(DatasetViewSet[Review]):
    """Verdicts that are given, and undone, as one."""

    queryset = Review.objects.none()
    serializer_class = BulkSerializer
    lookup_field = "batch"
    lookup_url_kwarg = "batch"
    lookup_value_converter = "uuid"
    pagination_class = None

    def rows(self) -> QuerySet[Review]:
        """Return the caller's own verdicts that were given as one."""
        return Review.objects.for_dataset(self.dataset).by(self.person)

    @extend_schema(request=BulkRequest, responses={201: BulkSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Give one verdict on many findings; what is refused leaves the others."""
        body = self.read(BulkRequest(data=request.data))
        seen = body.pop("findings")
        done = decide_many(
            dataset=self.dataset,
            by=self.person,
            findings=[(finding["id"], finding["version"]) for finding in seen],
            decision=decision_of(body | {"version": 0}, self.dataset),
        )
        answer = {
            "decided": done.decided,
            "refused": _refused(done.refused),
            "batch": done.batch,
        }
        return Response(BulkSerializer(answer).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=BulkUndoneSerializer)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, slug: str, batch: UUID) -> Response:
        """Take back what was given as one; what got a later verdict stays."""
        if not is_batch_of(batch=batch, dataset=self.dataset, by=self.person):
            raise Http404
        undone = take_batch_back(batch=batch, dataset=self.dataset, by=self.person)
        answer = {
            "undone": [finding.pk for finding in undone.findings],
            "refused": _refused(undone.refused),
        }
        return Response(BulkUndoneSerializer(answer).data)
