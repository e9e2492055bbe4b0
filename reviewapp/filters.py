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
)
from reviewapp.models.findings import FindingQuerySet

Choice = django_filters.ModelChoiceFilter


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
    key = django_filters.CharFilter(
        label="File name contains", field_name="sample__key", lookup_expr="icontains"
    )

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


class FixableFilter(FindingFilter):
    """Filters over what goes into a fix set, with the choices that mean something."""

    review_state = django_filters.ChoiceFilter(
        label="Review",
        choices=[(s.value, s.label) for s in Finding.FIXABLE],
        empty_label="confirmed or relabelled",
    )
    presence = django_filters.ChoiceFilter(
        label="Presence",
        choices=[
            (p.value, p.label)
            for p in Finding.Presence
            if p is not Finding.Presence.SUPERSEDED
        ],
        empty_label="any",
    )


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

    class Meta:
        model = Confusion
        fields: list[str] = []


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
