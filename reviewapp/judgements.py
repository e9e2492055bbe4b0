"""How far the reviewers of a data set agree, from their blind opinions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from django.db import connection

from mining.agreement import Agreement, cohen_kappa, fleiss_kappa
from mining.statistics import Interval, wilson

if TYPE_CHECKING:
    from reviewapp.models import Dataset, User

OPINIONS = 500  # each person's last ones that are compared


@dataclass(frozen=True, slots=True)
class Score:
    """How many of several were right or the same, with its 95 % interval."""

    right: int
    of: int

    @property
    def share(self) -> float | None:
        """Return right / of, 0-1; None: there is none."""
        return self.right / self.of if self.of else None

    @property
    def interval(self) -> Interval:
        """Return Wilson's interval of the share."""
        return wilson(self.right, self.of)


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """How far two people agree."""

    one: str
    other: str
    verdict: Agreement
    label: Agreement


@dataclass(frozen=True, slots=True)
class Judgement:
    """One opinion as agreement sees it."""

    reviewer: int
    on: tuple[int, int]  # finding id and version
    verdict: str
    label: int | None  # id of the label that is right by it; None: it says none


def judgements_of(dataset: Dataset, people: Collection[int]) -> list[Judgement]:
    """Return each person's last opinions on a data set, from the reviewers' index."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT o.reviewer_id, o.finding_id, o.finding_version, o.verdict,
                   CASE o.verdict WHEN 'confirm' THEN f.true_label_id
                                  ELSE o.new_label_id END
              FROM unnest(%s::bigint[]) AS person (id)
             CROSS JOIN LATERAL (
               SELECT * FROM reviewapp_opinion
                WHERE reviewer_id = person.id ORDER BY created_at DESC LIMIT %s
             ) o
              JOIN reviewapp_finding f ON f.id = o.finding_id
             WHERE f.dataset_id = %s
            """,
            [list(people), OPINIONS, dataset.pk],
        )
        return [
            Judgement(reviewer, (finding, version), verdict, label)
            for reviewer, finding, version, verdict, label in cursor.fetchall()
        ]


def shared_ones(judgements: Iterable[Judgement]) -> list[list[Judgement]]:
    """Return the judgements of each finding that at least two people judged."""
    found = defaultdict(list)
    for judgement in judgements:
        found[judgement.on].append(judgement)
    return [sorted(on, key=lambda one: one.reviewer) for on in found.values() if on[1:]]


def same_by_person(shared: Iterable[Sequence[Judgement]]) -> dict[int, Score]:
    """Return reviewer id -> how often they agree with another on the same finding."""
    right: Counter[int] = Counter()
    of: Counter[int] = Counter()
    for one, other in (pair for on in shared for pair in combinations(on, 2)):
        is_same = (one.verdict, one.label) == (other.verdict, other.label)
        for reviewer in (one.reviewer, other.reviewer):
            of[reviewer] += 1
            right[reviewer] += is_same
    return {reviewer: Score(right[reviewer], n) for reviewer, n in of.items()}


def agreement_in(shared: Sequence[Sequence[Judgement]], field: str) -> Agreement:
    """Return Fleiss' kappa over a field of the judgements, "verdict" or "label"."""
    chosen = [Counter(getattr(one, field) for one in on) for on in shared]
    categories = sorted({name for counts in chosen for name in counts}, key=str)
    return fleiss_kappa([[counts[name] for name in categories] for counts in chosen])


def agreement_by_pair(
    shared: Iterable[Sequence[Judgement]], people: Mapping[int, User]
) -> list[PairAgreement]:
    """Return each two people who share a finding, those who share most first."""
    found = defaultdict(list)
    for one, other in (pair for on in shared for pair in combinations(on, 2)):
        found[one.reviewer, other.reviewer].append((one, other))
    pairs = [
        PairAgreement(
            one=people[one].username,
            other=people[other].username,
            verdict=cohen_kappa([(a.verdict, b.verdict) for a, b in both]),
            label=cohen_kappa([(a.label, b.label) for a, b in both]),
        )
        for (one, other), both in found.items()
    ]
    return sorted(pairs, key=lambda pair: (-pair.verdict.n, pair.one, pair.other))
