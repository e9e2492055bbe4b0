"""How many findings of each confusion proved fixable, and how long a verdict takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

import numpy as np
import numpy.typing as npt
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from reviewapp.models import Dataset
from reviewapp.team import FEW, pace_of

Ints = npt.NDArray[np.int64]

VERDICTS_FRESH: Final = timedelta(minutes=5)
VERDICTS_KEPT: Final = 3600  # seconds
PACE_KEPT: Final = 3600  # seconds; the median is of seven days
LEAST_SECONDS: Final = 0.1  # where most verdicts were given in bulk
ASSUMED_SECONDS: Final = 10.0  # for a verdict, until some were timed


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Verdicts by confusion; arrays of one length, sorted by model and pair."""

    models: Ints
    pairs: Ints
    fixable: Ints
    judged: Ints
    seconds: float  # of one, as a median
    counted_at: datetime


# The standings do not know the verdicts.
JUDGED = """
SELECT registered_model_id, true_label_id, predicted_label_id,
       count(*) FILTER (WHERE review_state <> 'dismissed'), count(*)
  FROM reviewapp_finding
 WHERE dataset_id = %s AND kind = 'misclassified'
   AND review_state IN ('confirmed', 'relabelled', 'dismissed')
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def verdicts_of(dataset: Dataset) -> Verdicts:
    """Return the verdicts of a data set, at most an hour old.

    While they are asked for, the sweep for lost work counts them anew: see `recount_asked`.
    """
    kept: Verdicts | None = cache.get(_key(dataset))
    if kept is None:
        return _recount(dataset)
    if timezone.now() - kept.counted_at > VERDICTS_FRESH:
        cache.add(_asked(dataset), 1, VERDICTS_KEPT)
    return kept


def recount_asked() -> int:
    """Count the verdicts of data sets anew where somebody saw old ones; return of how many.

    Counting a million takes a second, which nobody should wait for.
    """
    datasets = {_asked(dataset): dataset for dataset in Dataset.objects.all()}
    asked = cache.get_many(datasets)
    for key in asked:
        _recount(datasets[key])
    cache.delete_many(asked)
    return len(asked)


def _recount(dataset: Dataset) -> Verdicts:
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(JUDGED, [dataset.pk])
        table = np.array(cursor.fetchall(), np.int64).reshape(-1, 5)
    models, true, predicted, fixable, judged = table.T.copy()
    seconds = seconds_per_verdict(dataset)
    found = Verdicts(models, pair(true, predicted), fixable, judged, seconds, now)
    cache.set(_key(dataset), found, VERDICTS_KEPT)
    return found


def _key(dataset: Dataset) -> str:
    return f"verdicts-of-confusions-{dataset.pk}"


def _asked(dataset: Dataset) -> str:
    return f"verdicts-of-confusions-{dataset.pk}-asked"


def seconds_per_verdict(dataset: Dataset) -> float:
    """Return the median seconds of a verdict, at most an hour old."""
    key = f"seconds-per-verdict-{dataset.pk}"
    kept: float | None = cache.get(key)
    if kept is None:
        pace = pace_of(dataset)
        kept = ASSUMED_SECONDS
        if pace.median is not None and pace.timed >= FEW:
            kept = max(pace.median, LEAST_SECONDS)
        cache.set(key, kept, PACE_KEPT)
    return kept


def pair(true: Ints, predicted: Ints) -> Ints:
    """Return two ids, each below 2^31, as one number in the same order."""
    return cast(Ints, (true << 31) | predicted)
