"""A proof as JSON, and the sentences that it allows."""

from __future__ import annotations

from typing import Any, Final

from mining.credit import CauseCredit, ConfusionCredit, Credit
from mining.proof import LABELS, Control, Movement, Part, Proof
from mining.statistics import PairedDifference
from reviewapp.comparing import summary_of
from reviewapp.judged import seconds_per_verdict
from reviewapp.models import TrainingRun
from reviewapp.proofs import p_words
from reviewapp.proving import Sides, prove_run, sides_of
from reviewapp.templatetags.comparisons import points, whole_percent
from reviewapp.templatetags.hardmine import percent

MINUTE: Final = 60


def figures_of(run: TrainingRun) -> dict[str, Any]:
    """Make the report of a training run as JSON; shares are 0-1.

    `claim`: the first sentence, with its `verdict`. `labels`: kind of labels -> subset
    ("untouched", "reviewed", "whole") -> figures of before and after, `claimed` and
    `others`: [actual, predicted, before, after, p, p by Holm]. `control`, `credit`: null
    where there is none.

    Raises:
        Refused: A scan that it needs is not done.
        ArtefactError: The artefact of one is damaged or gone.
        OSError: The storage could not be read.
    """
    sides = sides_of(run)
    proof = prove_run(sides)
    seconds = seconds_per_verdict(run.dataset)
    return {
        "claim": {
            "verdict": proof.verdict,
            "text": claim_of(proof),
            "control": control_of(proof) or sides.without,
            "needed": proof.needed,
        },
        **_made_from(sides),
        "samples": proof.samples,
        "relabelled": proof.relabelled,
        "left_out": proof.left_out,
        "unreadable": proof.unreadable,
        "seen": {
            "reviewed": proof.seen.reviewed,
            "trained": proof.seen.trained,
            "both": proof.seen.both,
            "copies": proof.seen.copies,
        },
        "labels": {
            kind: {name: _part(part) for name, part in proof.parts[kind].items()}
            for kind in LABELS
        },
        "control": _control(proof),
        "credit": _credit(proof.credit, proof, seconds) if proof.credit else None,
        "seconds_per_verdict": seconds,
    }


def claim_of(proof: Proof) -> str:
    """Say what was gained, in one sentence; a gain only where it is hardly luck."""
    part = proof.parts["corrected"].get("untouched")
    if part is None:
        return (
            "Nothing can be claimed: no image was scanned both times that nobody "
            "reviewed or trained on. Scan a split that is kept apart."
        )
    found = part.comparison
    before, after = percent(found.baseline.accuracy), percent(found.candidate.accuracy)
    images = f"on {found.n:,} images that nobody reviewed or trained on, accuracy"
    change = f"{_gap(found.difference)}, {p_words(found.difference.p)}"
    if proof.verdict == "gain":
        return f"A gain: {images} rose from {before} to {after}, {change}."
    if proof.verdict == "loss":
        return f"A loss: {images} fell from {before} to {after}, {change}."
    more = "."
    if proof.needed:
        more = f": to show one of this size would take about {proof.needed:,} images."
    return f"No gain shown: {images} went from {before} to {after}, {change}{more}"


def control_of(proof: Proof) -> str:
    """Say how much of it the control explains; "" without one."""
    control = proof.control
    if control is None:
        return ""
    over = _gap(control.over)
    if control.over.interval.low > 0:
        rest = f"The retrained model is better than the control: {over}."
    elif control.over.interval.high < 0:
        rest = f"The retrained model is worse than the control: {over}."
    else:
        rest = f"That it is better than the control is not shown: {over}."
    if control.share is None:
        return (
            f"The control, with samples drawn at random: {_gap(control.gain)}. {rest}"
        )
    share = control.share
    return (
        f"The control, with samples drawn at random, explains {whole_percent(share.value)} of "
        f"it ({whole_percent(share.interval.low)} to {whole_percent(share.interval.high)}). {rest}"
    )


def _gap(found: PairedDifference) -> str:
    interval = found.interval
    return (
        f"{points(found.difference)} points (95 % interval {points(interval.low)} to "
        f"{points(interval.high)})"
    )


def _made_from(sides: Sides) -> dict[str, Any]:
    run, recipe = sides.run, sides.run.recipe
    scans = {"before": sides.before, "after": sides.after, "control": sides.control}
    return {
        "scans": {name: scan and scan.pk for name, scan in scans.items()},
        "versions": {
            name: scan and str(scan.model_version) for name, scan in scans.items()
        },
        "split": run.scan_split,
        "fix_set": recipe and {"name": str(recipe.fix_set), "id": recipe.fix_set_id},
        "lineage": sides.after.model_version.lineage,
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        **summary_of(part.comparison),
        "claimed": [_movement(row) for row in part.claimed],
        "others": [_movement(row) for row in part.others],
    }


def _movement(row: Movement) -> list[Any]:
    return [row.actual, row.predicted, row.before, row.after, row.p, row.by_holm]


def _control(proof: Proof) -> dict[str, Any] | None:
    control: Control | None = proof.control
    if control is None:
        return None
    n = proof.parts["corrected"]["untouched"].comparison.n
    share = control.share
    return {
        "right": control.right,
        "accuracy": control.right / n,
        "gain": _difference(control.gain),
        "over": _difference(control.over),
        "share": share
        and {
            "value": share.value,
            "low": share.interval.low,
            "high": share.interval.high,
        },
    }


def _difference(found: PairedDifference) -> dict[str, float]:
    interval = found.interval
    return {
        "value": found.difference,
        "low": interval.low,
        "high": interval.high,
        "p": found.p,
    }


def _credit(credit: Credit, proof: Proof, seconds: float) -> dict[str, Any]:
    n = proof.parts["corrected"]["untouched"].comparison.n
    return {
        "confusions": [
            {
                "label": row.label,
                "mistaken_for": row.mistaken_for,
                "fixed": row.fixed,
                "broken": row.broken,
                "low": n * row.difference.interval.low,
                "high": n * row.difference.interval.high,
                "p": row.difference.p,
                **_price(row, seconds),
            }
            for row in credit.confusions
        ],
        "causes": [
            {"cause": row.cause, **_price(row, seconds)} for row in credit.causes
        ],
        "elsewhere": credit.elsewhere,
        "control_elsewhere": credit.control_elsewhere,
        "over_elsewhere": None
        if credit.control_elsewhere is None
        else credit.elsewhere - credit.control_elsewhere,
    }


def _price(row: ConfusionCredit | CauseCredit, seconds: float) -> dict[str, Any]:
    """Return what a row bought, beyond the control, for a finding and for a minute."""
    minutes = row.findings * seconds / MINUTE
    return {
        "findings": row.findings,
        "minutes": minutes,
        "bought": row.bought,
        "control": row.control,
        "over": None if row.control is None else row.bought - row.control,
        "per_finding": row.bought / row.findings,
        "per_minute": row.bought / minutes if minutes else None,
    }
