"""What looks nearly the same as a finding that just got its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reviewapp.models import Finding, Review, Verdict
from reviewapp.rows import fetch

if TYPE_CHECKING:
    from reviewapp.models import User

OFFERED = 12


@dataclass(frozen=True, slots=True)
class Offer:
    """A verdict, and the findings that may get the same."""

    review: Review
    findings: list[Finding]

    @property
    def verdict(self) -> str:
        """Return the verdict in words: "relabel to Coat"."""
        label = self.review.new_label
        return f"{self.review.verdict} to {label}" if label else self.review.verdict


def waiting_like(finding: Finding, user: User, limit: int = OFFERED) -> list[Finding]:
    """Return waiting findings of nearly identical images, the most alike first.

    What others hold is left out, and so are other findings of the same image.
    """
    alike: dict[int, int] = dict(fetch(ALIKE, [finding.sample_id]))
    if not alike:
        return []
    found = (
        Finding.objects.for_dataset(finding.dataset)
        .waiting()
        .not_held_by_others(user)
        .filter(sample__in=alike)
        .with_names()
    )
    return sorted(found, key=lambda f: (alike[f.sample_id], f.pk))[:limit]


# As text: at every verdict, and nearly always there is none.
ALIKE = "SELECT other_id, distance FROM reviewapp_lookalike WHERE sample_id = %s"


def offer_for(review: Review, user: User) -> Offer | None:
    """Return what may get the same verdict as this review; None: there is nothing.

    Confirm and relabel speak of the label, so they carry over only to the same label
    (and relabel to the same confusion); dismiss and flag to any.
    """
    alike = waiting_like(review.finding, user)
    found = [finding for finding in alike if _carries(review, finding)]
    return Offer(review, found) if found else None


def _carries(review: Review, finding: Finding) -> bool:
    decided = review.finding
    if review.verdict == Verdict.RELABEL:
        return (finding.true_label_id, finding.predicted_label_id) == (
            review.label_before_id,
            decided.predicted_label_id,
        )
    if review.verdict == Verdict.CONFIRM:
        return finding.true_label_id == decided.true_label_id
    return True
