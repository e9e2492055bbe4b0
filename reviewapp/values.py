"""What fixing each confusion is worth now, from the last scans, the verdicts and the pace."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import connection
from django.db.models import QuerySet, TextChoices

from mining.statistics import Interval, wilson
from mining.value import Gains, fix_gains, fixable_share, review_minutes
from reviewapp.exceptions import Refused
from reviewapp.judged import Verdicts, pair, verdicts_of
from reviewapp.models import Confusion, ConfusionCount, Dataset, Scan, Standing
from reviewapp.pagination import Page

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# Ids of line, model, true label and predicted label, and the errors still seen.
Row = tuple[int, int, int, int, int]

MOST_DIGITS = 9  # of a place in the ledger
FEW_PAIRS = 500  # up to so many are looked up, more are read as a whole


class LedgerOrder(TextChoices):
    """Orders of the ledger beside the usual one, most frequent first."""

    VALUE = "value", "value: macro-F1 per minute"
    VALUE_ACCURACY = "value_accuracy", "value: accuracy per minute"


@dataclass(frozen=True, slots=True)
class Value:
    """What fixing one confusion is worth; gains and shares are 0-1.

    Attributes:
        scan: Id of the scan that says so; None: no scan that counts.
        count: Errors of the pair in it.
        support: Samples of the true class with a prediction in it.
        accuracy: What accuracy would gain without these errors.
        macro_f1: What macro-F1 would gain without them.
        fixable: Findings of the pair that were confirmed or relabelled.
        judged: These and the dismissed ones.
        share: The share that will prove fixable, from both counts.
        waiting: Findings without a verdict.
        minutes: What their review takes.
    """

    scan: int | None
    count: int
    support: int
    accuracy: float
    macro_f1: float
    fixable: int
    judged: int
    share: float
    waiting: int
    minutes: float

    @property
    def rate(self) -> float | None:
        """Return count / support; None without a sample."""
        return self.count / self.support if self.support else None

    @property
    def interval(self) -> Interval:
        """Return Wilson's 95 % interval of the rate."""
        return wilson(self.count, self.support)

    @property
    def macro_f1_per_minute(self) -> float:
        """Return the expected gain of macro-F1 for a minute of review."""
        return self.macro_f1 * self.share / self.minutes

    @property
    def accuracy_per_minute(self) -> float:
        """Return the expected gain of accuracy for a minute of review."""
        return self.accuracy * self.share / self.minutes


def values_of(dataset: Dataset, lines: Iterable[Confusion]) -> dict[int, Value]:
    """Return line id -> what it is worth."""
    rows = [
        (
            line.pk,
            line.registered_model_id,
            line.true_label_id,
            line.predicted_label_id,
            line.present,
        )
        for line in lines
    ]
    columns = _measure(dataset, rows)
    parts = zip(*(column.tolist() for column in columns), strict=True)
    return {
        row[0]: Value(scan or None, *rest)
        for row, (scan, *rest) in zip(rows, parts, strict=True)
    }


def page_by_value(
    dataset: Dataset,
    lines: QuerySet[Confusion],
    *,
    order: LedgerOrder,
    after: str | None,
    size: int,
) -> Page[Confusion]:
    """Return a page of ledger lines, what is worth most first.

    Args:
        dataset: Of the lines.
        lines: The filtered ones.
        order: By what.
        after: The `next` of the page before, or None for the first: how many came before.
        size: Lines to a page.

    Raises:
        Refused: `after` is no `next` of this order.
    """
    start = _start(after or "0")
    rows = _read(
        lines.order_by().values_list(
            "pk", "registered_model", "true_label", "predicted_label", "present"
        )
    )
    columns = _measure(dataset, rows)
    accuracy, macro_f1, share, minutes = columns[3], columns[4], columns[7], columns[9]
    gain = macro_f1 if order is LedgerOrder.VALUE else accuracy
    ids = np.array([row[0] for row in rows], np.int64)
    best = np.lexsort((ids, gain * share / minutes))[::-1]
    chosen = ids[best[start : start + size]].tolist()
    found = lines.in_bulk(chosen)
    end = start + size
    return Page(
        rows=[found[pk] for pk in chosen if pk in found],
        next=str(end) if end < len(rows) else None,
    )


def _start(after: str) -> int:
    if not (after.isascii() and after.isdecimal() and len(after) <= MOST_DIGITS):
        raise Refused(
            "This page link is not valid any more. Start from the first page."
        )
    return int(after)


Columns = tuple[Ints, Ints, Ints, Floats, Floats, Ints, Ints, Floats, Ints, Floats]


def _measure(dataset: Dataset, rows: Sequence[Row]) -> Columns:
    """Return the fields of `Value` as columns; scan 0 stands for none."""
    ids = np.array(rows, np.int64).reshape(-1, 5)
    models, pairs = ids[:, 1], pair(ids[:, 2], ids[:, 3])
    scan, count, support = (np.zeros(len(rows), np.int64) for _ in range(3))
    accuracy, macro_f1 = (np.zeros(len(rows)) for _ in range(2))
    current = _current_scans(dataset, set(models.tolist()))
    matrices = figures_of([seen.pk for seen in current])
    for seen in current:
        figures = matrices[seen.pk]
        mine = models == seen.model_version.registered_model_id
        supported = figures.support_of(ids[:, 2])
        # No later scan of the model had a sample of the class.
        first = mine & (scan == 0) & (supported > 0)
        scan[first], support[first] = seen.pk, supported[first]
        at, is_there = _places(figures.pairs, pairs)
        # An older one, of another split, says more of what is still seen.
        new = mine & is_there & (first | ((count == 0) & (ids[:, 4] > 0)))
        at = at[new]
        scan[new] = seen.pk
        count[new], support[new] = figures.gains.count[at], figures.gains.support[at]
        accuracy[new] = figures.gains.accuracy[at]
        macro_f1[new] = figures.gains.macro_f1[at]
    verdicts = verdicts_of(dataset)
    fixable, judged = _judged(verdicts, models, pairs)
    waiting = _waiting(dataset, rows, models, pairs)
    share = fixable_share(fixable, judged)
    minutes = review_minutes(waiting, verdicts.seconds)
    return (
        scan, count, support, accuracy, macro_f1,
        fixable, judged, share, waiting, minutes,
    )  # fmt: skip


def _current_scans(dataset: Dataset, models: Collection[int]) -> list[Scan]:
    """Return the last scan of each of these models and split, the latest first.

    A scan of every split makes all before it old.
    """
    by = ("model_version__registered_model_id", "split")
    last = Scan.objects.for_dataset(dataset).finished().counted().lean()
    last = last.filter(model_version__registered_model__in=models)
    newest = last.order_by(*by, "-id").distinct(*by).defer("classes")
    found: list[Scan] = []
    for scan in sorted(newest, key=lambda scan: scan.pk, reverse=True):
        model = scan.model_version.registered_model_id
        is_old = any(
            not later.split and later.model_version.registered_model_id == model
            for later in found
        )
        if not is_old:
            found.append(scan)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What a scan's matrix says of each of its confusions.

    Attributes:
        gains: A row for each, sorted by `pairs`.
        pairs: int64, both label ids as one number.
        labels: int64, true label ids, sorted.
        supports: int64, samples of each of these with a prediction.
    """

    gains: Gains
    pairs: Ints
    labels: Ints
    supports: Ints

    def support_of(self, labels: Ints) -> Ints:
        """Return the samples of each of these true labels, 0 where there are none."""
        at, is_there = _places(self.labels, labels)
        found = np.zeros(len(labels), np.int64)
        found[is_there] = self.supports[at[is_there]]
        return found


# Facts of a finished scan never change. A confusion takes some 60 bytes.
MOST_KEPT = 2_000_000  # confusions, of all scans together
_kept: OrderedDict[int, Figures] = OrderedDict()
_lock = Lock()


def figures_of(scans: Collection[int]) -> dict[int, Figures]:
    """Return scan id -> what its matrix says, of finished scans; at most one query."""
    with _lock:
        found = {pk: _kept[pk] for pk in scans if pk in _kept}
    missing = set(scans) - found.keys()
    if not missing:
        return found
    cells = ConfusionCount.objects.filter(scan__in=missing).values_list(
        "scan_id", "true_label_id", "predicted_label_id", "count"
    )
    table = np.array(_read(cells.order_by()), np.int64).reshape(-1, 4)
    read = {pk: _figures(*table[table[:, 0] == pk, 1:].T) for pk in missing}
    with _lock:
        _kept.update(read)
        while sum(len(figures.pairs) for figures in _kept.values()) > MOST_KEPT:
            _kept.popitem(last=False)
    return found | read


def _figures(true: Ints, predicted: Ints, count: Ints) -> Figures:
    order = np.lexsort((predicted, true))
    gains = fix_gains(true[order], predicted[order], count[order])
    labels, at = np.unique(true, return_inverse=True)
    supports = np.bincount(at, count, len(labels)).astype(np.int64)
    return Figures(gains, pair(gains.true, gains.predicted), labels, supports)


def _read(rows: QuerySet[Any, Any]) -> list[tuple[Any, ...]]:
    """Return all rows in one go; Django fetches a hundred at a time."""
    with connection.cursor() as cursor:
        cursor.execute(*rows.query.sql_with_params())
        return list(cursor.fetchall())


def _places(keys: Ints, wanted: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return where each number is among sorted ones, and whether it is there."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted


def _located(
    models: Ints, pairs: Ints, known_models: Ints, known_pairs: Ints
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return where each pair of a model is in a sorted table, and whether it is there."""
    at, is_there = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), bool)
    for model in np.unique(models):
        start, end = np.searchsorted(known_models, [model, model + 1])
        mine = models == model
        places, is_there[mine] = _places(known_pairs[start:end], pairs[mine])
        at[mine] = start + places
    return at, is_there


def _judged(verdicts: Verdicts, models: Ints, pairs: Ints) -> tuple[Ints, Ints]:
    fixable, judged = (np.zeros(len(pairs), np.int64) for _ in range(2))
    at, is_there = _located(models, pairs, verdicts.models, verdicts.pairs)
    fixable[is_there] = verdicts.fixable[at[is_there]]
    judged[is_there] = verdicts.judged[at[is_there]]
    return fixable, judged


def _waiting(dataset: Dataset, rows: Sequence[Row], models: Ints, pairs: Ints) -> Ints:
    standings = Standing.objects.for_dataset(dataset).waiting()
    if len(rows) <= FEW_PAIRS:
        standings = standings.of_pairs({row[2:4] for row in rows})
    found = standings.values_list(
        "registered_model", "true_label", "predicted_label", "waiting"
    )
    known, true, predicted, counts = np.array(_read(found), np.int64).reshape(-1, 4).T
    keys = pair(true, predicted)
    order = np.lexsort((keys, known))
    at, is_there = _located(models, pairs, known[order], keys[order])
    waiting = np.zeros(len(pairs), np.int64)
    waiting[is_there] = counts[order][at[is_there]]
    return waiting
