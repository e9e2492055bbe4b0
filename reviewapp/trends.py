"""A model over time: what its scans said, and what people did about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from mining.statistics import Interval, wilson
from reviewapp.kinds import ScanKind
from reviewapp.models import Dataset, RegisteredModel, Scan

SCANS = 100  # the last ones that count
WEEKS = 26  # with the one that has begun
A_WEEK = timedelta(days=7)
KEPT = 60  # seconds, of the week that has begun
KEPT_PAST = 400 * 24 * 3600  # seconds, of one that is over


@dataclass(frozen=True, slots=True)
class Point:
    """What one scan said."""

    scan: Scan

    @property
    def interval(self) -> Interval:
        """Return Wilson's 95 % interval of the accuracy."""
        return wilson(self.scan.correct or 0, self.scan.readable)


@dataclass(frozen=True, slots=True)
class Week:
    """The verdicts of one week that were not taken back in it.

    Attributes:
        start: Its Monday.
        confirmed: Verdicts that the model is wrong.
        relabelled: Verdicts that the label is wrong: the label was corrected.
        dismissed: Verdicts that neither is worth fixing.
    """

    start: date
    confirmed: int = 0
    relabelled: int = 0
    dismissed: int = 0

    @property
    def verdicts(self) -> int:
        """Return all of them."""
        return self.confirmed + self.relabelled + self.dismissed


@dataclass(frozen=True, slots=True)
class Trends:
    """Both, the oldest first."""

    points: list[Point]
    weeks: list[Week]


def last_scanned(dataset: Dataset) -> RegisteredModel | None:
    """Return the model of the last scan that counts; None: there is none."""
    scans = Scan.objects.for_dataset(dataset).finished().counted().lean()
    last = scans.newest_first().defer("classes").first()
    return last.model_version.registered_model if last else None


def trends_of(
    dataset: Dataset, model: RegisteredModel, kind: ScanKind | None = None
) -> Trends:
    """Return the last 100 scans of a model that count, and the last 26 weeks.

    Args:
        dataset: Where it was scanned.
        model: Which.
        kind: Only scans of this kind; None: all.
    """
    scans = Scan.objects.for_dataset(dataset).finished().counted().of_model(model)
    if kind:
        scans = kind.among(scans)
    last = scans.lean().defer("classes").newest_first()[:SCANS]
    return Trends(
        points=[Point(scan) for scan in last][::-1],
        weeks=weeks_of(dataset, model),
    )


def weeks_of(dataset: Dataset, model: RegisteredModel) -> list[Week]:
    """Return the last 26 weeks, those without a verdict too.

    A week that is over never changes and is counted once. The one that has begun is
    counted at most once a minute.
    """
    today = timezone.localdate()
    monday = today - timedelta(days=today.weekday())
    starts = [monday - n * A_WEEK for n in range(WEEKS)][::-1]
    counts = _kept(dataset, starts)
    return [Week(start, *counts[start].get(model.pk, ())) for start in starts]


Counts = dict[int, tuple[int, int, int]]


def _kept(dataset: Dataset, starts: list[date]) -> dict[date, Counts]:
    """Return what is kept of these weeks, and count and keep the others."""
    keys = {start: f"verdicts-{dataset.pk}-{start}" for start in starts}
    found = cache.get_many(keys.values())
    missing = [start for start in starts if keys[start] not in found]
    if missing:
        counted = _count(dataset, missing[0], starts[-1] + A_WEEK)
        fresh = {keys[start]: counted.get(start, {}) for start in missing}
        now = keys[starts[-1]]
        cache.set_many({k: v for k, v in fresh.items() if k != now}, KEPT_PAST)
        if now in fresh:
            cache.set(now, fresh[now], KEPT)
        found |= fresh
    return {start: found[key] for start, key in keys.items()}


def _count(dataset: Dataset, start: date, end: date) -> dict[date, Counts]:
    """Return Monday -> model id -> confirmed, relabelled and dismissed."""
    zone = timezone.get_current_timezone()
    first, last = (datetime.combine(day, time(), zone) for day in (start, end))
    values: dict[str, Any] = {"dataset": dataset.pk, "zone": str(zone)}
    values |= {"start": first, "end": last}
    found: dict[date, Counts] = {}
    with connection.cursor() as cursor:
        cursor.execute(BY_WEEK, values)
        for monday, model, *counts in cursor.fetchall():
            found.setdefault(monday, {})[model] = tuple(counts)
    return found


# The finding is looked up for its model alone.
BY_WEEK = """
WITH given AS (
  SELECT r.id, r.finding_id, r.verdict,
         date_trunc('week', r.created_at, %(zone)s) AS week
    FROM reviewapp_review r
   WHERE r.dataset_id = %(dataset)s AND r.verdict <> 'flag'
     AND r.created_at >= %(start)s AND r.created_at < %(end)s
)
SELECT (g.week AT TIME ZONE %(zone)s)::date, f.registered_model_id,
       count(*) FILTER (WHERE g.verdict = 'confirm'),
       count(*) FILTER (WHERE g.verdict = 'relabel'),
       count(*) FILTER (WHERE g.verdict = 'dismiss')
  FROM given g JOIN reviewapp_finding f ON f.id = g.finding_id
  LEFT JOIN reviewapp_undo u ON u.review_id = g.id
 WHERE u.id IS NULL OR date_trunc('week', u.created_at, %(zone)s) > g.week
 GROUP BY 1, 2
"""
