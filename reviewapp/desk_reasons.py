"""Why a finding is on the desk, and why now, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef, Q

from reviewapp.models import Finding, Scan, Sighting, Standing, UnreadableSample
from reviewapp.queues import Lane
from reviewapp.rows import Columns, fetch

if TYPE_CHECKING:
    from reviewapp.models import User

PLACES = 1000  # counted no further: the sentence says "more than"
SCANS_BACK = 50  # how far back a comeback is looked for


@dataclass(frozen=True, slots=True)
class Comeback:
    """When an error was gone, and since when it is back, as scan ids."""

    fixed_in: int
    back_since: int


def lane_of(finding: Finding, standing: Standing | None) -> Lane:
    """Return the lane of a finding.

    Args:
        finding: An error or a near miss.
        standing: That of its confusion; None, where no scan has counted it yet, says
            nothing of the label.
    """
    if finding.kind == Finding.Kind.NEAR_MISS:
        return Lane.NEAR_MISS
    if standing is not None and finding.confidence >= standing.label_from:
        return Lane.LABEL
    return Lane.MODEL


def standing_of(finding: Finding) -> Standing | None:
    """Return the standing of a finding's confusion; None: no scan has counted it."""
    values = [
        finding.registered_model_id,
        finding.true_label_id,
        finding.predicted_label_id,
    ]
    return next((COLUMNS.read(row) for row in fetch(STANDING, values)), None)


COLUMNS = Columns(Standing, "s")
STANDING = f"""
SELECT {COLUMNS.sql} FROM reviewapp_standing s
 WHERE registered_model_id = %s AND true_label_id = %s AND predicted_label_id = %s
"""  # noqa: S608 - columns of a model


def place_of(finding: Finding, by: User) -> int:
    """Return how many findings of the same confusion come before, at most `PLACES`.

    Only those count that wait and that nobody but this reviewer holds.
    """
    values: dict[str, Any] = {
        "dataset": finding.dataset_id,
        "model": finding.registered_model_id,
        "true": finding.true_label_id,
        "predicted": finding.predicted_label_id,
        "priority": finding.priority,
        "id": finding.pk,
        "by": by.pk,
    }
    ((place,),) = fetch(PLACE, values)
    return int(place)


# The index of the queue in its own order, no further than `PLACES`.
PLACE = f"""
SELECT count(*) FROM (
  SELECT FROM reviewapp_finding f
   WHERE f.dataset_id = %(dataset)s AND f.registered_model_id = %(model)s
     AND f.true_label_id = %(true)s AND f.predicted_label_id = %(predicted)s
     AND f.review_state = 'open' AND f.presence IN ('seen', 'regressed')
     AND (f.priority, f.id) > (%(priority)s::float8, %(id)s::bigint)
     AND CASE WHEN EXISTS (SELECT FROM reviewapp_claim c
                            WHERE c.finding_id = f.id AND c.expires_at > now()
                              AND c.reviewer_id <> %(by)s)
              THEN false ELSE true END
   LIMIT {PLACES}) harder
"""  # noqa: S608 - a number


def comeback_of(finding: Finding) -> Comeback | None:
    """Return when a regressed finding was gone; None for others, and when unknown.

    Reads the last scans that covered its sample, in one query.
    """
    if finding.presence != Finding.Presence.REGRESSED:
        return None
    back_since = fixed_in = None
    for scan, is_seen in _scans_of(finding):
        if is_seen and fixed_in is None:
            back_since = scan
        elif is_seen or back_since is None:
            break
        else:
            fixed_in = scan
    if fixed_in is None or back_since is None:
        return None
    return Comeback(fixed_in=fixed_in, back_since=back_since)


def _scans_of(finding: Finding) -> Iterator[tuple[int, bool]]:
    """Yield (scan id, whether it saw the finding), the latest scan first."""
    split = finding.sample.split
    seen = Sighting.objects.filter(finding=finding.pk, scan=OuterRef("pk"))
    unread = UnreadableSample.objects.filter(
        scan=OuterRef("pk"), sample=finding.sample_id
    )
    scans = (
        Scan.objects.of_model(finding.registered_model)
        .finished()
        .counted()
        .filter(Q(split="") | Q(split=split), ~Exists(unread))
        .newest_first()
        .annotate(is_seen=Exists(seen))
        .values_list("pk", "is_seen")
    )
    yield from scans[:SCANS_BACK]


def why_here(
    finding: Finding,
    standing: Standing | None,
    place: int,
    lane: str = "",
    comeback: Comeback | None = None,
) -> str:
    """Say in one sentence, without its full stop, why a finding is on the desk.

    Args:
        finding: With its labels.
        standing: That of its confusion; None leaves its size out.
        place: How many of its confusion come before, as `place_of` counts.
        lane: The lane it is shown in; empty: its own.
        comeback: When it was gone, if it is back.

    Returns:
        E.g. "Predicted Coat at 0.98; label Pullover has 0.01; 53 of this kind; 4th in
        the queue".
    """
    parts = [
        *_scores(finding),
        *_size(finding, standing),
        *_place(finding, place),
        *_label_doubt(finding, standing, lane or lane_of(finding, standing)),
        *_why_now(finding, comeback),
    ]
    return "; ".join(parts)


def _scores(finding: Finding) -> Iterator[str]:
    sure = _probability(finding.confidence)
    if finding.kind == Finding.Kind.NEAR_MISS:
        yield f"{finding.predicted_label} is right, but only at {sure}"
    else:
        yield f"Predicted {finding.predicted_label} at {sure}"
        yield f"label {finding.true_label} has {_probability(finding.p_true)}"


def _size(finding: Finding, standing: Standing | None) -> Iterator[str]:
    if standing is None:
        return
    if finding.kind == Finding.Kind.NEAR_MISS:
        word = "near miss" if standing.present == 1 else "near misses"
        yield f"{standing.present:,} {word} of this class"
    else:
        yield f"{standing.present:,} of this kind"


def _place(finding: Finding, place: int) -> Iterator[str]:
    is_open = finding.review_state == Finding.ReviewState.OPEN
    if not is_open or finding.presence not in Finding.PRESENT:
        return
    if place >= PLACES:
        yield f"more than {PLACES:,} come before it in the queue"
    else:
        yield f"{_ordinal(place + 1)} in the queue"


def _label_doubt(
    finding: Finding, standing: Standing | None, lane: str
) -> Iterator[str]:
    if lane != Lane.LABEL or standing is None:
        return
    name = finding.predicted_label
    now, usual = _probability(finding.confidence), _probability(standing.label_from)
    figures = f" ({now} against {usual})" if now != usual else ""
    yield f"the model is surer of {name} than it usually is of real {name}{figures}"


def _why_now(finding: Finding, comeback: Comeback | None) -> Iterator[str]:
    if comeback is not None:
        yield (
            f"was fixed in scan {comeback.fixed_in}, back since scan "
            f"{comeback.back_since}"
        )
    elif finding.presence == Finding.Presence.REGRESSED:
        yield "was fixed before and is back"
    if finding.reopened_because:
        yield f"open again: {finding.reopened_because}"
    if finding.review_state == Finding.ReviewState.FLAGGED:
        yield "flagged for a second opinion"
    if finding.review_state == Finding.ReviewState.DISPUTED:
        yield "reviewers disagree on it"


def _probability(p: float) -> str:
    """Write a probability; only what is 0 or 1 is written so."""
    if 0 < p < 0.005:
        return "under 0.01"
    if 0.995 <= p < 1:
        return "over 0.99"
    return f"{p:.2f}"


def _ordinal(n: int) -> str:
    if n % 100 in (11, 12, 13):
        return f"{n}th"
    return str(n) + {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
