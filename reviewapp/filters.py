"""Filters, shared by the pages and the API so that they cannot drift apart."""

from __future__ import annotations

from typing import Any, cast

import django_filters
from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet

from reviewapp.models import (
    Cause,
    Confusion,
    Dataset,
    Finding,
    Label,
    RegisteredModel,
    Review,
    Scan,
    Shard,
    Split,
    User,
)
from reviewapp.models.findings import FindingQuerySet
from reviewapp.values import LedgerOrder

Choice = django_filters.ModelChoiceFilter


class IdFilter(django_filters.NumberFilter):
    """The id of an object of which there may be too many for a menu."""

    field_class = forms.IntegerField  # type: ignore[assignment]  # a decimal by the stubs

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=2**63 - 1, **kwargs)


class DatasetScoped(django_filters.FilterSet):
    """A filter set whose choices come from one data set.

    Give `dataset` to bind the label and model choices to it; without one (the API
    over several data sets) labels and models are chosen by id among the visible ones.
    """

    def __init__(
        self, *args: Any, dataset: Dataset | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if dataset is None:
            return
        for name in ("true_label", "predicted_label"):
            if name in self.filters:
                labels = Label.objects.filter(dataset=dataset)
                choice = cast(Choice, self.filters[name])
                choice.queryset = labels.order_by("index", "name")
        if "registered_model" in self.filters:
            models = RegisteredModel.objects.filter(dataset=dataset)
            cast(Choice, self.filters["registered_model"]).queryset = models


class FindingFilter(DatasetScoped):
    """Filters over findings; an empty field filters nothing."""

    true_label = django_filters.ModelChoiceFilter(
        label="True label", queryset=Label.objects.all(), empty_label="any"
    )
    predicted_label = django_filters.ModelChoiceFilter(
        label="Predicted", queryset=Label.objects.all(), empty_label="any"
    )
    registered_model = django_filters.ModelChoiceFilter(
        label="Model", queryset=RegisteredModel.objects.all(), empty_label="any"
    )
    kind = django_filters.ChoiceFilter(
        label="Kind", choices=Finding.Kind, empty_label="any"
    )
    review_state = django_filters.ChoiceFilter(
        label="Review", choices=Finding.ReviewState, empty_label="any"
    )
    presence = django_filters.ChoiceFilter(
        label="Presence", choices=Finding.Presence, empty_label="any"
    )
    split = django_filters.ChoiceFilter(
        label="Split",
        field_name="sample__split",
        choices=[choice for choice in Split.choices if choice[0]],
        empty_label="any",
    )
    cause = django_filters.ChoiceFilter(
        label="Cause", choices=Cause, empty_label="any", method="with_cause"
    )
    p_true_below = django_filters.NumberFilter(
        label="p(true) below",
        method="with_p_true_below",
        widget=forms.NumberInput(attrs={"min": 0, "max": 1, "step": "any"}),
    )
    confidence_from = django_filters.NumberFilter(
        label="Confidence from",
        method="with_confidence_from",
        min_value=0,
        max_value=1,
    )
    confidence_to = django_filters.NumberFilter(
        label="Confidence to",
        method="with_confidence_to",
        min_value=0,
        max_value=1,
    )
    key = django_filters.CharFilter(
        label="File name contains", field_name="sample__key", lookup_expr="icontains"
    )
    scan = IdFilter(label="Seen by scan", method="seen_by_scan")

    class Meta:
        model = Finding
        fields: list[str] = []

    def with_cause(
        self, queryset: FindingQuerySet, name: str, value: str
    ) -> QuerySet[Finding]:
        """Keep findings with a standing verdict that names the cause."""
        # Said twice: the index on causes leaves out the reviews without one.
        reviews = Review.objects.standing().filter(
            ~Q(causes=[]), finding=OuterRef("pk"), causes__contains=[value]
        )
        return queryset.reviewed().filter(Exists(reviews))

    def with_p_true_below(
        self, queryset: FindingQuerySet, name: str, value: float
    ) -> QuerySet[Finding]:
        """Keep findings whose true label got less than this probability."""
        return queryset.filter(priority__gt=1 - float(value))

    def seen_by_scan(
        self, queryset: FindingQuerySet, name: str, value: int
    ) -> QuerySet[Finding]:
        """Keep findings that the scan with this id saw."""
        return queryset.seen_by(value)

    def with_confidence_from(
        self, queryset: FindingQuerySet, name: str, value: float
    ) -> QuerySet[Finding]:
        """Keep findings predicted with at least this confidence."""
        return queryset.of_confidence(low=float(value))

    def with_confidence_to(
        self, queryset: FindingQuerySet, name: str, value: float
    ) -> QuerySet[Finding]:
        """Keep findings predicted with at most this confidence."""
        return queryset.of_confidence(high=float(value))


class ConfusionFilter(DatasetScoped):
    """Filters over ledger lines."""

    true_label = django_filters.ModelChoiceFilter(
        label="True label", queryset=Label.objects.all(), empty_label="any"
    )
    predicted_label = django_filters.ModelChoiceFilter(
        label="Predicted", queryset=Label.objects.all(), empty_label="any"
    )
    registered_model = django_filters.ModelChoiceFilter(
        label="Model", queryset=RegisteredModel.objects.all(), empty_label="any"
    )
    state = django_filters.ChoiceFilter(
        label="State", choices=Confusion.State, empty_label="any"
    )
    owner = django_filters.ModelChoiceFilter(
        label="Owner",
        queryset=User.objects.none(),
        empty_label="any",
        null_label="nobody",
        null_value="none",
    )
    plan = django_filters.ChoiceFilter(
        label="Plan", choices=Confusion.Plan, empty_label="any"
    )
    ordering = django_filters.ChoiceFilter(
        label="Order",
        choices=LedgerOrder,
        empty_label="most frequent first",
        method="leave",
    )

    class Meta:
        model = Confusion
        fields: list[str] = []

    def __init__(
        self, *args: Any, dataset: Dataset | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, dataset=dataset, **kwargs)
        if dataset is not None:
            members = User.objects.filter(memberships__dataset=dataset)
            cast(Choice, self.filters["owner"]).queryset = members.order_by("username")

    @property
    def order(self) -> LedgerOrder | None:
        """Return the order asked for; None: the usual one, or one that cannot be."""
        asked = self.form.cleaned_data.get("ordering") if self.is_valid() else None
        return LedgerOrder(asked) if asked else None

    def leave(
        self, queryset: QuerySet[Confusion], name: str, value: str
    ) -> QuerySet[Confusion]:
        """Keep every line: the page puts them in order."""
        return queryset


class ShardFilter(django_filters.FilterSet):
    """Filters over the shards of a scan."""

    state = django_filters.ChoiceFilter(
        label="State", choices=Shard.State, empty_label="any"
    )

    class Meta:
        model = Shard
        fields: list[str] = []


class ScanFilter(django_filters.FilterSet):
    """Filters over scans."""

    state = django_filters.ChoiceFilter(
        label="State", choices=Scan.State, empty_label="any"
    )

    class Meta:
        model = Scan
        fields: list[str] = []
