"""Handing findings out: each is one reviewer's alone until the claim expires."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from reviewapp.actions.orders import next_ids
from reviewapp.actions.standings import fold_a_few
from reviewapp.models import Claim, Dataset, Finding, Skip
from reviewapp.rows import fetch, waiting_findings

if TYPE_CHECKING:
    from reviewapp.actions.queues import Queue
    from reviewapp.models import User

TRIES = 4  # each looks four times as far as the one before


def claim(
    *,
    queue: Queue,
    by: User,
    limit: int | None = None,
    without: Collection[int] = (),
    ahead: int = 0,
) -> list[Finding]:
    """Hand out the next findings of a queue to a reviewer, theirs alone until expiry.

    First what the reviewer holds of the queue already, then the next in its order.
    Reviewers who ask at the same time get different ones.

    Args:
        queue: Where the findings come from.
        by: The reviewer.
        limit: How many to hand out at once; default `CLAIM_BATCH`.
        without: Ids of what the reviewer has before them already: it counts, but is not
            loaded again.
        ahead: How many more to hold for the next times, while many more are free:
            looking for the next is most of the work.

    Returns:
        The findings with their names, in the order in which they were handed out.
    """
    limit = limit or settings.CLAIM_BATCH
    fold_a_few()
    ids = _held(queue, by, limit)
    for step in range(TRIES):
        missing = limit - len(ids)
        if missing <= 0:
            break
        look = 4 ** (step + 1) * missing + ahead
        found = next_ids(queue, by, look)
        is_plenty = len(found) == look
        got = _hold(found, by, missing + ahead if is_plenty else missing)
        # A page that is left gives back at the same moment what was just read as held.
        ids += [pk for pk in got if pk not in ids]
        if not is_plenty and len(got) == len(found):  # nothing more is free
            break
    wanted = [pk for pk in ids[:limit] if pk not in without]
    # Read after they are held: one that was decided meanwhile does not wait any more.
    by_id = waiting_findings(wanted)
    return [by_id[pk] for pk in wanted if pk in by_id]


def _held(queue: Queue, by: User, limit: int) -> list[int]:
    """Return what a reviewer holds of a queue, in the order of the claims."""
    rows = fetch(HELD, [by.pk, queue.dataset.pk, queue.lane.kind.value])
    ids: list[int] = [pk for (pk,) in rows]
    if not ids or queue.is_whole:
        return ids[:limit]
    of_queue = set(queue.findings.filter(pk__in=ids).values_list("pk", flat=True))
    return [pk for pk in ids if pk in of_queue][:limit]


# As text: at every verdict. A reviewer holds few; a filter is asked about those alone.
HELD = """
SELECT f.id FROM reviewapp_claim c JOIN reviewapp_finding f ON f.id = c.finding_id
 WHERE c.reviewer_id = %s AND c.expires_at > now() AND f.dataset_id = %s
   AND f.kind = %s AND f.review_state = 'open' AND f.presence IN ('seen', 'regressed')
 ORDER BY c.id
"""


def hold(*, findings: Sequence[int], by: User) -> set[int]:
    """Hold these waiting findings, by id, if nobody else does; return what is held."""
    return set(_hold(findings, by, len(findings)))


def claim_one(*, finding: Finding, by: User) -> bool:
    """Hold one waiting finding if nobody else does; return whether it is held."""
    return bool(_hold([finding.pk], by, 1))


def _hold(finding_ids: Sequence[int], by: User, limit: int) -> list[int]:
    """Hold the first of these findings that are free; return their ids in that order."""
    if not finding_ids:
        return []
    expires_at = timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)
    values: dict[str, Any] = {
        "ids": list(finding_ids),
        "limit": limit,
        "by": by.pk,
        "expires_at": expires_at,
    }
    held = {pk for (pk,) in fetch(HOLD, values)}
    return [pk for pk in finding_ids if pk in held]


# A verdict locks its finding: SKIP LOCKED leaves that one out, and what another reviewer
# is taking at this moment. A claim that is committed meanwhile wins: it is not expired.
# One that is taken over counts as new, as claims are handed out by their ids.
HOLD = """
WITH free AS (
  SELECT f.id
    FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS w (id, place)
    JOIN reviewapp_finding f ON f.id = w.id
   WHERE f.review_state = 'open' AND f.presence IN ('seen', 'regressed')
     AND NOT EXISTS (SELECT FROM reviewapp_claim c
                      WHERE c.finding_id = f.id AND c.expires_at > now()
                        AND c.reviewer_id <> %(by)s)
   ORDER BY w.place LIMIT %(limit)s
     FOR NO KEY UPDATE OF f SKIP LOCKED
)
INSERT INTO reviewapp_claim AS c (finding_id, reviewer_id, expires_at)
SELECT id, %(by)s, %(expires_at)s FROM free
ON CONFLICT (finding_id) DO UPDATE
   SET reviewer_id = excluded.reviewer_id, expires_at = excluded.expires_at,
       id = CASE WHEN c.reviewer_id = excluded.reviewer_id THEN c.id ELSE excluded.id END
 WHERE c.reviewer_id = excluded.reviewer_id OR c.expires_at <= now()
RETURNING finding_id
"""


def renew(*, dataset: Dataset, by: User) -> int:
    """Extend what the reviewer holds on a data set and return how many.

    What has expired, but was not taken over, is held again.
    """
    expires_at = timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)
    with transaction.atomic():
        held = Claim.objects.filter(pk__in=_mine(dataset, by))
        return held.update(expires_at=expires_at)


def release(*, dataset: Dataset, by: User) -> int:
    """Give back everything the reviewer holds on a data set; return how many."""
    with transaction.atomic():
        deleted, _ = Claim.objects.filter(pk__in=_mine(dataset, by)).delete()
        return deleted


def _mine(dataset: Dataset, by: User) -> list[int]:
    """Lock what the reviewer holds; what a verdict or another tab has just now is left.

    Waiting for each other's claims, two tabs could wait for ever.
    """
    mine = Claim.objects.filter(reviewer=by, finding__dataset=dataset)
    free = mine.select_for_update(of=("self",), skip_locked=True)
    return list(free.values_list("pk", flat=True))


def skip(*, finding: Finding, by: User) -> None:
    """Put a finding off: it goes back, and comes to this reviewer last."""
    with transaction.atomic():
        Skip.objects.get_or_create(finding=finding, reviewer=by)
        Claim.objects.filter(finding=finding, reviewer=by).delete()


def forget_skips(*, queue: Queue, by: User) -> int:
    """Bring what the reviewer skipped in a queue back; return how many."""
    waiting = queue.findings.waiting()
    deleted, _ = Skip.objects.filter(finding__in=waiting, reviewer=by).delete()
    return deleted
