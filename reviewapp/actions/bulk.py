"""One verdict on many findings, given as one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from django.db import transaction

from reviewapp.actions.opinions import give_verdict, is_plain
from reviewapp.actions.reviews import (
    Decision,
    check_decision,
    lock_findings,
    record_verdicts,
    why_not,
)
from reviewapp.exceptions import HardmineError, Refused
from reviewapp.models import Claim, Dataset, Finding, Review, Skip

if TYPE_CHECKING:
    from reviewapp.models import User

HALF = 64  # bits of a key that name the batch; the others name the finding


@dataclass(frozen=True, slots=True)
class Bulk:
    """What came of one verdict on many findings."""

    decided: list[int]  # finding ids
    refused: list[tuple[int, str]]  # (finding id, why)
    batch: UUID | None  # None: it was no verdict


def key_of(batch: UUID, finding_id: int) -> UUID:
    """Return the key of a verdict that is given alone, but within a batch.

    >>> key_of(UUID(int=7 << 64), 5)
    UUID('00000000-0000-0007-0000-000000000005')
    """
    return UUID(int=batch.int >> HALF << HALF | finding_id)


def decide_many(
    *,
    dataset: Dataset,
    by: User,
    findings: Sequence[tuple[int, int]],
    decision: Decision,
) -> Bulk:
    """Give one verdict on many findings; what is refused leaves the others.

    The same key again changes nothing and gives the same answer. What takes blind
    opinions, has a known answer or is decided already goes through `give_verdict`.

    Args:
        dataset: Findings of others are refused.
        by: The reviewer.
        findings: (finding id, the version that the reviewer saw).
        decision: Its `version` says nothing here.

    Returns:
        What was decided and what was refused, in the order of `findings`.

    Raises:
        Refused: The key was used for another verdict, or on another data set; nothing
            was recorded.
    """
    versions = dict(findings)
    batch = decision.key or uuid4()
    rows = Finding.objects.for_dataset(dataset).filter(pk__in=versions)
    known = {row.pk: row for row in rows.select_related("dataset", "sample")}
    why = {
        pk: "This finding is not there any more." for pk in versions if pk not in known
    }
    again = _given_before(dataset, by, versions, replace(decision, key=batch))
    new = {pk: versions[pk] for pk in known if pk not in again}
    plain = {pk: version for pk, version in new.items() if is_plain(known[pk])}
    why |= _decide_plain(dataset, by, plain, replace(decision, key=batch))
    for pk in (pk for pk in new if pk not in plain):
        alone = replace(decision, key=key_of(batch, pk), version=versions[pk])
        try:
            give_verdict(finding=known[pk], by=by, decision=alone)
        except HardmineError as error:
            why[pk] = str(error)
    return Bulk(
        decided=[pk for pk in versions if pk not in why],
        refused=[(pk, why[pk]) for pk in versions if pk in why],
        batch=batch,
    )


def skip_many(*, dataset: Dataset, by: User, findings: Collection[int]) -> Bulk:
    """Put findings off: they go back, and come to this reviewer last."""
    rows = Finding.objects.for_dataset(dataset).filter(pk__in=findings)
    ids = list(rows.order_by("pk").values_list("pk", flat=True))
    with transaction.atomic():
        skips = [Skip(finding_id=pk, reviewer=by) for pk in ids]
        Skip.objects.bulk_create(skips, ignore_conflicts=True)
        # What another request of theirs holds on to at this moment stays held: waiting
        # for it could end in a deadlock.
        claims = Claim.objects.filter(finding__in=ids, reviewer=by)
        free = claims.select_for_update(skip_locked=True).values_list("pk", flat=True)
        Claim.objects.filter(pk__in=list(free)).delete()
    return Bulk(decided=ids, refused=[], batch=None)


def _given_before(
    dataset: Dataset, by: User, findings: Collection[int], decision: Decision
) -> set[int]:
    """Return which of the findings this key has decided already."""
    earlier = Review.objects.by(by).filter(key=decision.key)
    # What is undone as one lies in one data set.
    columns = ("finding_id", "dataset", "verdict", "new_label")
    rows = list(earlier.values_list(*columns))
    given = (dataset.pk, decision.verdict, decision.new_label and decision.new_label.pk)
    if any(tuple(said) != given for _, *said in rows):
        raise Refused(
            "This verdict carries the key of another one that was recorded before. It "
            "was not recorded. Decide again."
        )
    return {finding_id for finding_id, *_ in rows}.intersection(findings)


def _decide_plain(
    dataset: Dataset, by: User, versions: dict[int, int], decision: Decision
) -> dict[int, str]:
    """Record a verdict on findings in a few statements; return id -> why it was not."""
    why: dict[int, str] = {}
    free: list[Finding] = []
    relabelled: set[int] = set()  # samples
    with transaction.atomic():
        locked = lock_findings(list(versions))
        # The same request twice at a time: the locks let one of them be the first.
        again = _given_before(dataset, by, versions, decision)
        for pk in (pk for pk in versions if pk not in again):
            refusal = _refusal(locked.get(pk), by, versions[pk], decision)
            if refusal is None and decision.new_label:
                if locked[pk].sample_id in relabelled:
                    refusal = "Its image has got the new label by another finding."
                relabelled.add(locked[pk].sample_id)
            if refusal is None:
                free.append(locked[pk])
            else:
                why[pk] = refusal
        if free:
            free.sort(key=lambda finding: finding.pk)
            record_verdicts(findings=free, by=by, decision=decision, batch=decision.key)
    return why


def _refusal(
    finding: Finding | None, by: User, version: int, decision: Decision
) -> str | None:
    if finding is None:
        return "This finding was removed meanwhile."
    try:
        check_decision(finding, decision)
    except HardmineError as error:
        return str(error)
    refusal = why_not(finding, by, version)
    return str(refusal) if refusal else None
