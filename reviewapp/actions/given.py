"""A person's own verdicts, whatever each was recorded as."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from reviewapp.actions.known import as_new
from reviewapp.actions.reviews import last_reviews
from reviewapp.models import (
    Dataset,
    Finding,
    KnownAttempt,
    Label,
    Opinion,
    Review,
    Verdict,
)

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from reviewapp.models import User

Kind = Literal["review", "opinion", "attempt"]

LISTED = 50  # of one's own verdicts
MOMENT = "%Y%m%dT%H%M%S.%f"  # to the microsecond, in UTC


@dataclass(frozen=True, slots=True)
class GivenRow:
    """One of a person's verdicts in their own list, whatever it was recorded as."""

    kind: Kind
    pk: int
    finding: Finding
    verdict: Verdict
    new_label: Label | None
    reason: str
    causes: list[str]
    note: str
    batch: UUID | None
    key: UUID | None
    created_at: datetime
    is_undone: bool

    @property
    def name(self) -> str:
        """Return what names it in a page, and does not tell what it was recorded as."""
        return f"{self.finding.pk}-{self.created_at.astimezone(UTC):{MOMENT}}"


def last_given(*, dataset: Dataset, by: User, limit: int = LISTED) -> list[GivenRow]:
    """Return a person's own verdicts on a data set, undone ones too, newest first."""
    reviews = last_reviews(dataset=dataset, by=by, limit=limit)
    opinions, attempts = _blind(dataset, by)
    return _rows(reviews, opinions[:limit], attempts[:limit])[:limit]


def _blind(
    dataset: Dataset, by: User
) -> tuple[QuerySet[Opinion], QuerySet[KnownAttempt]]:
    opinions = Opinion.objects.for_dataset(dataset).by(by).with_names().newest_first()
    attempts = KnownAttempt.objects.for_dataset(dataset).by(by).with_names()
    # An opinion that settled the finding is among the reviews.
    return opinions.exclude(review__reviewer=by), attempts.newest_first()


def _rows(
    reviews: Iterable[Review],
    opinions: Iterable[Opinion],
    attempts: Iterable[KnownAttempt],
) -> list[GivenRow]:
    rows = [
        *(_row("review", one, one.finding) for one in reviews),
        *(_row("opinion", one, one.finding) for one in opinions),
        *(_row("attempt", one, as_new(one.known.finding)) for one in attempts),
    ]
    return sorted(rows, key=lambda row: row.created_at, reverse=True)


def _row(
    kind: Kind, given: Review | Opinion | KnownAttempt, finding: Finding
) -> GivenRow:
    return GivenRow(
        kind=kind,
        pk=given.pk,
        finding=finding,
        verdict=Verdict(given.verdict),
        new_label=given.new_label,
        reason=given.reason,
        causes=given.cause_labels,
        note=given.note,
        batch=getattr(given, "batch", None),
        key=given.key,
        created_at=given.created_at,
        is_undone=isinstance(given, Review) and given.undone is not None,
    )


def last_standing(*, dataset: Dataset, by: User) -> GivenRow | None:
    """Return a person's last verdict on a data set that was not undone."""
    reviews = Review.objects.for_dataset(dataset).by(by).standing().newest_first()
    opinions, attempts = _blind(dataset, by)
    found = _rows(reviews.with_names_apart()[:1], opinions[:1], attempts[:1])
    return found[0] if found else None


def count_given(*, by: User, since: datetime) -> int:
    """Count a person's verdicts on all data sets since a moment that stand."""
    reviews = Review.objects.by(by).since(since).standing().order_by()
    opinions = Opinion.objects.by(by).filter(created_at__gte=since).order_by()
    # An opinion that settled the finding is among the reviews.
    blind = opinions.exclude(review__reviewer=by)
    attempts = KnownAttempt.objects.by(by).filter(created_at__gte=since).order_by()
    return sum(rows.count() for rows in (reviews, blind, attempts))
