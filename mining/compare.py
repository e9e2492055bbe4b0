"""Compare two scans of the same samples: what became right, and what became wrong."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from mining.exceptions import MiningError
from mining.pairing import Ints, Mask, Pairs
from mining.statistics import (
    Interval,
    PairedDifference,
    holm,
    mcnemar_exact,
    paired_difference,
    wilson,
)

Floats: TypeAlias = npt.NDArray[np.float64]
Change = Literal["fixed", "fewer", "unchanged", "more", "broken"]

CHANGES: tuple[Change, ...] = get_args(Change)


class NothingToCompare(MiningError):  # noqa: N818 (as the other refusals)
    """No sample is left."""

    def __init__(self) -> None:
        super().__init__(
            "The two scans have no sample left to compare. Nothing was compared. Scan the"
            " same data set with both models, or leave out fewer samples."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """How one model did on the samples compared.

    Attributes:
        right: How many samples it has right.
        accuracy: Their share, 0-1.
        interval: Wilson's 95 % interval of the accuracy.
        macro_f1: Mean of the F1 of the classes that have a sample, 0-1.
        predicted: int64 (K,), how often it says each class.
        precision: float64 (K,), 0-1; nan for a class that it never says.
        recall: float64 (K,), 0-1; nan for a class without a sample.
        f1: float64 (K,), 0-1; nan for a class with neither.
    """

    right: int
    accuracy: float
    interval: Interval
    macro_f1: float
    predicted: Ints
    precision: Floats
    recall: Floats
    f1: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One of the four cells of right and wrong.

    Attributes:
        count: How many samples.
        ids: int64, the first of them in the order of the pairs.
    """

    count: int
    ids: Ints


@dataclass(frozen=True, slots=True)
class ConfusionChange:
    """What became of one confusion.

    Attributes:
        actual: Name of the true class.
        predicted: Name of the class given to it.
        before: Samples that the baseline confuses so.
        after: Samples that the candidate confuses so.
        both: Samples that both confuse so.
        change: "fixed" (none is left), "fewer", "unchanged" (as many), "more" or "broken"
            (there was none before).
        p: Two-sided p value of McNemar's exact test on the same samples, 0-1. Correct it
            with `holm` over the confusions that are looked at together.
    """

    actual: str
    predicted: str
    before: int
    after: int
    both: int
    change: Change
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionChanges:
    """Every confusion that one of the two models makes, M of them.

    Attributes:
        classes: Names in index order.
        actual: int64 (M,), index of the true class.
        predicted: int64 (M,), index of the class given to it.
        before: int64 (M,), samples that the baseline confuses so.
        after: int64 (M,), samples that the candidate confuses so.
        both: int64 (M,), samples that both confuse so.
    """

    classes: tuple[str, ...]
    actual: Ints
    predicted: Ints
    before: Ints
    after: Ints
    both: Ints

    def counts(self) -> dict[Change, int]:
        """Return how many confusions changed in each way."""
        found = np.bincount(self._kinds(), minlength=len(CHANGES))
        return {change: int(found[place]) for place, change in enumerate(CHANGES)}

    def rows(
        self, n: int | None = None, *, change: Change | None = None
    ) -> list[ConfusionChange]:
        """Return the confusions that changed most, ties by size and then by index.

        Args:
            n: How many at most; all of them when None.
            change: Only those that changed in this way.
        """
        kinds = self._kinds()
        chosen = np.arange(len(kinds))
        if change is not None:
            chosen = np.flatnonzero(kinds == CHANGES.index(change))
        moved = np.abs(self.after - self.before)[chosen]
        largest = np.maximum(self.after, self.before)[chosen]
        order = np.lexsort(
            (self.predicted[chosen], self.actual[chosen], -largest, -moved)
        )
        return [self._row(int(place), kinds) for place in chosen[order[:n]]]

    def _row(self, place: int, kinds: Ints) -> ConfusionChange:
        before, after, both = (
            int(column[place]) for column in (self.before, self.after, self.both)
        )
        return ConfusionChange(
            self.classes[self.actual[place]],
            self.classes[self.predicted[place]],
            before,
            after,
            both,
            CHANGES[kinds[place]],
            mcnemar_exact(before - both, after - both),
        )

    def _kinds(self) -> Ints:
        """Return the place of each confusion's change in `CHANGES`, (M,)."""
        kinds: Ints = 2 + np.sign(self.after - self.before)
        kinds[self.after == 0] = CHANGES.index("fixed")
        kinds[self.before == 0] = CHANGES.index("broken")
        return kinds


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two models on the same samples, scored with the same labels.

    Attributes:
        classes: K names in index order.
        n: Samples compared.
        removed: Samples left out because the caller said so.
        support: int64 (K,), samples of each class.
        baseline: Figures of the one.
        candidate: Figures of the other.
        difference: Accuracy of the candidate minus that of the baseline.
        both_right: Both have these right.
        fixed: Only the candidate has these right.
        broken: Only the baseline has these right.
        both_wrong: Neither has these right, be it in the same way or not.
        negative_flip_rate: Share of all samples that are broken, 0-1; lower is better.
        confusions: What became of every confusion.
    """

    classes: tuple[str, ...]
    n: int
    removed: int
    support: Ints
    baseline: Figures
    candidate: Figures
    difference: PairedDifference
    both_right: Cell
    fixed: Cell
    broken: Cell
    both_wrong: Cell
    negative_flip_rate: float
    confusions: ConfusionChanges


def adjusted(changes: ConfusionChanges) -> dict[float, float]:
    """Return p -> p by Holm over all confusions; those of the same p have the same."""
    # A thousand classes have a quarter of a million confusions, but few kinds of them.
    only = np.stack([changes.before - changes.both, changes.after - changes.both])
    kinds, many = np.unique(only, axis=1, return_counts=True)
    found = [mcnemar_exact(int(before), int(after)) for before, after in kinds.T]
    p = np.repeat(found, many).tolist()
    return dict(zip(p, holm(p), strict=True))


def compare(
    pairs: Pairs, *, without: Collection[int] | Ints = (), most: int = 1000
) -> Comparison:
    """Compare two models on the samples that both have seen.

    Args:
        pairs: The samples, from `pair`.
        without: Ids to leave out: those that `leaked` finds, say.
        most: Ids kept in each of the four cells.

    Raises:
        NothingToCompare: No sample is left.
        ValueError: `most` is negative.
    """
    if most < 0:
        raise ValueError(f"most must be 0 or more, not {most}")
    kept = ~np.isin(pairs.id, np.fromiter(without, np.int64, len(without)))
    if not kept.any():
        raise NothingToCompare
    ids, true = pairs.id[kept], pairs.true[kept]
    before, after = pairs.baseline[kept], pairs.candidate[kept]
    was, now = before == true, after == true
    fixed, broken = _cell(ids, ~was & now, most), _cell(ids, was & ~now, most)
    support = np.bincount(true, minlength=len(pairs.classes))
    return Comparison(
        classes=pairs.classes,
        n=len(ids),
        removed=len(kept) - len(ids),
        support=support,
        baseline=_figures(true, before, support),
        candidate=_figures(true, after, support),
        difference=paired_difference(fixed.count, broken.count, len(ids)),
        both_right=_cell(ids, was & now, most),
        fixed=fixed,
        broken=broken,
        both_wrong=_cell(ids, ~was & ~now, most),
        negative_flip_rate=broken.count / len(ids),
        confusions=_changes(pairs.classes, true, before, after),
    )


def _cell(ids: Ints, mask: Mask, most: int) -> Cell:
    rows = np.flatnonzero(mask)
    return Cell(len(rows), ids[rows[:most]])


def _figures(true: Ints, predicted: Ints, support: Ints) -> Figures:
    is_right = predicted == true
    hits = np.bincount(true[is_right], minlength=len(support))
    said = np.bincount(predicted, minlength=len(support))
    right = int(is_right.sum())
    f1 = _ratio(2 * hits, support + said)
    return Figures(
        right=right,
        accuracy=right / len(true),
        interval=wilson(right, len(true)),
        # The same classes on both sides: a class that only one of them says has no sample.
        macro_f1=float(f1[support > 0].mean()),
        predicted=said,
        precision=_ratio(hits, said),
        recall=_ratio(hits, support),
        f1=f1,
    )


def _ratio(part: Ints, whole: Ints) -> Floats:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _changes(
    classes: tuple[str, ...], true: Ints, before: Ints, after: Ints
) -> ConfusionChanges:
    # Not a matrix: a model may have 100,000 classes.
    was, now = before != true, after != true
    codes = true * len(classes)
    old, new = codes[was] + before[was], codes[now] + after[now]
    alike = was & (before == after)
    both = codes[alike] + before[alike]
    found, place = np.unique(np.concatenate([old, new]), return_inverse=True)
    counted = [
        np.bincount(places, minlength=len(found)).astype(np.int64)
        for places in (
            place[: len(old)],
            place[len(old) :],
            np.searchsorted(found, both),
        )
    ]
    return ConfusionChanges(
        classes, found // len(classes), found % len(classes), *counted
    )
