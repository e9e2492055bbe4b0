"""Causes that reviewers often give in a confusion, from their last verdicts."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

from reviewapp.models import Review

if TYPE_CHECKING:
    from reviewapp.models import Finding

LOOKED_AT = 5000  # verdicts, of all data sets: an index serves the last ones
SECONDS = 60  # a suggestion may be that old
OFTEN = 3  # suggested at most
TWICE = 2  # given once is not often
DATASETS = 64  # whose suggestions are kept


def causes_often_here(finding: Finding) -> list[str]:
    """Return the causes most often given in the finding's confusion, at most three."""
    found = often_given(finding.dataset_id, int(time.monotonic() // SECONDS))
    return found.get((finding.true_label_id, finding.predicted_label_id), [])


# In the process: at every verdict, and a minute's verdicts change little.
@lru_cache(maxsize=DATASETS)
def often_given(dataset_id: int, period: int) -> dict[tuple[int, int], list[str]]:
    """Return (true id, predicted id) -> causes, the most often given first.

    Args:
        dataset_id: Whose verdicts.
        period: Changes when what was counted is too old.
    """
    counts: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    last = Review.objects.newest_first().values("pk")[:LOOKED_AT]
    given = (
        Review.objects.filter(dataset=dataset_id)
        .standing()
        .filter(pk__in=last)
        .exclude(causes=[])
        .values_list("finding__true_label", "finding__predicted_label", "causes")
    )
    for true, predicted, causes in given:
        counts[true, predicted].update(causes)
    return {
        pair: [cause for cause, n in counter.most_common(OFTEN) if n >= TWICE]
        for pair, counter in counts.items()
    }
