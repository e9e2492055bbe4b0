"""The evidence of a confusion's state, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mining.evidence import Evidence
from reviewapp.templatetags.comparisons import p_value

WHY = {
    "": "No scan has proved anything yet.",
    "proved": "Fixed: such a fall is hardly luck.",
    "zero_twice": "Fixed: none in two scans in a row.",
    "zero_once": "None in this scan. A second one in a row without makes it fixed.",
    "fewer": "Fewer, but that could still be luck.",
    "above_target": "The fall is hardly luck, but more are left than the target.",
    "not_fewer": "A fix was exported, and the scan saw no fewer.",
    "higher": (
        "Still fixed, though higher than in the scan that proved it: that could be luck. "
        "A second time in a row brings it back."
    ),
    "still": "Still fixed: it was higher once, and is not any more.",
    "rose": "Back: such a rise is hardly luck.",
    "above_twice": "Back: higher than in the scan that proved it, twice in a row.",
    "seen_again": "Back: there was none in one scan, but some again in the next.",
    "before": "Called so by the plain count, before evidence was asked for.",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What the rule says of a confusion, and its numbers.

    Attributes:
        why: The part of the rule that holds.
        numbers: What it was computed from; "" where nothing was compared.
        scan: The scan with these numbers.
        baseline: The scan it was held against.
    """

    why: str
    numbers: str
    scan: int | None
    baseline: int | None

    @property
    def text(self) -> str:
        """Return all of it as one text."""
        return f"{self.why} {self.numbers}".strip()


def proof_of(evidence: dict[str, Any]) -> Proof:
    """Put the evidence of a ledger line into words.

    Args:
        evidence: As `Confusion.evidence` has it; {}: nothing is proved.

    >>> proof_of({"says": "fixed", "why": "zero_twice", "scan": 7}).text
    'Fixed: none in two scans in a row.'
    """
    found = Evidence.from_dict(evidence)
    return Proof(WHY[found.why], _numbers(found), found.scan, found.baseline)


def _numbers(found: Evidence) -> str:
    if found.p is None or found.p_corrected is None:
        return ""
    are_fixed, are_new = ("is" if n == 1 else "are" for n in (found.b, found.c))
    counts = (
        f"{found.baseline_count:,} of {found.baseline_support:,} in scan "
        f"{found.baseline} → {found.count:,} of {found.support:,} in scan {found.scan}"
    )
    pairs = (
        f"of {found.samples:,} samples in both, {found.b:,} {are_fixed} no longer "
        f"confused so and {found.c:,} {are_new} new"
    )
    parts = [counts, pairs, f"McNemar {p_words(found.p)}"]
    if found.family and found.family > 1:
        parts.append(f"Holm over {found.family:,}: {p_words(found.p_corrected)}")
    if found.target is not None:
        parts.append(f"target {found.target:,}")
    return "; ".join(parts) + "."


def p_words(p: float) -> str:
    """Write a p value with its name, "p = 0.012"."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
