"""Findings under a verdict: locked, checked and moved, one or a hundred of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from reviewapp.actions.confusions import tell_ledger
from reviewapp.exceptions import FindingChanged, FindingHeld, HardmineError
from reviewapp.models import Finding, Review
from reviewapp.rows import fetch, findings_with_claims

if TYPE_CHECKING:
    from reviewapp.models import Claim, User


def lock_findings(finding_ids: Sequence[int]) -> dict[int, Finding]:
    """Lock findings behind their samples and load them with what a verdict asks for.

    Always the sample first, so that verdicts on one image take turns: two relabels of
    it would otherwise wait for each other's finding.

    Returns:
        Id -> finding, without those that are gone.
    """
    fetch(LOCK, [list(finding_ids)])
    # Read after the locks: what another verdict has just committed is seen.
    return findings_with_claims(finding_ids)


LOCK = """
SELECT f.id FROM reviewapp_finding f JOIN reviewapp_sample s ON s.id = f.sample_id
 WHERE f.id = ANY(%s::bigint[]) ORDER BY s.id, f.id FOR NO KEY UPDATE OF s, f
"""


def lock_finding(finding_id: int) -> Finding:
    """Lock one finding behind its sample.

    Raises:
        FindingChanged: It was removed.
    """
    found = lock_findings([finding_id]).get(finding_id)
    if found is None:
        raise FindingChanged(
            "The finding was removed meanwhile. Your verdict was not recorded."
        )
    return found


def check_free(finding: Finding, by: User, version: int) -> None:
    """Raise what `why_not` has against a verdict."""
    if refusal := why_not(finding, by, version):
        raise refusal


def why_not(finding: Finding, by: User, version: int) -> HardmineError | None:
    """Return why a locked finding cannot get this reviewer's verdict; None: it can."""
    holder: Claim | None = getattr(finding, "claim", None)
    if holder and holder.reviewer_id != by.pk and holder.expires_at > timezone.now():
        return FindingHeld(
            f"{holder.reviewer} is looking at this finding until "
            f"{timezone.localtime(holder.expires_at):%H:%M}. Your verdict was not recorded."
        )
    if finding.version != version:
        return FindingChanged(
            f"{_what_changed(finding, version)} Your verdict was not recorded. Look "
            "at the finding as it is now."
        )
    if finding.sample.label_id != finding.true_label_id:
        return FindingChanged(
            f"The label of this image is {finding.sample.label} now, no longer "
            f"{finding.true_label}. Your verdict was not recorded."
        )
    return None


def _what_changed(finding: Finding, version: int) -> str:
    later = (
        Review.objects.standing()
        .filter(finding=finding, finding_version__gte=version)
        .select_related("reviewer", "new_label")
        .newest_first()
        .first()
    )
    if later:
        to = f" to {later.new_label}" if later.new_label else ""
        return f"{later.reviewer} gave the verdict {later.verdict}{to} meanwhile."
    if finding.reopened_because:
        return f"The finding was opened again: {finding.reopened_because}."
    return f"The finding changed meanwhile: it is {finding.review_state} again."


def move_findings(
    findings: Sequence[Finding], states: Mapping[int, str], presences: Mapping[int, str]
) -> None:
    """Give findings a review state, or others a presence, by id, and tell the ledger.

    Args:
        findings: The locked findings that get a state; they are brought up to date.
        states: Finding id -> review state.
        presences: Id -> presence of other findings, that are put aside or taken back.
    """
    ids = [*states, *presences]
    values: dict[str, Any] = {
        "ids": ids,
        "states": [states.get(pk) for pk in ids],
        "presences": [presences.get(pk) for pk in ids],
    }
    moved = fetch(MOVE, values)
    for finding in findings:
        finding.review_state = states[finding.pk]
        finding.reopened_because = ""
        finding.version += 1
    known = {f.registered_model_id: f.registered_model for f in findings}
    tell_ledger(dataset=findings[0].dataset, pairs=moved, models=known)


MOVE = """
UPDATE reviewapp_finding f
   SET review_state = coalesce(n.state, f.review_state),
       presence = coalesce(n.presence, f.presence),
       reopened_because = CASE WHEN n.state IS NULL THEN f.reopened_because ELSE '' END,
       version = f.version + 1
  FROM unnest(%(ids)s::bigint[], %(states)s::text[], %(presences)s::text[])
       AS n (id, state, presence)
 WHERE f.id = n.id
RETURNING f.registered_model_id, f.true_label_id, f.predicted_label_id
"""
