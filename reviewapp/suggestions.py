"""Causes that reviewers often give in a confusion, from their last verdicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, cast

from django.core.cache import cache

from reviewapp.models import Review

if TYPE_CHECKING:
    from reviewapp.models import Dataset, Finding

LOOKED_AT = 5000  # verdicts, of all data sets: an index serves the last ones
SECONDS = 60  # a suggestion may be that old
OFTEN = 3  # suggested at most
TWICE = 2  # given once is not often


def causes_often_here(finding: Finding) -> list[str]:
    """Return the causes most often given in the finding's confusion, at most three."""
    key = f"causes-{finding.dataset_id}"
    found = cache.get(key)
    if found is None:
        found = _count(finding.dataset)
        cache.set(key, found, SECONDS)
    return cast(list[str], found.get(_pair(finding), []))


def _pair(finding: Finding) -> str:
    return f"{finding.true_label_id}-{finding.predicted_label_id}"


def _count(dataset: Dataset) -> dict[str, list[str]]:
    """Return "true id-predicted id" -> causes, the most often given first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    last = Review.objects.newest_first().values("pk")[:LOOKED_AT]
    given = (
        Review.objects.for_dataset(dataset)
        .standing()
        .filter(pk__in=last)
        .exclude(causes=[])
        .values_list("finding__true_label", "finding__predicted_label", "causes")
    )
    for true, predicted, causes in given:
        counts[f"{true}-{predicted}"].update(causes)
    return {
        pair: [cause for cause, n in counter.most_common(OFTEN) if n >= TWICE]
        for pair, counter in counts.items()
    }
