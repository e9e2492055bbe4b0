"""The confusion matrix of a scan, put in order, and the difference of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from mining.ordering import By, order_classes, top_classes
from reviewapp.actions.matrices import keep_matrix
from reviewapp.exceptions import Refused
from reviewapp.models import Dataset, Scan

Places: TypeAlias = npt.NDArray[np.int64]
Sums: TypeAlias = npt.NDArray[np.int64]
# A count fits; half the memory is half the time, of a million cells.
Counts: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float64]
KEPT: Final = 4  # matrices in each web process, of 4 MB with 1,000 classes
Scale = Literal["counts", "actual", "predicted"]
SCALES: Final[tuple[Scale, ...]] = get_args(Scale)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a matrix is to show.

    Attributes:
        order: How to put the classes in order.
        top: Only so many classes, those with the most errors (of two scans: those that
            changed most); None: all.
        scale: Counts, or shares of the actual or of the predicted class.
        right: Show the diagonal.
    """

    order: By = "cluster"
    top: int | None = None
    scale: Scale = "counts"
    right: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Square:
    """The counts of one scan over some of its classes, in some order.

    Attributes:
        labels: int64 (N,), label ids.
        matrix: int32 (N, N), rows true, columns predicted.
        cluster: int64 (N,), places, those confused with each other side by side.
        support: int64 (N,), images of the class; of all the scan's, shown or not.
        predicted: int64 (N,), images taken for the class, likewise.
    """

    labels: Places
    matrix: Counts
    cluster: Places
    support: Sums
    predicted: Sums

    def at(self, places: Places) -> Square:
        """Return the classes at these places alone, in their order."""
        if np.array_equal(places, np.arange(len(self.labels))):
            return self
        rank = np.full(len(self.labels), -1)
        rank[places] = np.arange(len(places))
        cluster = rank[self.cluster]
        return Square(
            labels=self.labels[places],
            # Twice as fast as both at once by np.ix_.
            matrix=self.matrix.take(places, 0).take(places, 1),
            cluster=cluster[cluster >= 0],
            support=self.support[places],
            predicted=self.predicted[places],
        )

    def errors_alone(self) -> Square:
        """Return the same with an empty diagonal."""
        matrix = self.matrix.copy()
        np.fill_diagonal(matrix, 0)
        return replace(self, matrix=matrix)

    def scaled(self, scale: Scale, rows: Places, columns: Places) -> Floats:
        """Return float64 (M,) of M cells: counts, or shares 0-1 of the whole class."""
        counts = self.matrix[rows, columns].astype(np.float64)
        if scale == "counts":
            return counts
        if scale == "actual":
            return counts / np.maximum(self.support, 1)[rows]
        return counts / np.maximum(self.predicted, 1)[columns]

    @property
    def right(self) -> int:
        """Return the sum of the diagonal."""
        return int(self.matrix.trace(dtype=np.int64))

    @property
    def errors(self) -> int:
        """Return the sum beside the diagonal."""
        return int(self.matrix.sum(dtype=np.int64)) - self.right


@dataclass(frozen=True, slots=True)
class Apart:
    """What two scans do not share.

    Attributes:
        only_now: Names of classes that only the scan has.
        only_before: Names of classes that only the other one has.
        left_out: Images of the scan in rows and columns of these classes.
        left_out_before: Images of the other one, likewise.
        other_sizes: Classes of both with another number of images in each.
    """

    only_now: tuple[str, ...]
    only_before: tuple[str, ...]
    left_out: int
    left_out_before: int
    other_sizes: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair of classes as the table shows it; `before` is of the other scan.

    `of_actual` and `of_predicted` are shares 0-1 of the whole class in the scan.
    """

    true_label: int
    predicted_label: int
    count: int
    of_actual: float
    of_predicted: float
    before: int = 0
    of_actual_before: float = 0.0
    of_predicted_before: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A matrix ready to be drawn.

    Attributes:
        choice: What was asked for.
        now: The scan's counts of the classes shown, in order.
        before: The same of the scan that it is held against, or None.
        names: Names of the classes shown, in order.
        classes: How many classes there are, shown or not.
        apart: What the two do not share, or None.
    """

    choice: Choice
    now: Square
    before: Square | None
    names: list[str]
    classes: int
    apart: Apart | None

    def figures(self, rows: Places, columns: Places) -> Floats:
        """Return float64 (M,) of M cells on the scale; of two scans now minus before."""
        figures = self.now.scaled(self.choice.scale, rows, columns)
        if self.before:
            figures -= self.before.scaled(self.choice.scale, rows, columns)
        return figures

    def filled(self) -> tuple[Places, Places]:
        """Return rows and columns of the cells that are not empty, row by row."""
        seen = (
            self.now.matrix if not self.before else self.now.matrix | self.before.matrix
        )
        rows, columns = np.nonzero(seen)
        return rows, columns

    def top(self, n: int) -> list[Cell]:
        """Return the n largest errors on the scale; of two scans the largest changes."""
        rows, columns = self.filled()
        figures = np.abs(self.figures(rows, columns))
        enough = (rows != columns) & (figures > 0)
        if len(rows) > n:  # sorting them all would take half of the request
            least = np.partition(figures * enough, -n)[-n]
            enough &= figures >= least
        rows, columns, figures = rows[enough], columns[enough], figures[enough]
        largest = np.lexsort((-self.now.matrix[rows, columns], -figures))
        return [self._cell(rows[at], columns[at]) for at in largest[:n]]

    def _cell(self, row: int, column: int) -> Cell:
        at = row, column
        cell = Cell(
            true_label=int(self.now.labels[row]),
            predicted_label=int(self.now.labels[column]),
            count=int(self.now.matrix[at]),
            of_actual=_share(self.now.matrix[at], self.now.support[row]),
            of_predicted=_share(self.now.matrix[at], self.now.predicted[column]),
        )
        if not self.before:
            return cell
        before = self.before
        return replace(
            cell,
            before=int(before.matrix[at]),
            of_actual_before=_share(before.matrix[at], before.support[row]),
            of_predicted_before=_share(before.matrix[at], before.predicted[column]),
        )


def draw(
    *, dataset: Dataset, scan: Scan, against: Scan | None, choice: Choice
) -> Drawing:
    """Return the matrix of a finished scan, or its difference to another one's.

    Of two scans only the classes of both are shown; `Drawing.apart` says what is not.

    Raises:
        Refused: A scan is not done or has no matrix, or the two have not two classes in
            common, or are one.
    """
    if against == scan:
        raise Refused("A scan has no difference to itself. Choose another one.")
    names: dict[int, str] = dict(dataset.labels.values_list("pk", "name"))
    now = _square(scan)
    if against is None:
        return arrange(now, None, names=names, choice=choice)
    before = _square(against)
    now, before, apart = match(now, before, names=names)
    return replace(arrange(now, before, names=names, choice=choice), apart=apart)


def arrange(
    now: Square, before: Square | None, *, names: Mapping[int, str], choice: Choice
) -> Drawing:
    """Put classes in order and leave out what is not asked for.

    Args:
        now: The scan.
        before: The scan it is held against, with the same labels in the same order.
        names: Label id -> name.
        choice: What to show.
    """
    what_counts = now.matrix
    if before and (choice.order == "errors" or choice.top is not None):
        what_counts = np.abs(now.matrix - before.matrix)
    order = now.cluster
    if choice.order != "cluster":
        by_size = now.matrix if choice.order == "size" else what_counts
        given = [names[label] for label in now.labels.tolist()]
        order = order_classes(by_size, given, choice.order)
    if choice.top is not None:
        order = order[np.isin(order, top_classes(what_counts, choice.top))]
    shown = [square.at(order) for square in (now, before) if square]
    if not choice.right:
        shown = [square.errors_alone() for square in shown]
    return Drawing(
        choice=choice,
        now=shown[0],
        before=shown[1] if before else None,
        names=[names[label] for label in shown[0].labels.tolist()],
        classes=len(now.labels),
        apart=None,
    )


def match(
    now: Square, before: Square, *, names: Mapping[int, str]
) -> tuple[Square, Square, Apart]:
    """Return the classes that both have, in the same order, and what only one has.

    Raises:
        Refused: They have not two classes in common.
    """
    if np.array_equal(now.labels, before.labels):  # as usual: one model
        ours = theirs = np.arange(len(now.labels))
    else:
        found = np.intersect1d(now.labels, before.labels, return_indices=True)
        _, ours, theirs = found
    if len(ours) < 2:
        raise Refused(
            "The two scans have not two classes in common. Choose another scan."
        )
    both, both_before = now.at(ours), before.at(theirs)
    apart = Apart(
        only_now=_only(now, before, names),
        only_before=_only(before, now, names),
        left_out=int(now.support.sum() - both.matrix.sum(dtype=np.int64)),
        left_out_before=int(
            before.support.sum() - both_before.matrix.sum(dtype=np.int64)
        ),
        other_sizes=int(np.count_nonzero(both.support != both_before.support)),
    )
    return both, both_before, apart


def _only(one: Square, other: Square, names: Mapping[int, str]) -> tuple[str, ...]:
    labels = one.labels[~np.isin(one.labels, other.labels)]
    return tuple(names[label] for label in labels.tolist())


def _share(count: np.int32, whole: np.int64) -> float:
    return float(count / whole) if whole else 0.0


# In the process: the facts of a finished scan never change.
@lru_cache(maxsize=KEPT)
def _square(scan: Scan) -> Square:
    kept = keep_matrix(scan=scan)
    matrix = kept.counts(len(scan.classes))
    return Square(
        labels=np.array(scan.classes),
        matrix=matrix,
        cluster=np.array(kept.cluster),
        support=matrix.sum(axis=1, dtype=np.int64),
        predicted=matrix.sum(axis=0, dtype=np.int64),
    )
