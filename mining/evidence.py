"""What scans prove of a confusion: fixed, back, or not proved; `docs/history.md` says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

from mining.statistics import holm, mcnemar_exact

Says = Literal["open", "improving", "fixed", "regressed"]
Why = Literal[
    "",
    "proved",  # fell, and hardly by luck
    "zero_twice",  # none in two scans in a row
    "zero_once",
    "fewer",  # fell, could be luck
    "above_target",  # fell, hardly by luck, but more are left than the target
    "not_fewer",  # claimed, and did not fall
    "higher",  # fixed, rose, could be luck
    "still",  # fixed, and no longer higher
    "rose",  # was fixed, rose, and hardly by luck
    "above_twice",  # was fixed, higher in two scans in a row
    "seen_again",  # was back, then none once, and then some again
    "before",  # from before there was a rule
]

ALPHA: Final = 0.05
IN_A_ROW: Final = 2  # scans that say the same


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the scans so far prove of one confusion, and the last numbers of the rule.

    Attributes:
        says: What is proved; "open": nothing.
        why: Which part of the rule says so.
        scan: The scan with these numbers.
        baseline: The scan it is compared with: the last before the fix, or of a fixed
            confusion the one that proved it.
        samples: Samples that both covered.
        b: Of these, wrong so in the baseline only.
        c: Of these, wrong so in the scan only.
        p: Two-sided p value of McNemar's exact test of b and c, 0-1.
        p_corrected: The same after Holm's correction.
        family: Confusions that were tested together.
        count: Errors of the pair in the scan.
        support: Its samples of the true label with a prediction.
        baseline_count: The same of the baseline.
        baseline_support: The same of the baseline.
        target: Most errors that would do.
        zero_in_a_row: Scans in a row that saw none.
        above_in_a_row: Scans in a row that saw more than the one that proved it fixed.
        proved_by: The scan that proved it fixed.
        came_back: Whether it was back before and has not been fixed since.
    """

    says: Says = "open"
    why: Why = ""
    scan: int | None = None
    baseline: int | None = None
    samples: int | None = None
    b: int | None = None
    c: int | None = None
    p: float | None = None
    p_corrected: float | None = None
    family: int | None = None
    count: int | None = None
    support: int | None = None
    baseline_count: int | None = None
    baseline_support: int | None = None
    target: int | None = None
    zero_in_a_row: int = 0
    above_in_a_row: int = 0
    proved_by: int | None = None
    came_back: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the values that say something; of no evidence, nothing.

        >>> Evidence("improving", "zero_once", scan=7, zero_in_a_row=1).to_dict()
        {'says': 'improving', 'why': 'zero_once', 'scan': 7, 'zero_in_a_row': 1}
        """
        values = ((name, getattr(self, name)) for name in _NAMES)
        found = {k: v for k, v in values if v != _DEFAULTS[k]}
        return {"says": self.says} | found if found else {}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evidence:
        """Return what `to_dict` was made from.

        >>> Evidence.from_dict({"says": "fixed", "why": "proved"}).says
        'fixed'
        """
        return cls(**values)


_NAMES: Final = tuple(field.name for field in fields(Evidence))
_DEFAULTS: Final = {field.name: field.default for field in fields(Evidence)}
NOTHING: Final = Evidence()


@dataclass(frozen=True, slots=True)
class Paired:
    """One confusion in two scans.

    Attributes:
        baseline: The earlier one.
        samples: Samples that both covered.
        b: Of these, wrong so in the baseline only.
        c: Of these, wrong so in the scan only.
        count: Errors of the pair in the baseline.
        support: Its samples of the true label with a prediction.
    """

    baseline: int
    samples: int
    b: int
    c: int
    count: int
    support: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a scan that has just ended saw of one confusion.

    Attributes:
        scan: The scan.
        count: Errors of the pair.
        support: Samples of the true label with a prediction.
        is_zero: Whether the scan covered images in which the confusion was found, and no
            image that was covered by any scan is wrong so any more.
        is_claimed: Whether a fix for it was exported.
        target: Most errors that would do; None: no target.
        paired: The comparison with its baseline; None: there is none, or the two covered
            no sample of the true label both.
    """

    scan: int
    count: int
    support: int
    is_zero: bool
    is_claimed: bool
    target: int | None = None
    paired: Paired | None = None


def judge(cases: Sequence[tuple[Evidence, Seen]]) -> list[Evidence]:
    """Return what a scan proves of each confusion, in the order given.

    Those that are claimed and not fixed are tested together, and so are those that are
    fixed; in each of the two families at most 5 % of scans call luck a proof.

    Args:
        cases: What was proved before and what the scan saw, for every confusion that is
            claimed, fixed, back, improving or at zero.
    """
    corrected: dict[int, tuple[float, float, int]] = {}
    for is_fixed in (False, True):
        family = [
            (place, seen.paired)
            for place, (before, seen) in enumerate(cases)
            if (before.says == "fixed") == is_fixed
            and (is_fixed or seen.is_claimed)
            and seen.paired is not None
        ]
        raw = [mcnemar_exact(paired.b, paired.c) for _, paired in family]
        for (place, _), p, adjusted in zip(family, raw, holm(raw), strict=True):
            corrected[place] = (p, adjusted, len(family))
    judged = []
    for place, (before, seen) in enumerate(cases):
        now = _numbers(seen, corrected.get(place))
        rule = _of_fixed if before.says == "fixed" else _of_unfixed
        judged.append(rule(before, seen, now))
    return judged


def _numbers(seen: Seen, tested: tuple[float, float, int] | None) -> Evidence:
    """Return the numbers of the rule, without what they say."""
    now = Evidence(
        scan=seen.scan, count=seen.count, support=seen.support, target=seen.target
    )
    paired = seen.paired
    if paired is None or tested is None:
        return now
    p, p_corrected, family = tested
    return replace(
        now,
        baseline=paired.baseline,
        samples=paired.samples,
        b=paired.b,
        c=paired.c,
        baseline_count=paired.count,
        baseline_support=paired.support,
        p=p,
        p_corrected=p_corrected,
        family=family,
    )


def _of_unfixed(before: Evidence, seen: Seen, now: Evidence) -> Evidence:
    came_back = before.came_back or before.says == "regressed"
    zeros = before.zero_in_a_row + 1 if seen.is_zero else 0
    now = replace(now, zero_in_a_row=zeros, came_back=came_back)
    is_fewer = seen.is_claimed and _above(now.b, now.c)
    is_proved = is_fewer and _is_proof(now)
    is_enough = seen.target is None or seen.count <= seen.target
    if zeros >= IN_A_ROW or (is_proved and is_enough):
        why: Why = "proved" if is_proved and is_enough else "zero_twice"
        return replace(now, says="fixed", why=why, proved_by=seen.scan, came_back=False)
    if is_proved:
        return replace(now, says="improving", why="above_target")
    if zeros:
        return replace(now, says="improving", why="zero_once")
    if is_fewer:
        return replace(now, says="improving", why="fewer")
    if seen.is_claimed and seen.paired is not None:
        return _unproved(replace(now, why="not_fewer"))
    if not before.zero_in_a_row:
        return before  # nothing to compare: what was proved, or why it is back, stays
    return _unproved(replace(now, why="seen_again")) if came_back else NOTHING


def _unproved(now: Evidence) -> Evidence:
    """What was back stays so until a scan says something better."""
    return replace(now, says="regressed" if now.came_back else "open")


def _of_fixed(before: Evidence, seen: Seen, now: Evidence) -> Evidence:
    if seen.paired is None:
        return before
    is_higher = _above(now.c, now.b)
    above = before.above_in_a_row + 1 if is_higher else 0
    now = replace(now, above_in_a_row=above, proved_by=before.proved_by)
    if is_higher and _is_proof(now):
        return replace(now, says="regressed", why="rose", came_back=True)
    if above >= IN_A_ROW:
        return replace(now, says="regressed", why="above_twice", came_back=True)
    if is_higher:
        return replace(now, says="fixed", why="higher")
    # Its proof stays to be read as long as nothing has happened since.
    return replace(now, says="fixed", why="still") if before.above_in_a_row else before


def _above(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one > other


def _is_proof(now: Evidence) -> bool:
    return now.p_corrected is not None and now.p_corrected < ALPHA
