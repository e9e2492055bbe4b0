"""A team's figures on a data set: pace, agreement, known answers, what is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, Max
from django.utils import timezone

from mining.agreement import ENOUGH, Agreement
from reviewapp.actions.queues import Lane, in_lane
from reviewapp.judgements import (
    PairAgreement,
    Score,
    agreement_by_pair,
    agreement_in,
    judgements_of,
    same_by_person,
    shared_ones,
)
from reviewapp.models import (
    Claim,
    Dataset,
    Finding,
    KnownAttempt,
    Standing,
    User,
)
from reviewapp.second_opinions import count_set_aside

DAYS = 7  # that figures of pace look back
BREAK = 300  # seconds without a verdict that are not work
FEW = 5  # timed verdicts that say nothing of a pace
COUNTED = 1_000  # more in one lane is shown as "over 1,000"
_Z = 1.959963984540054  # of 95 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast verdicts came in the last seven days.

    A bulk is one act, and its time is shared by its findings. Time counts while the
    next act comes within five minutes.

    Attributes:
        today: Verdicts since midnight.
        week: Verdicts in seven days.
        timed: Verdicts whose time is known.
        seconds: Active time of these.
        median: Median seconds per verdict, of the acts; None: nothing is timed.
        error: Standard error of seconds / timed.
    """

    today: int = 0
    week: int = 0
    timed: int = 0
    seconds: float = 0.0
    median: float | None = None
    error: float = 0.0

    @property
    def per_hour(self) -> float | None:
        """Return verdicts per hour of active time; None: fewer than 5 are timed."""
        if self.timed < FEW or not self.seconds:
            return None
        return 3600 * self.timed / self.seconds

    @property
    def each(self) -> Estimate | None:
        """Return seconds per verdict; None: fewer than 20 are timed."""
        if self.timed < ENOUGH or not self.seconds:
            return None
        mean = self.seconds / self.timed
        half = _Z * self.error
        return Estimate(mean, max(0.0, mean - half), mean + half)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """Return all three times a factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one person holds now, and until when."""

    findings: int
    until: datetime


@dataclass(frozen=True, slots=True)
class PersonFigures:
    """One person's figures."""

    user: User
    role: str  # "" for who is not a member any more
    pace: Pace
    same: Score  # judgements that agree with another person's on the same finding
    known: Score
    holding: Holding | None


@dataclass(frozen=True, slots=True)
class Left:
    """What waits, and how long it takes at the team's pace.

    Attributes:
        errors: Waiting errors.
        near_misses: Waiting near misses.
        label: Of the errors, those in the lane label?, up to `COUNTED` + 1.
        flagged: Waiting for a second opinion.
        disputed: Waiting for a lead.
        work: Seconds of active time that the waiting errors and near misses take; None:
            too few verdicts in the last days.
        days: The same at as much time a day as in the last seven.
    """

    errors: int
    near_misses: int
    label: int
    flagged: int
    disputed: int
    work: Estimate | None
    days: Estimate | None

    @property
    def is_label_cut(self) -> bool:
        """Whether the lane label? holds more than was counted."""
        return self.label > COUNTED

    @property
    def model(self) -> int:
        """Return the errors that are not in the lane label?; with it cut, at most."""
        return self.errors - min(self.label, COUNTED)


@dataclass(frozen=True, slots=True)
class TeamFigures:
    """All figures of a team."""

    people: list[PersonFigures]
    total: Pace
    verdict: Agreement
    label: Agreement
    pairs: list[PairAgreement]
    left: Left

    def only(self, user: User) -> TeamFigures:
        """Return the figures without other people's own."""
        return TeamFigures(
            people=[person for person in self.people if person.user == user],
            total=self.total,
            verdict=self.verdict,
            label=self.label,
            pairs=[],
            left=self.left,
        )


def team_figures(dataset: Dataset) -> TeamFigures:
    """Return a team's figures; the reads are bounded by people and by seven days."""
    roles = dict(dataset.memberships.values_list("user", "role"))
    paces, total = _paces(dataset)
    holdings = _holdings(dataset)
    known = KnownAttempt.objects.for_dataset(dataset).scores()
    ids = {*roles, *paces, *holdings, *known}
    people = {user.pk: user for user in User.objects.filter(pk__in=ids)}
    judgements = judgements_of(dataset, ids)
    shared = shared_ones(judgements)
    same = same_by_person(shared)
    return TeamFigures(
        people=[
            PersonFigures(
                user=user,
                role=roles.get(pk, ""),
                pace=paces.get(pk, Pace()),
                same=same.get(pk, Score(0, 0)),
                known=Score(*known.get(pk, (0, 0))),
                holding=holdings.get(pk),
            )
            for pk, user in sorted(people.items(), key=lambda item: item[1].username)
        ],
        total=total,
        verdict=agreement_in(shared, "verdict"),
        label=agreement_in(shared, "label"),
        pairs=agreement_by_pair(shared, people),
        left=_left(dataset, total),
    )


# Findings and reviews are looked up one by one: a join may read every one there is.
PACE = """
WITH given AS (
  SELECT r.reviewer_id, r.finding_id, r.created_at,
         coalesce(r.batch::text, 'r' || r.id) AS act
    FROM reviewapp_review r
   WHERE r.created_at >= %(since)s
     AND NOT EXISTS (SELECT FROM reviewapp_undo u WHERE u.review_id = r.id)
  UNION ALL
  SELECT o.reviewer_id, o.finding_id, o.created_at, 'o' || o.id
    FROM reviewapp_opinion o
   WHERE o.created_at >= %(since)s
     AND (SELECT r.reviewer_id FROM reviewapp_review r WHERE r.id = o.review_id)
         IS DISTINCT FROM o.reviewer_id
  UNION ALL
  SELECT a.reviewer_id, k.finding_id, a.created_at, 'k' || a.id
    FROM reviewapp_knownattempt a JOIN reviewapp_knownanswer k ON k.id = a.known_id
   WHERE a.created_at >= %(since)s
), acts AS (
  SELECT g.reviewer_id, max(g.created_at) AS at, count(*) AS n FROM given g
   WHERE (SELECT f.dataset_id FROM reviewapp_finding f WHERE f.id = g.finding_id)
         = %(dataset)s
   GROUP BY g.reviewer_id, g.act
), timed AS (
  SELECT *, extract(epoch FROM at - lag(at) OVER (
              PARTITION BY reviewer_id ORDER BY at))::float8 AS gap
    FROM acts
), counted AS (
  SELECT *, CASE WHEN gap <= %(break)s THEN gap END AS work FROM timed
)
SELECT reviewer_id,
       coalesce(sum(n) FILTER (WHERE at >= %(midnight)s), 0)::int, sum(n)::int,
       coalesce(sum(n) FILTER (WHERE work IS NOT NULL), 0)::int,
       coalesce(sum(work), 0), percentile_cont(0.5) WITHIN GROUP (ORDER BY work / n),
       count(work)::int, coalesce(sum(work * work), 0), coalesce(sum(work * n), 0),
       coalesce(sum(n * n) FILTER (WHERE work IS NOT NULL), 0)::float8
  FROM counted GROUP BY GROUPING SETS ((reviewer_id), ())
"""


def pace_of(dataset: Dataset) -> Pace:
    """Return how fast all people together are."""
    return _paces(dataset)[1]


def _paces(dataset: Dataset) -> tuple[dict[int, Pace], Pace]:
    """Return each person's pace by id, and that of all together."""
    now = timezone.localtime()
    with connection.cursor() as cursor:
        cursor.execute(
            PACE,
            {
                "dataset": dataset.pk,
                "since": now - timedelta(days=DAYS),
                "midnight": now.replace(hour=0, minute=0, second=0, microsecond=0),
                "break": BREAK,
            },
        )
        rows = {row[0]: _pace(*row[1:]) for row in cursor.fetchall()}
    return rows, rows.pop(None, Pace())


def _pace(
    today: int,
    week: int | None,
    timed: int,
    seconds: float,
    median: float | None,
    acts: int,
    squares: float,
    products: float,
    sizes: float,
) -> Pace:
    # The error of a ratio of sums (Cochran 1977, section 6.4), with the acts as sample.
    error = 0.0
    if acts > 1 and timed:
        ratio = seconds / timed
        residuals = squares - 2 * ratio * products + ratio * ratio * sizes
        error = math.sqrt(max(0.0, residuals) * acts / (acts - 1)) / timed
    return Pace(today, week or 0, timed, seconds, median, error)


def _holdings(dataset: Dataset) -> dict[int, Holding]:
    rows = (
        Claim.objects.filter(finding__dataset=dataset, expires_at__gt=timezone.now())
        .values_list("reviewer")
        .annotate(n=Count("id"), until=Max("expires_at"))
        .order_by()
    )
    return {reviewer: Holding(n, until) for reviewer, n, until in rows}


def _left(dataset: Dataset, total: Pace) -> Left:
    waiting = Standing.objects.for_dataset(dataset).waiting_by_kind()
    findings = Finding.objects.for_dataset(dataset)
    label = in_lane(findings.waiting(), dataset, Lane.LABEL)
    set_aside = count_set_aside(dataset, COUNTED)
    errors = waiting.get((dataset.pk, Finding.Kind.MISCLASSIFIED), 0)
    near_misses = waiting.get((dataset.pk, Finding.Kind.NEAR_MISS), 0)
    each = total.each
    work = each and each.times((errors + near_misses) * _judges(dataset))
    return Left(
        errors=errors,
        near_misses=near_misses,
        label=label.count_up_to(COUNTED + 1),
        flagged=set_aside.flagged,
        disputed=set_aside.disputed,
        work=work,
        days=work and work.times(DAYS / total.seconds),
    )


def _judges(dataset: Dataset) -> float:
    """Return how many verdicts a finding takes on average."""
    return 1 + dataset.overlap_share * (dataset.overlap - 1)
