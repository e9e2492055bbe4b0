"""The ledger of confusions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from reviewapp.actions.plans import MAX_TARGET, change_plan
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.datasets import LabelSerializer
from reviewapp.api.pagination import KeysetPagination, page_size
from reviewapp.api.registry import RegisteredModelSerializer
from reviewapp.exceptions import Refused
from reviewapp.filters import ConfusionFilter
from reviewapp.ledger import histories
from reviewapp.models import Confusion, ConfusionEvent, Dataset, Scan, User
from reviewapp.values import LedgerOrder, Value, page_by_value, values_of

SCANS = 200  # as far back as a history goes


class ValueSerializer(serializers.Serializer[Value]):
    """What fixing a confusion is worth now; gains, shares and rates are 0-1."""

    scan = serializers.IntegerField(
        allow_null=True, help_text="That says so; null: no scan that counts"
    )
    count = serializers.IntegerField(help_text="Errors of the pair in it")
    support = serializers.IntegerField(
        help_text="Samples of the true label with a prediction in it"
    )
    rate = serializers.FloatField(allow_null=True, help_text="count / support")
    low = serializers.FloatField(
        source="interval.low", help_text="Of the rate's 95 % interval (Wilson)"
    )
    high = serializers.FloatField(source="interval.high")
    accuracy = serializers.FloatField(help_text="What it gains if none were left")
    macro_f1 = serializers.FloatField(help_text="The same of macro-F1")
    fixable = serializers.IntegerField(help_text="Findings confirmed or relabelled")
    judged = serializers.IntegerField(help_text="These and the dismissed ones")
    share = serializers.FloatField(help_text="(fixable + 1) / (judged + 2)")
    waiting = serializers.IntegerField(help_text="Findings without a verdict")
    minutes = serializers.FloatField(help_text="That their review takes")
    macro_f1_per_minute = serializers.FloatField(
        help_text="macro_f1 * share / minutes: the order `value`"
    )
    accuracy_per_minute = serializers.FloatField(
        help_text="accuracy * share / minutes: the order `value_accuracy`"
    )


class ConfusionSerializer(serializers.ModelSerializer[Confusion]):
    """One ledger line: an ordered pair (true label, predicted label) and its state."""

    true_label = LabelSerializer(read_only=True)
    predicted_label = LabelSerializer(read_only=True)
    registered_model = RegisteredModelSerializer(read_only=True)
    owner = serializers.CharField(
        source="owner.username", read_only=True, default=None, allow_null=True
    )
    evidence = serializers.DictField(
        read_only=True, help_text="What the scans prove; see docs/history.md"
    )
    value = serializers.SerializerMethodField("measured")

    class Meta:
        model = Confusion
        fields = [
            "id",
            "true_label",
            "predicted_label",
            "registered_model",
            "state",
            "evidence",
            "owner",
            "plan",
            "target",
            "claimed_at",
            "value",
            "present",
            "peak",
            "first_scan",
            "last_scan",
            "updated_at",
        ]

    @extend_schema_field(ValueSerializer)
    def measured(self, line: Confusion) -> dict[str, Any]:
        """Return what was measured for all lines of the answer at once."""
        return dict(ValueSerializer(self.context["values"][line.pk]).data)


class PlanRequest(serializers.Serializer[Confusion]):
    """What to change; what is left out stays."""

    owner = serializers.CharField(
        required=False,
        allow_null=True,
        max_length=150,
        help_text="Username; null: nobody",
    )
    plan = serializers.ChoiceField(
        required=False, choices=Confusion.Plan.choices, allow_blank=True
    )
    target = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=MAX_TARGET,
        help_text="Most errors in a scan that would do; null: none is set",
    )


class LedgerPagination(KeysetPagination):
    """Keyset paging, or by value where that order is asked for."""

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any]:
        """Return the lines of the page.

        Raises:
            Refused: The token or the size cannot be used.
        """
        asked = request.query_params.get("ordering")
        if not asked:
            return super().paginate_queryset(queryset, request, view)
        page = page_by_value(
            cast("ConfusionsViewSet", view).dataset,
            queryset,
            order=LedgerOrder(asked),
            after=request.query_params.get("after"),
            size=page_size(request),
        )
        self.point_to(page.next, request)
        return page.rows


class ConfusionEventSerializer(serializers.ModelSerializer[ConfusionEvent]):
    """One change of a ledger line's state; without a scan it came from a review."""

    evidence = serializers.DictField(read_only=True)

    class Meta:
        model = ConfusionEvent
        fields = ["id", "scan", "old_state", "new_state", "evidence", "created_at"]


class ScanCountSerializer(serializers.Serializer[object]):
    """Errors of the pair in one scan; null: the scan says nothing about the pair."""

    scan = serializers.IntegerField()
    split = serializers.CharField(help_text="Empty: every split")
    folds = serializers.IntegerField(
        help_text="Out-of-fold, by so many models; 0: not so"
    )
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
    pagination_class = LedgerPagination
    lookup_url_kwarg = "confusion_id"
    keyset = ("present", "peak", "id")

    def rows(self) -> QuerySet[Confusion]:
        """Return the data set's ledger."""
        ledger = Confusion.objects.for_dataset(self.dataset).with_names()
        return ledger.select_related("owner", "dataset")

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Return a serializer that knows what its lines are worth."""
        context = {**self.get_serializer_context(), **self._values(args)}
        return self.get_serializer_class()(*args, **{"context": context, **kwargs})

    def _values(self, lines: Iterable[Any]) -> dict[str, dict[int, Value]]:
        given = [line for some in lines for line in _as_list(some)]
        return {"values": values_of(self.dataset, given) if given else {}}

    @extend_schema(request=PlanRequest, responses=ConfusionSerializer)
    def partial_update(
        self, request: Request, slug: str, confusion_id: int
    ) -> Response:
        """Set owner, plan or target (lead); a reviewer may take a line and give it up."""
        line = self.get_object()
        body = self.read(PlanRequest(data=request.data))
        if "owner" in body:
            body["owner"] = _member(self.dataset, body["owner"])
        change_plan(line=line, by=self.person, **body)
        return Response(self.get_serializer(self.get_object()).data)

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
                    {
                        "scan": scan.pk,
                        "split": scan.split,
                        "folds": scan.folds,
                        "count": n,
                    }
                    for scan, n in zip(scans, entry.counts, strict=True)
                ],
                "events": line.events.order_by("id"),
            },
            context=self._values([line]),
        )
        return Response(answer.data)


def _as_list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _member(dataset: Dataset, username: str | None) -> User | None:
    """Return the member of this name; None: nobody.

    Raises:
        Refused: There is no such member.
    """
    if username is None:
        return None
    members = User.objects.filter(memberships__dataset=dataset)
    found = members.filter(username=username.replace("\0", "")).first()
    if found is None:
        raise Refused(f"{username!r} is no member of {dataset}. Nothing was changed.")
    return found
