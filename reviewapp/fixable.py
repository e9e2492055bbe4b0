"""Filters over what goes into a fix set, shared by its page and the API."""

from __future__ import annotations

from datetime import date
from functools import reduce
from operator import or_

import django_filters
from django import forms
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, TextChoices
from django.db.models.functions import Coalesce

from reviewapp.filters import FindingFilter
from reviewapp.models import Cause, Finding, Opinion, Review, Split, Standing
from reviewapp.models.findings import FindingQuerySet
from reviewapp.models.pairs import PairIn


class PairsField(forms.MultipleChoiceField):
    """Confusions, each as "<true label id>:<predicted label id>"."""

    def valid_value(self, value: str) -> bool:
        """Whether a value names two ids: the menu holds the most frequent pairs only."""
        return _pair(value) is not None


class PairsFilter(django_filters.MultipleChoiceFilter):
    """Several confusions."""

    field_class = PairsField


def _pair(value: str) -> tuple[int, int] | None:
    true, _, predicted = value.partition(":")
    ids = [int(i) for i in (true, predicted) if i.isascii() and i.isdecimal()]
    # No more digits than a column holds for certain.
    is_pair = len(ids) == 2 and len(true) < 19 and len(predicted) < 19
    return (ids[0], ids[1]) if is_pair else None


class FixLane(TextChoices):
    """Lanes that a fix set can be made from."""

    LABEL = "label", "label?"
    MODEL = "model", "model"
    NEAR_MISS = "near_miss", "near misses"


class Agreement(TextChoices):
    """How many people stand behind a verdict."""

    SECONDED = "seconded", "somebody else said the same"
    SINGLE = "single", "one person alone"
    SETTLED = "settled", "a dispute or a flag was settled"


def _day() -> forms.DateInput:
    return forms.DateInput(attrs={"type": "date"})


class FixableFilter(FindingFilter):
    """Filters over what goes into a fix set, with the choices that mean something.

    Of several values of one field any may hold.
    """

    confusions = PairsFilter(
        label="Confusions",
        method="of_confusions",
        choices=[],
        widget=forms.CheckboxSelectMultiple,
    )
    lane = django_filters.MultipleChoiceFilter(
        label="Lanes",
        choices=FixLane,
        method="in_lanes",
        widget=forms.CheckboxSelectMultiple,
    )
    cause = django_filters.MultipleChoiceFilter(  # type: ignore[assignment]  # several
        label="Causes",
        choices=Cause,
        method="with_causes",
        widget=forms.CheckboxSelectMultiple,
    )
    split = django_filters.MultipleChoiceFilter(  # type: ignore[assignment]  # several
        label="Splits",
        field_name="sample__split",
        choices=[choice for choice in Split.choices if choice[0]],
        distinct=False,
        widget=forms.CheckboxSelectMultiple,
    )
    review_state = django_filters.ChoiceFilter(
        label="Review",
        choices=[(s.value, s.label) for s in Finding.FIXABLE],
        empty_label="confirmed or relabelled",
    )
    agreement = django_filters.ChoiceFilter(
        label="Reviewers",
        choices=Agreement,
        empty_label="any agreement",
        method="with_agreement",
    )
    reviewed_from = django_filters.DateFilter(
        label="Reviewed from", method="reviewed_since", widget=_day()
    )
    reviewed_to = django_filters.DateFilter(
        label="Reviewed to", method="reviewed_until", widget=_day()
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

    def of_confusions(
        self, queryset: FindingQuerySet, name: str, value: list[str]
    ) -> QuerySet[Finding]:
        """Keep findings of these confusions."""
        pairs = [pair for pair in map(_pair, value) if pair]
        return queryset.filter(PairIn(pairs)) if pairs else queryset

    def in_lanes(
        self, queryset: FindingQuerySet, name: str, value: list[str]
    ) -> QuerySet[Finding]:
        """Keep findings of these lanes, by where each confusion's lane label? begins."""
        begins = Subquery(Standing.objects.of_row().values("label_from")[:1])
        errors = Q(kind=Finding.Kind.MISCLASSIFIED)
        lanes = {
            FixLane.LABEL: errors & Q(confidence__gte=F("begins")),
            FixLane.MODEL: errors & Q(confidence__lt=F("begins")),
            FixLane.NEAR_MISS: Q(kind=Finding.Kind.NEAR_MISS),
        }
        chosen = [lanes[FixLane(lane)] for lane in value]
        if not chosen:
            return queryset
        found = queryset.alias(begins=Coalesce(begins, 1.0))
        return found.filter(reduce(or_, chosen))

    def with_causes(
        self, queryset: FindingQuerySet, name: str, value: list[str]
    ) -> QuerySet[Finding]:
        """Keep findings whose verdict names any of the causes."""
        return _judged(queryset, Q(causes__overlap=value)) if value else queryset

    def with_agreement(
        self, queryset: FindingQuerySet, name: str, value: str
    ) -> QuerySet[Finding]:
        """Keep findings by how many people stand behind their verdict."""
        seconded = Exists(Opinion.objects.seconding_row())
        settled = (Finding.ReviewState.DISPUTED, Finding.ReviewState.FLAGGED)
        wanted = {
            Agreement.SECONDED: Q(seconded),
            Agreement.SINGLE: ~Q(seconded),
            Agreement.SETTLED: Q(state_before__in=settled),
        }
        return _judged(queryset, wanted[Agreement(value)])

    def reviewed_since(
        self, queryset: FindingQuerySet, name: str, value: date
    ) -> QuerySet[Finding]:
        """Keep findings whose verdict is of this day or later."""
        return _judged(queryset, Q(created_at__date__gte=value))

    def reviewed_until(
        self, queryset: FindingQuerySet, name: str, value: date
    ) -> QuerySet[Finding]:
        """Keep findings whose verdict is of this day or earlier."""
        return _judged(queryset, Q(created_at__date__lte=value))


def _judged(queryset: FindingQuerySet, condition: Q) -> QuerySet[Finding]:
    """Keep findings with a standing verdict that puts them into a fix set and matches."""
    reviews = (
        Review.objects.standing().fixing().filter(condition, finding=OuterRef("pk"))
    )
    return queryset.filter(Exists(reviews))
