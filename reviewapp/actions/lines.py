"""A person's own verdicts as they gave them: what was given as one is one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

from reviewapp.actions.bulk import HALF
from reviewapp.actions.given import GivenRow, Kind, last_given, last_standing
from reviewapp.actions.opinions import take_back
from reviewapp.actions.undoing import undo_batch
from reviewapp.exceptions import HardmineError, Refused
from reviewapp.models import Dataset, Finding, KnownAttempt, Opinion, Review

if TYPE_CHECKING:
    from reviewapp.models import User

READ = 100  # rows of the first look; each further one goes four times as far
READ_AT_MOST = 1600


@dataclass(frozen=True, slots=True)
class Line:
    """Verdicts given as one, mostly one alone; the latest first."""

    rows: Sequence[GivenRow]

    @property
    def first(self) -> GivenRow:
        """Return the verdict that names the line."""
        return self.rows[0]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What came of taking a line back."""

    findings: list[Finding]  # as they are to be shown
    refused: list[tuple[int, str]]  # (finding id, why)


def last_lines(*, dataset: Dataset, by: User, limit: int = 50) -> list[Line]:
    """Return a person's last lines on a data set, newest first.

    What was undone is left out whatever it was recorded as: nothing is left of some.
    """
    look = READ
    while True:
        rows = last_given(dataset=dataset, by=by, limit=look)
        standing = (row for row in rows if not row.is_undone)
        lines = [Line(list(line)) for _, line in groupby(standing, key=_line_of)]
        # The last line may go on where the look ended.
        if len(lines) > limit or len(rows) < look or look >= READ_AT_MOST:
            return lines[:limit]
        look *= 4


def _line_of(row: GivenRow) -> tuple[str, int]:
    batch = _batch_of(row)
    return (row.kind, row.pk) if batch is None else ("batch", batch)


def _batch_of(row: GivenRow) -> int | None:
    return row.batch.int >> HALF if row.batch else _batch_in(row.key, row.finding.pk)


def _batch_in(key: UUID | None, finding_id: int) -> int | None:
    """Return what the keys of a batch have in common; None: it was given alone."""
    if key is None or key.int % (1 << HALF) != finding_id:
        return None
    return key.int >> HALF


def _batch_with(kind: Kind, pk: int, dataset: Dataset, by: User) -> int | None:
    found: tuple[UUID | None, int] | None
    if kind == "review":
        reviews = Review.objects.for_dataset(dataset).by(by).filter(pk=pk)
        # A batch of reviews has one key, which names the batch too.
        of_batch = reviews.filter(batch__isnull=False).values_list("batch", flat=True)
        if batch := of_batch.first():
            return batch.int >> HALF
        found = reviews.values_list("key", "finding_id").first()
    elif kind == "opinion":
        opinions = Opinion.objects.for_dataset(dataset).by(by).filter(pk=pk)
        found = opinions.values_list("key", "finding_id").first()
    else:
        attempts = KnownAttempt.objects.for_dataset(dataset).by(by).filter(pk=pk)
        found = attempts.values_list("key", "known__finding_id").first()
    if found is None:
        raise Refused("That verdict of yours is not there. Nothing was undone.")
    return _batch_in(*found)


def take_last_back(*, dataset: Dataset, by: User) -> TakenBack:
    """Take a person's last standing line on a data set back.

    Raises:
        HardmineError: There is none, or nothing of it can be taken back; says why.
    """
    last = last_standing(dataset=dataset, by=by)
    if last is None:
        raise Refused(f"You have no verdict on {dataset} that could be undone.")
    return take_line_back(kind=last.kind, pk=last.pk, dataset=dataset, by=by)


def kind_and_id(
    *, finding: int, at: datetime, dataset: Dataset, by: User
) -> tuple[Kind, int]:
    """Return which verdict a person gave on a finding at a moment.

    Raises:
        Refused: There is none of theirs, or nothing is left of it.
    """
    reviews = Review.objects.filter(finding=finding)
    opinions = Opinion.objects.filter(finding=finding)
    attempts = KnownAttempt.objects.filter(known__finding=finding)
    sources: tuple[tuple[Kind, Any], ...] = (
        ("review", reviews),
        ("opinion", opinions),
        ("attempt", attempts),
    )
    for kind, rows in sources:
        mine = rows.for_dataset(dataset).by(by).filter(created_at=at)
        if pk := mine.values_list("pk", flat=True).first():
            return kind, pk
    raise Refused("This verdict was undone already.")


def take_line_back(*, kind: Kind, pk: int, dataset: Dataset, by: User) -> TakenBack:
    """Take everything back that a person gave as one with this verdict.

    Args:
        kind: What the verdict was recorded as.
        pk: The id of that.
        dataset: Verdicts on others are not there.
        by: Who gave it.

    Raises:
        HardmineError: Nothing of it can be taken back; says why.
    """
    batch = _batch_with(kind, pk, dataset, by)
    if batch is None:
        return TakenBack([take_back(kind=kind, pk=pk, by=by)], [])
    return take_batch_back(batch=UUID(int=batch << HALF), dataset=dataset, by=by)


def is_batch_of(*, batch: UUID, dataset: Dataset, by: User) -> bool:
    """Whether a person gave verdicts on a data set under this batch."""
    return any(
        source.objects.for_dataset(dataset).by(by).filter(**_keys_of(batch)).exists()
        for source in (Review, Opinion, KnownAttempt)
    )


def take_batch_back(*, batch: UUID, dataset: Dataset, by: User) -> TakenBack:
    """Take everything back that a person gave as one on a data set.

    Raises:
        HardmineError: Nothing of it can be taken back; says why.
    """
    findings: list[Finding] = []
    refused: list[tuple[int, str]] = []
    keys = _keys_of(batch)
    reviews = Review.objects.for_dataset(dataset).by(by).standing().filter(**keys)
    for whole in {review.batch for review in reviews if review.batch}:
        undone = undo_batch(batch=whole, by=by)
        findings += undone.findings
        refused += undone.refused
    for kind, pk, finding_id in _given_alone(dataset, by, keys):
        try:
            findings.append(take_back(kind=kind, pk=pk, by=by))
        except HardmineError as error:
            refused.append((finding_id, str(error)))
    if not findings:
        why = refused[0][1] if refused else "It was undone already."
        raise Refused(f"Nothing was undone. {why}")
    return TakenBack(findings, refused)


def _keys_of(batch: UUID) -> dict[str, Any]:
    """Return the condition that finds the verdicts of a batch by their keys."""
    first = batch.int >> HALF << HALF
    return {"key__range": (UUID(int=first), UUID(int=first + (1 << HALF) - 1))}


def _given_alone(
    dataset: Dataset, by: User, keys: dict[str, Any]
) -> Iterator[tuple[Kind, int, int]]:
    """Yield (kind, id, finding id) of what a batch holds beside its plain reviews."""
    mine = Review.objects.for_dataset(dataset).by(by)
    reviews = mine.standing().filter(batch__isnull=True, **keys)
    for pk, finding_id in reviews.values_list("pk", "finding_id"):
        yield "review", pk, finding_id
    blind = Opinion.objects.for_dataset(dataset).by(by).filter(**keys)
    opinions = blind.exclude(review__reviewer=by)
    for pk, finding_id in opinions.values_list("pk", "finding_id"):
        yield "opinion", pk, finding_id
    attempts = KnownAttempt.objects.for_dataset(dataset).by(by).filter(**keys)
    for pk, finding_id in attempts.values_list("pk", "known__finding_id"):
        yield "attempt", pk, finding_id
