"""Whether a retrained model is better, on images that nobody touched; `docs/proof.md`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

import numpy as np

from mining.compare import Comparison, ConfusionChanges, adjusted, compare
from mining.credit import Answers, Credit, Fix, credit
from mining.pairing import Ints, Mask, Pairs, ScanColumns, leaked, pair
from mining.statistics import (
    PairedDifference,
    Ratio,
    holm,
    mcnemar_exact,
    paired_difference,
    ratio_of_means,
    samples_needed,
)

Labels = Literal["corrected", "original"]
Subset = Literal["untouched", "reviewed", "whole"]
Verdict = Literal["gain", "loss", "none", "nothing"]
Pair = tuple[str, str]

LABELS: Final[tuple[Labels, ...]] = get_args(Labels)
SUBSETS: Final[tuple[Subset, ...]] = get_args(Subset)
UNKNOWN: Final = -1  # a confusion of classes that no model has
OTHERS: Final = 20  # confusions that nobody fixed, those that changed most


@dataclass(frozen=True, slots=True)
class Images:
    """Images that somebody has looked at, or that a model has learned.

    Attributes:
        digests: SHA-256 of each, in hex.
        phashes: Their perceptual hashes as signed 64-bit numbers, as far as known.
    """

    digests: Collection[str] = ()
    phashes: Collection[int] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a proof is made from.

    Attributes:
        before: The parent's scan.
        after: The retrained model's scan of the same samples.
        control: The control's; None: there is none.
        labels: Kind of labels -> sample id -> the label to score with, for every sample
            that was ever corrected.
        reviewed: Images with a verdict.
        trained: Images that any of the models was trained on.
        fixes: What the retrained model was taught.
    """

    before: ScanColumns
    after: ScanColumns
    control: ScanColumns | None = None
    labels: Mapping[Labels, Mapping[int, str]] = field(default_factory=dict)
    reviewed: Images = field(default_factory=Images)
    trained: Images = field(default_factory=Images)
    fixes: Sequence[Fix] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """Samples that look like an image somebody has reviewed or trained on.

    Attributes:
        reviewed: Like a reviewed one.
        trained: Like one that was trained on.
        both: Like one of each.
        copies: Of `trained`, those that are the very same file.
    """

    reviewed: int
    trained: int
    both: int
    copies: int


@dataclass(frozen=True, slots=True)
class Movement:
    """One confusion before and after.

    Attributes:
        actual: Name of the true class.
        predicted: Name of the class given to it.
        before: Samples that the parent confuses so.
        after: Samples that the retrained model confuses so.
        p: Two-sided p value of McNemar's exact test, 0-1.
        by_holm: The same, corrected for the confusions tested with it.
    """

    actual: str
    predicted: str
    before: int
    after: int
    p: float
    by_holm: float


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One subset of the samples, scored with one kind of labels.

    Attributes:
        comparison: Before against after.
        claimed: The confusions that were fixed, what fell most first; Holm over them.
        others: Those that changed most of the rest; Holm over all confusions there are.
    """

    comparison: Comparison
    claimed: tuple[Movement, ...]
    others: tuple[Movement, ...]


@dataclass(frozen=True, slots=True)
class Control:
    """What the same training with random images brought, on the untouched samples.

    Attributes:
        right: Samples that the control has right.
        gain: Accuracy of the control minus that of the parent.
        over: Accuracy of the retrained model minus that of the control.
        share: The control's gain over the retrained model's; None unless that one is
            a gain that is hardly luck.
    """

    right: int
    gain: PairedDifference
    over: PairedDifference
    share: Ratio | None


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """What before and after say.

    Attributes:
        verdict: "gain" or "loss" when the interval of the difference on the untouched
            samples, by corrected labels, leaves out zero; "none" when it holds zero;
            "nothing" when no sample is untouched.
        needed: Untouched samples that would show a difference like the one seen; None
            when there was none.
        samples: All that could be compared.
        relabelled: Of these, those whose label was corrected.
        left_out: Samples that one of the scans lacks, or has another label or image of;
            those that only the control's scan could not read are among them.
        unreadable: Samples that the parent or the retrained model could not read.
        seen: What was reviewed or trained on.
        parts: Kind of labels -> subset -> figures; a subset without samples is not there.
        control: None: there is none, or no sample is untouched.
        credit: On the untouched samples; None: nothing was fixed, or none is untouched.
    """

    verdict: Verdict
    needed: int | None
    samples: int
    relabelled: int
    left_out: int
    unreadable: int
    seen: Seen
    parts: Mapping[Labels, Mapping[Subset, Part]]
    control: Control | None
    credit: Credit | None


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """The samples by one kind of labels; the control's answers are by the same classes."""

    pairs: Pairs
    control: Ints | None
    lost: int  # samples that the control's scan lacks


def prove(material: Material) -> Proof:
    """Hold a retrained model against its parent, and against a control.

    Samples that nobody reviewed and nobody trained on, by digest and by look, are kept
    apart from the reviewed ones. All figures are of samples that every scan has read.

    Raises:
        ValueError: A scan has a key twice.
    """
    sheets = {kind: _sheet(material, material.labels.get(kind, {})) for kind in LABELS}
    sheet = sheets["corrected"]
    reviewed, trained = (
        leaked(sheet.pairs, digests=images.digests, phashes=images.phashes)
        for images in (material.reviewed, material.trained)
    )
    touched = np.union1d(reviewed, trained)
    is_untouched = ~np.isin(sheet.pairs.id, touched)
    has_untouched = bool(is_untouched.any())
    aims = {(fix.label, fix.mistaken_for) for fix in material.fixes}
    parts = {
        kind: _parts(each.pairs, reviewed, touched, aims)
        for kind, each in sheets.items()
    }
    answers = _answers(sheet, is_untouched)
    verdict, needed = _verdict(parts["corrected"].get("untouched"))
    return Proof(
        verdict=verdict,
        needed=needed,
        samples=len(sheet.pairs.id),
        relabelled=_relabelled(sheet.pairs, material.labels),
        left_out=sheet.pairs.left_out.count + sheet.lost,
        unreadable=sheet.pairs.unreadable,
        seen=_seen(sheet.pairs, reviewed, trained, material.trained.digests),
        parts=parts,
        control=_control(answers, verdict) if has_untouched else None,
        credit=credit(material.fixes, answers) if aims and has_untouched else None,
    )


def _sheet(material: Material, labels: Mapping[int, str]) -> _Sheet:
    pairs = pair(material.before, material.after, labels=labels, intersection=True)
    if material.control is None:
        return _Sheet(pairs, None, 0)
    other = pair(material.before, material.control, labels=labels, intersection=True)
    # Both are in the order of the parent's scan.
    kept = _take(pairs, np.isin(pairs.id, other.id))
    said = other.candidate[np.isin(other.id, pairs.id)]
    names = dict.fromkeys((*pairs.classes, *other.classes))
    index = {name: place for place, name in enumerate(names)}
    places = np.array([index[name] for name in other.classes], np.int64)
    lost = len(pairs.id) - len(kept.id)
    return _Sheet(replace(kept, classes=tuple(names)), places[said], lost)


def _take(pairs: Pairs, kept: Mask) -> Pairs:
    return replace(
        pairs,
        **{
            name: getattr(pairs, name)[kept]
            for name in ("id", "true", "baseline", "candidate")
        },
        digest=pairs.digest.take(np.flatnonzero(kept)),
        phash=pairs.phash.take(np.flatnonzero(kept)),
    )


def _answers(sheet: _Sheet, rows: Mask) -> Answers:
    pairs, control = sheet.pairs, sheet.control
    return Answers(
        pairs.classes,
        pairs.true[rows],
        pairs.baseline[rows],
        pairs.candidate[rows],
        None if control is None else control[rows],
    )


def _parts(
    pairs: Pairs, reviewed: Ints, touched: Ints, aims: Collection[Pair]
) -> dict[Subset, Part]:
    without: dict[Subset, Ints] = {
        "untouched": touched,
        "reviewed": np.setdiff1d(pairs.id, reviewed),
        "whole": np.zeros(0, np.int64),
    }
    return {
        subset: _part(compare(pairs, without=ids, most=0), aims)
        for subset, ids in without.items()
        if not np.isin(pairs.id, ids).all()
    }


def _part(comparison: Comparison, aims: Collection[Pair]) -> Part:
    changes = comparison.confusions
    by_holm = adjusted(changes)
    rest = [
        Movement(
            row.actual, row.predicted, row.before, row.after, row.p, by_holm[row.p]
        )
        for row in changes.rows(OTHERS + len(aims))
        if (row.actual, row.predicted) not in aims
    ]
    return Part(comparison, _claimed(changes, aims), tuple(rest[:OTHERS]))


def _claimed(changes: ConfusionChanges, aims: Collection[Pair]) -> tuple[Movement, ...]:
    pairs = sorted(aims)
    counts = _counted(changes, pairs)
    found = [
        mcnemar_exact(before - both, after - both) for before, after, both in counts
    ]
    rows = [
        Movement(*names, before, after, p, by_holm)
        for names, (before, after, _), p, by_holm in zip(
            pairs, counts, found, holm(found), strict=True
        )
    ]
    return tuple(sorted(rows, key=lambda row: row.after - row.before))


def _counted(changes: ConfusionChanges, pairs: Sequence[Pair]) -> list[list[int]]:
    """Return how many samples are confused so before, after and both times, for each."""
    names = {name: place for place, name in enumerate(changes.classes)}
    size = len(names)
    wanted = [
        names[actual] * size + names[predicted]
        if {actual, predicted} <= names.keys()
        else UNKNOWN
        for actual, predicted in pairs
    ]
    there = changes.actual * size + changes.predicted
    columns = np.stack([changes.before, changes.after, changes.both], axis=1)
    # A row of zeros at the end, for what no model confuses.
    columns = np.concatenate([columns, np.zeros((1, 3), np.int64)])
    rows = {code: row for row, code in enumerate(there.tolist())}
    counts: list[list[int]] = columns[
        np.array([rows.get(code, -1) for code in wanted], np.int64)
    ].tolist()
    return counts


def _verdict(part: Part | None) -> tuple[Verdict, int | None]:
    if part is None:
        return "nothing", None
    found = part.comparison
    needed = samples_needed(found.fixed.count, found.broken.count, found.n)
    interval = found.difference.interval
    if interval.low > 0:
        return "gain", needed
    return ("loss" if interval.high < 0 else "none"), needed


def _control(answers: Answers, verdict: Verdict) -> Control | None:
    if answers.control is None:
        return None
    was, now, other = (
        said == answers.true
        for said in (answers.before, answers.after, answers.control)
    )
    share = None
    if verdict == "gain":
        ours, theirs = (side.astype(np.int64) - was for side in (now, other))
        share = ratio_of_means(theirs, ours)
    return Control(
        right=int(other.sum()),
        gain=_difference(other, was),
        over=_difference(now, other),
        share=share,
    )


def _difference(first: Mask, second: Mask) -> PairedDifference:
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return paired_difference(only_first, only_second, len(first))


def _relabelled(pairs: Pairs, labels: Mapping[Labels, Mapping[int, str]]) -> int:
    original = labels.get("original", {})
    corrected = labels.get("corrected", {})
    moved = [pk for pk, name in corrected.items() if original.get(pk, name) != name]
    return int(np.isin(pairs.id, np.array(moved, np.int64)).sum())


def _seen(
    pairs: Pairs, reviewed: Ints, trained: Ints, digests: Collection[str]
) -> Seen:
    return Seen(
        reviewed=len(reviewed),
        trained=len(trained),
        both=len(np.intersect1d(reviewed, trained)),
        copies=len(leaked(pairs, digests=digests)),
    )
