"""The team of a data set: figures, rules, known answers."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.actions.known import add_known_answer, remove_known_answer
from reviewapp.actions.teams import (
    MAX_KNOWN_RATE,
    MAX_OVERLAP,
    free_claims,
    set_team_rules,
)
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.datasets import LabelSerializer
from reviewapp.models import Dataset, Finding, KnownAnswer, Role, User
from reviewapp.models.people import role_on
from reviewapp.team import team_figures


class EstimateSerializer(serializers.Serializer[Any]):
    """A number with its 95 % interval."""

    value = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class PaceSerializer(serializers.Serializer[Any]):
    """How fast verdicts came in the last seven days."""

    today = serializers.IntegerField()
    week = serializers.IntegerField(help_text="Verdicts in seven days")
    per_hour = serializers.FloatField(
        allow_null=True, help_text="Of active time: gaps over five minutes are breaks"
    )
    median = serializers.FloatField(
        allow_null=True, help_text="Median seconds per verdict"
    )


class ScoreSerializer(serializers.Serializer[Any]):
    """How many of several, with Wilson's 95 % interval of the share."""

    right = serializers.IntegerField()
    of = serializers.IntegerField()
    low = serializers.FloatField(source="interval.low")
    high = serializers.FloatField(source="interval.high")


class AgreementSerializer(serializers.Serializer[Any]):
    """A kappa with its 95 % interval."""

    n = serializers.IntegerField(help_text="Findings judged by at least two")
    observed = serializers.FloatField(help_text="Share of equal judgements, 0-1")
    kappa = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(source="interval.low", default=None, allow_null=True)
    high = serializers.FloatField(source="interval.high", default=None, allow_null=True)


class HoldingSerializer(serializers.Serializer[Any]):
    """What one person holds now."""

    findings = serializers.IntegerField()
    until = serializers.DateTimeField()


class PersonFiguresSerializer(serializers.Serializer[Any]):
    """One person's figures."""

    username = serializers.CharField(source="user.username")
    role = serializers.CharField(help_text="Empty: not a member any more")
    pace = PaceSerializer()
    same = ScoreSerializer(help_text="Agrees with another person on the same finding")
    known = ScoreSerializer(help_text="Known answers that were right")
    holding = HoldingSerializer(allow_null=True)


class PairAgreementSerializer(serializers.Serializer[Any]):
    """Cohen's kappa of two people."""

    one = serializers.CharField()
    other = serializers.CharField()
    verdict = AgreementSerializer()
    right_label = AgreementSerializer(
        source="label", help_text="The same over the label that is right by them"
    )


class LeftSerializer(serializers.Serializer[Any]):
    """What waits, and how long it takes at the team's pace."""

    errors = serializers.IntegerField()  # type: ignore[assignment]  # not the parent's
    near_misses = serializers.IntegerField()
    label_lane = serializers.IntegerField(
        source="label", help_text="Of the errors; at most 1,001 are counted"
    )
    flagged = serializers.IntegerField()
    disputed = serializers.IntegerField()
    work = EstimateSerializer(allow_null=True, help_text="Seconds of active time")
    days = EstimateSerializer(allow_null=True, help_text="As in the last seven days")


class TeamSerializer(serializers.Serializer[Any]):
    """A team's figures; other people's own are for leads."""

    people = PersonFiguresSerializer(many=True)
    total = PaceSerializer()
    verdict = AgreementSerializer(help_text="Fleiss' kappa over verdicts")
    right_label = AgreementSerializer(
        source="label", help_text="The same over the label that is right by them"
    )
    pairs = PairAgreementSerializer(many=True)
    left = LeftSerializer()


class TeamRulesSerializer(serializers.ModelSerializer[Dataset]):
    """How many people judge a finding, and how many known answers are mixed in."""

    overlap = serializers.IntegerField(min_value=1, max_value=MAX_OVERLAP)
    overlap_share = serializers.FloatField(min_value=0, max_value=1)
    known_rate = serializers.FloatField(min_value=0, max_value=MAX_KNOWN_RATE)

    class Meta:
        model = Dataset
        fields = ["overlap", "overlap_share", "known_rate"]


class FreeRequest(serializers.Serializer[Any]):
    """Whose findings to take back."""

    username = serializers.CharField(
        required=False, max_length=150, help_text="Left out: everybody's"
    )


class FreedSerializer(serializers.Serializer[Any]):
    """How many findings are free again."""

    freed = serializers.IntegerField()


@extend_schema(tags=["team"])
class TeamViewSet(DatasetViewSet[Dataset]):
    """The team of a data set."""

    queryset = Dataset.objects.none()
    serializer_class = TeamSerializer
    pagination_class = None
    roles = {"set_rules": Role.ADMIN, "free": Role.ADMIN}

    @extend_schema(operation_id="team_retrieve", responses=TeamSerializer)
    def list(self, request: Request, slug: str) -> Response:
        """Return the team's figures; without the lead role no other people's own."""
        figures = team_figures(self.dataset)
        role = role_on(self.person, self.dataset)
        if role is None or not role.leads:
            figures = figures.only(self.person)
        return Response(TeamSerializer(figures).data)

    @extend_schema(responses=TeamRulesSerializer)
    @action(detail=False, methods=["get"])
    def rules(self, request: Request, slug: str) -> Response:
        """Return how many people judge a finding and how many answers are known."""
        return Response(TeamRulesSerializer(self.dataset).data)

    @extend_schema(request=TeamRulesSerializer, responses=TeamRulesSerializer)
    @rules.mapping.put
    def set_rules(self, request: Request, slug: str) -> Response:
        """Set them (admin); they hold from the next verdict on."""
        body = self.read(TeamRulesSerializer(data=request.data))
        dataset = set_team_rules(dataset=self.dataset, by=self.person, **body)
        return Response(TeamRulesSerializer(dataset).data)

    @extend_schema(request=FreeRequest, responses=FreedSerializer)
    @action(detail=False, methods=["post"])
    def free(self, request: Request, slug: str) -> Response:
        """Take back what one person, or everybody, holds (admin)."""
        body = self.read(FreeRequest(data=request.data))
        holder = None
        if "username" in body:
            holders = User.objects.filter(claims__finding__dataset=self.dataset)
            holder = access_one(holders.distinct(), username=body["username"])
        freed = free_claims(dataset=self.dataset, by=self.person, holder=holder)
        return Response({"freed": freed})


class KnownAnswerSerializer(serializers.ModelSerializer[KnownAnswer]):
    """A finding whose right verdict is known."""

    new_label = LabelSerializer(read_only=True, allow_null=True)
    added_by = serializers.SlugRelatedField[User](slug_field="username", read_only=True)
    tried = serializers.IntegerField(help_text="Reviewers who were asked")
    right = serializers.IntegerField(help_text="Of these, those who said it")

    class Meta:
        model = KnownAnswer
        fields = [
            "id",
            "finding",
            "verdict",
            "new_label",
            "added_by",
            "tried",
            "right",
            "created_at",
        ]


class KnownAnswerRequest(serializers.Serializer[KnownAnswer]):
    """Which decided finding is right for certain."""

    finding = serializers.IntegerField(min_value=1)


@extend_schema(tags=["team"])
class KnownAnswersViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[KnownAnswer]
):
    """Known answers of a data set, the latest first (lead)."""

    queryset = KnownAnswer.objects.none()
    serializer_class = KnownAnswerSerializer
    lookup_url_kwarg = "known_id"
    roles = dict.fromkeys(("list", "retrieve", "create", "destroy"), Role.LEAD)

    def rows(self) -> QuerySet[KnownAnswer]:
        """Return the data set's known answers with their scores."""
        return KnownAnswer.objects.for_dataset(self.dataset).with_score()

    @extend_schema(request=KnownAnswerRequest, responses={201: KnownAnswerSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Mark a decided finding as a known answer."""
        body = self.read(KnownAnswerRequest(data=request.data))
        findings = Finding.objects.for_dataset(self.dataset)
        finding = access_one(findings, pk=body["finding"])
        known = add_known_answer(finding=finding, by=self.person)
        answer = KnownAnswerSerializer(access_one(self.rows(), pk=known.pk))
        return Response(answer.data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, slug: str, known_id: int) -> Response:
        """Take the mark off; the attempts at it go with it."""
        remove_known_answer(known=self.get_object(), by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)
