"""Handing findings out, and recording verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from reviewapp.actions.confusions import update_ledger
from reviewapp.exceptions import FindingChanged, FindingHeld, NotAllowed, Refused
from reviewapp.models import (
    Cause,
    Claim,
    Dataset,
    Finding,
    Label,
    Review,
    Sample,
    Skip,
    Undo,
    Verdict,
)
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet


def claim(
    *, queue: FindingQuerySet, by: User, limit: int | None = None
) -> list[Finding]:
    """Hand out the next findings of a queue to a reviewer, theirs alone until expiry.

    Asking again gives what the reviewer holds already, unless harder ones came free;
    `SKIP LOCKED` lets two reviewers ask at the same time and get different ones.

    Args:
        queue: Waiting findings, e.g. `Finding.objects.for_dataset(d).waiting()`.
        by: The reviewer.
        limit: How many to hold at once; default `CLAIM_BATCH`.

    Returns:
        The findings, hardest first.
    """
    limit = limit or settings.CLAIM_BATCH
    expires_at = timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)
    with transaction.atomic():
        free = (
            queue.waiting()
            .not_held_by_others(by)
            .not_skipped_by(by)
            .hardest_first()
            .select_for_update(skip_locked=True, of=("self",))
        )
        findings = list(free[:limit])
        _hold([finding.pk for finding in findings], by, expires_at)
        held = set(
            Claim.objects.filter(
                reviewer=by, finding__in=findings, expires_at=expires_at
            ).values_list("finding_id", flat=True)
        )
    return [finding for finding in findings if finding.pk in held]


def _hold(finding_ids: Sequence[int], by: User, expires_at: datetime) -> None:
    # A claim committed between the read and this write wins: it is not expired.
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO reviewapp_claim AS c (finding_id, reviewer_id, expires_at)
            SELECT id, %s, %s FROM unnest(%s::bigint[]) id
            ON CONFLICT (finding_id) DO UPDATE
               SET reviewer_id = excluded.reviewer_id, expires_at = excluded.expires_at
             WHERE c.reviewer_id = excluded.reviewer_id OR c.expires_at <= now()
            """,
            [by.pk, expires_at, list(finding_ids)],
        )


def release(*, dataset: Dataset, by: User) -> int:
    """Give back everything the reviewer holds on a data set; return how many."""
    deleted, _ = Claim.objects.filter(reviewer=by, finding__dataset=dataset).delete()
    return deleted


def skip(*, finding: Finding, by: User) -> None:
    """Put a finding off: it goes back, and comes to this reviewer last."""
    with transaction.atomic():
        Skip.objects.get_or_create(finding=finding, reviewer=by)
        Claim.objects.filter(finding=finding, reviewer=by).delete()


def forget_skips(*, queue: QuerySet[Finding], by: User) -> int:
    """Bring what the reviewer skipped in a queue back; return how many."""
    deleted, _ = Skip.objects.filter(finding__in=queue, reviewer=by).delete()
    return deleted


def decide(
    *,
    finding: Finding,
    by: User,
    verdict: Verdict,
    version: int,
    new_label: Label | None = None,
    causes: Sequence[str] = (),
    note: str = "",
) -> Review:
    """Record a verdict on the version of the finding that the reviewer saw.

    A relabel corrects the sample's label at once; the source keeps the original.

    Raises:
        FindingChanged: The finding is another version now; says what changed.
        FindingHeld: Another reviewer holds it.
        Refused: The verdict is incomplete or contradicts itself.
    """
    _check_verdict(finding, verdict, new_label, causes)
    with transaction.atomic():
        locked = _lock(finding.pk)
        _check_unchanged(locked, by, version)
        label_before = locked.sample.label
        superseded = _relabel(locked, new_label) if new_label else []
        review = Review.objects.create(
            finding=locked,
            finding_version=version,
            reviewer=by,
            verdict=verdict,
            label_before=label_before,
            superseded=superseded,
            new_label=new_label,
            state_before=locked.review_state,
            causes=list(dict.fromkeys(causes)),
            note=note.strip(),
        )
        _move(locked, verdict.review_state)
        Claim.objects.filter(finding=locked).delete()
        Skip.objects.filter(finding=locked, reviewer=by).delete()
    return review


def _check_verdict(
    finding: Finding, verdict: Verdict, new_label: Label | None, causes: Sequence[str]
) -> None:
    unknown = sorted(set(causes) - set(Cause.values))
    if unknown:
        raise Refused(f"Unknown cause: {', '.join(unknown)}.")
    if verdict is not Verdict.RELABEL:
        if new_label:
            raise Refused("Only the verdict relabel takes a new label.")
        return
    if new_label is None:
        raise Refused("Choose the label that is right.")
    if new_label.dataset_id != finding.dataset_id or new_label.index is None:
        raise Refused(f"{new_label} is not a class of this data set.")
    if new_label.pk == finding.true_label_id:
        raise Refused(f"The label is {new_label} already. Confirm it instead.")


def _check_unchanged(finding: Finding, by: User, version: int) -> None:
    holder = (
        Claim.objects.filter(finding=finding, expires_at__gt=timezone.now())
        .exclude(reviewer=by)
        .select_related("reviewer")
        .first()
    )
    if holder:
        raise FindingHeld(
            f"{holder.reviewer} is looking at this finding until "
            f"{timezone.localtime(holder.expires_at):%H:%M}. Your verdict was not recorded."
        )
    if finding.version != version:
        raise FindingChanged(
            f"{_what_changed(finding, version)} Your verdict was not recorded. Look "
            "at the finding as it is now."
        )
    if finding.sample.label_id != finding.true_label_id:
        raise FindingChanged(
            f"The label of this image is {finding.sample.label} now, no longer "
            f"{finding.true_label}. Your verdict was not recorded."
        )


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


def _lock(finding_id: int) -> Finding:
    """Lock a finding behind its sample, so that verdicts on one image take turns.

    Always the sample first: two relabels of one image would otherwise wait for each
    other's finding.
    """
    Sample.objects.select_for_update().get(findings=finding_id)
    return (
        Finding.objects.select_for_update(of=("self",))
        .select_related("sample__label", "true_label", "registered_model", "dataset")
        .get(pk=finding_id)
    )


def _relabel(finding: Finding, label: Label) -> list[list[Any]]:
    """Correct the sample's label and put its other findings aside.

    Returns:
        [finding id, presence before] of what was put aside.
    """
    Sample.objects.filter(pk=finding.sample_id).update(label=label)
    others = (
        Finding.objects.present()
        .filter(sample=finding.sample_id)
        .exclude(pk=finding.pk)
        .exclude(true_label=label)
    )
    before = [[pk, presence] for pk, presence in others.values_list("pk", "presence")]
    _set_presence([[pk, Finding.Presence.SUPERSEDED] for pk, _ in before])
    return before


def _set_presence(wanted: Sequence[Sequence[Any]]) -> None:
    """Give findings a presence, as [finding id, presence], and tell the ledger."""
    for pk, presence in wanted:
        Finding.objects.filter(pk=pk).update(
            presence=presence, version=F("version") + 1
        )
    moved = Finding.objects.filter(pk__in=[pk for pk, _ in wanted]).order_by("pk")
    for finding in moved.select_related("dataset", "registered_model"):
        _tell_ledger(finding)


def _move(finding: Finding, state: str) -> None:
    finding.review_state = state
    finding.version += 1
    finding.reopened_because = ""
    finding.save(update_fields=["review_state", "version", "reopened_because"])
    _tell_ledger(finding)


def _tell_ledger(finding: Finding) -> None:
    if finding.kind == Finding.Kind.MISCLASSIFIED:
        update_ledger(
            dataset=finding.dataset,
            model=finding.registered_model,
            pairs=[(finding.true_label_id, finding.predicted_label_id)],
        )


def last_review(*, dataset: Dataset, by: User) -> Review | None:
    """Return the reviewer's last standing verdict on a data set."""
    return Review.objects.for_dataset(dataset).by(by).standing().newest_first().first()


def undo(*, review: Review, by: User) -> Finding:
    """Take a verdict back; the finding and the label are as they were before it.

    Raises:
        NotAllowed: It is somebody else's verdict.
        FindingChanged: The finding got another verdict, or the label was changed, since.
        Refused: It was undone already.
    """
    if review.reviewer_id != by.pk:
        raise NotAllowed("Only the reviewer who gave a verdict can undo it.")
    with transaction.atomic():
        finding = _lock(review.finding_id)
        if Undo.objects.filter(review=review).exists():
            raise Refused("This verdict was undone already.")
        later = Review.objects.standing().filter(finding=finding, pk__gt=review.pk)
        if later.exists():
            raise FindingChanged(
                "The finding got another verdict since. Undo that first."
            )
        if review.new_label_id:
            _restore_label(finding, review)
        Undo.objects.create(review=review, by=by)
        _move(finding, review.state_before)
        record("verdict undone", review, dataset=finding.dataset, actor=by)
    return finding


def _restore_label(finding: Finding, review: Review) -> None:
    if finding.sample.label_id != review.new_label_id:
        raise FindingChanged(
            f"The label was changed to {finding.sample.label} since. Undo that first."
        )
    Sample.objects.filter(pk=finding.sample_id).update(label=review.label_before_id)
    # What a scan or a registration has settled since stays as they left it.
    still_aside = set(
        Finding.objects.filter(
            pk__in=[pk for pk, _ in review.superseded],
            presence=Finding.Presence.SUPERSEDED,
        ).values_list("pk", flat=True)
    )
    _set_presence([[pk, was] for pk, was in review.superseded if pk in still_aside])
