"""What waits for a second opinion: flagged findings, and disputes for leads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from reviewapp.actions.teams import leads_of, may_settle
from reviewapp.models import (
    Cause,
    Dataset,
    DismissReason,
    Finding,
    Label,
    Opinion,
    Review,
    Verdict,
)
from reviewapp.pagination import Page, keyset_page

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet

SHOWN = 20
SETTLED = 10
ORDER = ("priority", "id")


@dataclass(frozen=True, slots=True)
class Voice:
    """What one person said of a finding."""

    name: str
    said: str  # the verdict in words
    causes: str
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Case:
    """One finding that waits for a second opinion."""

    finding: Finding
    voices: list[Voice]
    labels: list[Label]  # what a relabel is offered to
    is_own: bool  # one of the voices is who looks at it
    is_theirs: bool  # who looks at it may decide


@dataclass(frozen=True, slots=True)
class SetAside:
    """How many findings wait for a second opinion, each counted up to a bound."""

    flagged: int
    disputed: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A dispute that a lead has decided, with the names."""

    review: Review
    said: str
    voices: list[Voice]


def count_set_aside(dataset: Dataset, limit: int) -> SetAside:
    """Count what waits for a second opinion, both kinds up to `limit`."""
    findings = Finding.objects.for_dataset(dataset).filter(presence__in=Finding.PRESENT)
    states = Finding.ReviewState
    return SetAside(
        flagged=findings.filter(review_state=states.FLAGGED).count_up_to(limit),
        disputed=findings.filter(review_state=states.DISPUTED).count_up_to(limit),
    )


def flagged_findings(dataset: Dataset, after: str | None) -> Page[Finding]:
    """Return a page of the findings that are flagged for a second opinion."""
    return _page(dataset, Finding.ReviewState.FLAGGED, after)


def disputed_findings(dataset: Dataset, after: str | None) -> Page[Finding]:
    """Return a page of the findings whose reviewers do not agree."""
    return _page(dataset, Finding.ReviewState.DISPUTED, after)


def _page(
    dataset: Dataset, state: Finding.ReviewState, after: str | None
) -> Page[Finding]:
    rows: FindingQuerySet = (
        Finding.objects.for_dataset(dataset)
        .filter(review_state=state, presence__in=Finding.PRESENT)
        .with_names()
    )
    return keyset_page(rows, by=ORDER, after=after, size=SHOWN)


def as_flagged(findings: Sequence[Finding], user: User) -> list[Case]:
    """Return what is shown of flagged findings: who flagged them, and the notes."""
    flags = defaultdict(list)
    rows = Review.objects.standing().filter(finding__in=findings, verdict=Verdict.FLAG)
    for review in rows.select_related("reviewer").order_by("id"):
        flags[review.finding_id].append(review)
    own = {pk for pk, given in flags.items() if user.pk in _people(given)}
    return [
        Case(
            finding=finding,
            voices=[_voice(flag, str(flag.reviewer)) for flag in flags[finding.pk]],
            labels=_offered(finding, ()),
            is_own=finding.pk in own,
            is_theirs=finding.pk not in own,
        )
        for finding in findings
    ]


def as_disputed(findings: Sequence[Finding], user: User) -> list[Case]:
    """Return what is shown of disputed findings: each opinion, without its name."""
    opinions = defaultdict(list)
    rows = Opinion.objects.filter(finding__in=findings).last_round()
    for opinion in rows.select_related("new_label").order_by("id"):
        opinions[opinion.finding_id].append(opinion)
    leads = leads_of(findings[0].dataset) if findings else set()
    return [
        Case(
            finding=finding,
            voices=[
                _voice(opinion, f"Reviewer {place}")
                for place, opinion in enumerate(opinions[finding.pk], 1)
            ],
            labels=_offered(finding, opinions[finding.pk]),
            is_own=user.pk in _people(opinions[finding.pk]),
            is_theirs=may_settle(user.pk, _people(opinions[finding.pk]), leads),
        )
        for finding in findings
    ]


def _people(given: Iterable[Review | Opinion]) -> set[int]:
    return {one.reviewer_id for one in given}


def settled_disputes(dataset: Dataset) -> list[Settled]:
    """Return the disputes that were decided last, with who said what."""
    reviews = (
        Review.objects.for_dataset(dataset)
        .standing()
        .filter(state_before=Finding.ReviewState.DISPUTED)
        .with_names()
        .newest_first()
        .prefetch_related("opinions__reviewer", "opinions__new_label")
    )
    return [
        Settled(
            review=review,
            said=in_words(review),
            voices=[_voice(one, str(one.reviewer)) for one in review.opinions.all()],
        )
        for review in reviews[:SETTLED]
    ]


def in_words(given: Review | Opinion) -> str:
    """Return a verdict in words: "relabel to Coat", "dismiss, duplicate"."""
    words = Verdict(given.verdict).label
    if given.new_label:
        words += f" to {given.new_label}"
    return f"{words}, {DismissReason(given.reason).label}" if given.reason else words


def _voice(given: Review | Opinion, name: str) -> Voice:
    return Voice(
        name=name,
        said=in_words(given),
        causes=", ".join(Cause(cause).label for cause in given.causes),
        note=given.note,
        at=given.created_at,
    )


def _offered(finding: Finding, opinions: Iterable[Opinion]) -> list[Label]:
    """Return the labels a relabel is offered to: the opinions', and the prediction."""
    labels = [opinion.new_label for opinion in opinions if opinion.new_label]
    found = {label.pk: label for label in [*labels, finding.predicted_label]}
    return [
        label
        for pk, label in found.items()
        if pk != finding.true_label_id and label.index is not None
    ]
