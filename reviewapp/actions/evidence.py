"""What a finished scan proves of the ledger's lines: the numbers that the rule asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from mining.evidence import Evidence, Paired, Seen, judge
from reviewapp.models import ConfusionCount, Scan

Pair = tuple[int, int]  # true label id, predicted label id


@dataclass(frozen=True, slots=True)
class Known:
    """A line of the ledger as a scan finds it.

    Attributes:
        present: Errors that the last scans still saw, this one included.
        claimed_at: When the first fix set that claims it was exported; None: none was.
        target: Most errors that would do; None: no target.
        evidence: What was proved before.
    """

    present: int
    claimed_at: datetime | None
    target: int | None
    evidence: Evidence


def evidence_of(
    *, scan: Scan, lines: Mapping[Pair, Known], counts: Mapping[Pair, int]
) -> dict[Pair, Evidence]:
    """Return what a scan that has just ended proves of the lines that it can judge.

    Call it inside the transaction that ends the scan, with the lines locked.

    Args:
        scan: The scan.
        lines: Those that are claimed, fixed, back, improving or without an error.
        counts: Errors of each pair in the scan.
    """
    # A model that does not know both classes says nothing of the pair.
    known = set(scan.classes)
    lines = {pair: line for pair, line in lines.items() if known.issuperset(pair)}
    if not lines:
        return {}
    support = scan.confusion_counts.support()
    zeros = _zeros(scan, lines, counts)
    paired = _paired(scan, _baselines(scan, lines, counts))
    cases: dict[Pair, tuple[Evidence, Seen]] = {}
    for pair, line in lines.items():
        count = counts.get(pair, 0)
        both = paired.get(pair)
        if both is None and not count and line.evidence.says == "fixed":
            both = _quiet(line.evidence, support.get(pair[0], 0))
        if both is None and not count and pair not in zeros:
            continue  # not covered
        cases[pair] = (
            line.evidence,
            Seen(
                scan=scan.pk,
                count=count,
                support=support.get(pair[0], 0),
                is_zero=pair in zeros,
                is_claimed=line.claimed_at is not None,
                target=line.target,
                paired=both,
            ),
        )
    return dict(zip(cases, judge(list(cases.values())), strict=True))


def _quiet(before: Evidence, support: int) -> Paired | None:
    """Return a fixed line of which a scan saw none: not read, it cannot be higher.

    Of one that was higher before, only a scan of the same samples says that it is over.
    """
    if before.proved_by is None or before.above_in_a_row or not support:
        return None
    return Paired(before.proved_by, support, 0, 0, 0, 0)


def _zeros(
    scan: Scan, lines: Mapping[Pair, Known], counts: Mapping[Pair, int]
) -> set[Pair]:
    """Return the lines without an error whose images the scan looked at."""
    gone = [
        pair
        for pair, line in lines.items()
        if not line.present and line.evidence.says != "fixed" and not counts.get(pair)
    ]
    if not gone:
        return set()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = on")
        cursor.execute(COVERED, _values(scan) | _columns(gone))
        return set(cursor.fetchall())


def _baselines(
    scan: Scan, lines: Mapping[Pair, Known], counts: Mapping[Pair, int]
) -> dict[Pair, Scan]:
    """Return the scan with which each line is compared.

    Of a fixed line it is the one that proved it, of others the last one before the fix
    was exported. One of another split has no sample in common and is passed over.
    """
    model = scan.model_version.registered_model
    earlier = [
        other
        for other in Scan.objects.for_dataset(scan.dataset)
        .of_model(model)
        .finished()
        .counted()
        .exclude(pk=scan.pk)
        .order_by("-id")
        .only("split", "created_at", "finished_at")
        if not (scan.split and other.split) or scan.split == other.split
    ]
    by_id = {other.pk: other for other in earlier}
    found: dict[Pair, Scan | None] = {}
    for pair, line in lines.items():
        before = line.evidence
        if before.says == "fixed":
            if counts.get(pair) or before.above_in_a_row:
                found[pair] = by_id.get(before.proved_by or 0)
        elif line.claimed_at:
            found[pair] = _last_before(line.claimed_at, earlier)
    chosen = {pair: baseline for pair, baseline in found.items() if baseline}
    # Of these alone: a year of scans may have many classes each.
    scans = Scan.objects.filter(pk__in={baseline.pk for baseline in chosen.values()})
    known = {pk: frozenset(ids) for pk, ids in scans.values_list("pk", "classes")}
    return {
        pair: baseline
        for pair, baseline in chosen.items()
        if known[baseline.pk].issuperset(pair)
    }


def _last_before(moment: datetime, newest_first: Collection[Scan]) -> Scan | None:
    return next(
        (s for s in newest_first if (s.finished_at or s.created_at) < moment), None
    )


def _paired(scan: Scan, baselines: Mapping[Pair, Scan]) -> dict[Pair, Paired]:
    """Return each line in both scans, but for those that share no sample of its label."""
    if not baselines:
        return {}
    earlier = {baseline.pk: baseline for baseline in baselines.values()}
    ids = list(earlier)
    values: dict[str, Any] = _values(scan) | _columns(list(baselines))
    values |= {
        "baselines": [baseline.pk for baseline in baselines.values()],
        "ids": ids,
        "splits": [earlier[pk].split for pk in ids],
        "scans": [*ids, scan.pk],
    }
    with connection.cursor() as cursor:
        # The planner knows no sizes here and may take thousands of rows for one.
        cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute(CHANGED, values)
        changed = {row[:2]: row[2:] for row in cursor.fetchall()}
        cursor.execute(SHARED, values)
        shared = {row[:2]: row[2] for row in cursor.fetchall()}
    totals: dict[int, int] = {}
    for (pk, _), n in shared.items():
        totals[pk] = totals.get(pk, 0) + n
    counts = _counts(ids, baselines)
    support = {pk: earlier[pk].confusion_counts.support() for pk in ids}
    return {
        pair: Paired(
            baseline=baseline.pk,
            samples=totals[baseline.pk],
            b=changed.get(pair, (0, 0))[0],
            c=changed.get(pair, (0, 0))[1],
            count=counts.get((baseline.pk, *pair), 0),
            support=support[baseline.pk].get(pair[0], 0),
        )
        for pair, baseline in baselines.items()
        if shared.get((baseline.pk, pair[0]))
    }


def _counts(
    scans: Collection[int], pairs: Collection[Pair]
) -> dict[tuple[int, int, int], int]:
    """Return (scan, true, predicted) -> errors."""
    rows = ConfusionCount.objects.filter(scan__in=scans).of_pairs(pairs)
    names = ("scan_id", "true_label_id", "predicted_label_id", "count")
    return {(scan, true, said): n for scan, true, said, n in rows.values_list(*names)}


def _values(scan: Scan) -> dict[str, Any]:
    return {
        "dataset": scan.dataset_id,
        "model": scan.model_version.registered_model_id,
        "scan": scan.pk,
        "split": scan.split,
    }


def _columns(pairs: Collection[Pair]) -> dict[str, list[int]]:
    return {"true": [t for t, _ in pairs], "predicted": [p for _, p in pairs]}


# Covered as `presence.SETTLE` has it; the label does not matter: a label that turned out
# to be wrong is right now. One image of each line is enough, and none of its findings
# waits: an index lookup or two for each. In the order of that index, or the planner may
# take one of all that is settled, as after a scan that fixed the first ones.
COVERED = """
SELECT w.t, w.p
  FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[]) AS w (t, p)
 CROSS JOIN LATERAL (
   SELECT FROM reviewapp_finding f JOIN reviewapp_sample s ON s.id = f.sample_id
    WHERE f.dataset_id = %(dataset)s AND f.true_label_id = w.t
      AND f.predicted_label_id = w.p AND f.registered_model_id = %(model)s
      AND NOT (f.review_state = 'open' AND f.presence IN ('seen', 'regressed'))
      AND s.removed_at IS NULL AND (%(split)s = '' OR s.split = %(split)s)
      AND NOT EXISTS (SELECT FROM reviewapp_unreadablesample u
                       WHERE u.scan_id = %(scan)s AND u.sample_id = s.id)
    ORDER BY f.priority DESC, f.id DESC LIMIT 1) AS looked_at
"""
# Covered by both: there, and readable, in both. Ids grow: a sample after the baseline's
# last shard came later.
_BOTH = """
 s.removed_at IS NULL AND (%(split)s = '' OR s.split = %(split)s)
   AND (e.split = '' OR s.split = e.split) AND coalesce(s.id <= e.last, true)
   AND NOT EXISTS (SELECT FROM reviewapp_unreadablesample u
                    WHERE u.sample_id = s.id AND u.scan_id IN (e.id, %(scan)s))
"""
_EARLIER = """
earlier AS MATERIALIZED (
  SELECT e.id, e.split, (SELECT max(last_sample) FROM reviewapp_shard
                          WHERE scan_id = e.id) AS last
    FROM unnest(%(ids)s::bigint[], %(splits)s::text[]) AS e (id, split)
)"""
# b and c. The same label and the same image: what a verdict or the source has changed
# since is neither. Only a sighting tells how an image was; most of those that a verdict
# relabelled were an error or a near miss in the baseline.
CHANGED = """
WITH EARLIER, wrong AS MATERIALIZED (
  SELECT w.t, w.p, w.baseline, f.sample_id, f.digest,
         bool_or(g.scan_id = w.baseline) AS was, bool_or(g.scan_id = %(scan)s) AS is_now
    FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[], %(baselines)s::bigint[])
         AS w (t, p, baseline)
    JOIN reviewapp_finding f
      ON f.true_label_id = w.t AND f.predicted_label_id = w.p
     AND f.dataset_id = %(dataset)s AND f.registered_model_id = %(model)s
    JOIN reviewapp_sighting g ON g.finding_id = f.id
     AND g.scan_id = ANY(%(scans)s::bigint[])
   WHERE g.scan_id IN (w.baseline, %(scan)s)
   GROUP BY w.t, w.p, w.baseline, f.sample_id, f.digest
)
SELECT w.t, w.p, count(*) FILTER (WHERE w.was)::int, count(*) FILTER (WHERE w.is_now)::int
  FROM wrong w
  JOIN earlier e ON e.id = w.baseline
  JOIN reviewapp_sample s ON s.id = w.sample_id
 WHERE w.was <> w.is_now AND s.label_id = w.t AND s.digest = w.digest AND BOTH
   AND NOT EXISTS (
     SELECT FROM reviewapp_sighting g JOIN reviewapp_finding f ON f.id = g.finding_id
      WHERE g.scan_id = e.id AND g.scan_id = ANY(%(ids)s::bigint[])
        AND f.sample_id = s.id
        AND (f.true_label_id <> w.t OR f.digest <> s.digest))
 GROUP BY w.t, w.p
""".replace("EARLIER", _EARLIER).replace("BOTH", _BOTH)
SHARED = """
WITH EARLIER
SELECT e.id, s.label_id, count(*)::int
  FROM earlier e JOIN reviewapp_sample s ON s.dataset_id = %(dataset)s
 WHERE BOTH
 GROUP BY e.id, s.label_id
""".replace("EARLIER", _EARLIER).replace("BOTH", _BOTH)
