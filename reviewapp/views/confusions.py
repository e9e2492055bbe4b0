"""The confusions of one scan: which class is taken for which."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.models import Confusion, ConfusionCount, Dataset, Label, Scan, Standing
from reviewapp.pagination import keyset_page
from reviewapp.views.requests import UserRequest

PAGE_SIZE = 50
SCANS_TO_CHOOSE = 50
MATRIX_CLASSES = 30  # a larger matrix is no longer read, it is looked at
DARKEST = 0.5  # so that the numbers keep their contrast


@dataclass(frozen=True, slots=True)
class Row:
    """One confusion of the scan, as the table shows it; shares and rates are 0-1."""

    true_label: Label
    predicted_label: Label
    count: int
    share: float  # of all errors of the scan
    support: int  # images of the true class with a prediction
    rate: float  # count / support
    waiting: int  # findings of the pair without a verdict
    line: Confusion | None  # None: not in the history


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix; `heat` is its share of the row, 0 to `DARKEST`."""

    true_label: Label
    predicted_label: Label
    count: int
    heat: float

    @property
    def is_diagonal(self) -> bool:
        """Whether the model is right here."""
        return self.true_label == self.predicted_label


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show the confusions of a finished scan: of the one asked for, else the last.

    The last one that counts: an older version scanned for the record has to be chosen.
    """
    dataset = access_dataset(request.user, slug)
    finished = Scan.objects.for_dataset(dataset).finished().lean().newest_first()
    scans = list(finished.defer("classes", "settings")[:SCANS_TO_CHOOSE])
    chosen = request.GET.get("scan", "")
    if chosen:
        scan: Scan | None = access_one(finished, pk=id_from(chosen))
    else:
        scan = finished.counted().first()
    context: dict[str, object] = {"dataset": dataset, "scans": scans, "scan": scan}
    if scan:
        page = keyset_page(
            scan.confusion_counts.all().errors().with_names(),
            by=("count", "id"),
            after=request.GET.get("after"),
            size=PAGE_SIZE,
        )
        context["rows"] = _rows(dataset, scan, page.rows)
        context["next"] = page.next
        context["classes"], context["matrix"] = _matrix(dataset, scan)
    return render(request, "confusions/index.html", context)


def _rows(
    dataset: Dataset,
    scan: Scan,
    counts: list[ConfusionCount],
) -> list[Row]:
    pairs = [(row.true_label_id, row.predicted_label_id) for row in counts]
    classes = {true for true, _ in pairs}
    support = scan.confusion_counts.filter(true_label__in=classes).support()
    # What waits, and where a line stands, was said by newer scans than these.
    waiting, lines = ({}, {}) if scan.for_record else _standing(dataset, scan, pairs)
    return [
        Row(
            true_label=row.true_label,
            predicted_label=row.predicted_label,
            count=row.count,
            share=row.count / (scan.errors or 1),
            support=support[row.true_label_id],
            rate=row.count / support[row.true_label_id],
            waiting=waiting.get(pair, 0),
            line=lines.get(pair),
        )
        for pair, row in zip(pairs, counts, strict=True)
    ]


def _standing(
    dataset: Dataset, scan: Scan, pairs: list[tuple[int, int]]
) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], Confusion]]:
    """Return what waits of each pair and its ledger line, by label ids."""
    model = scan.model_version.registered_model
    standings = Standing.objects.for_dataset(dataset).of_model(model).of_pairs(pairs)
    waiting = {
        (standing.true_label_id, standing.predicted_label_id): standing.waiting
        for standing in standings
    }
    ledger = Confusion.objects.for_dataset(dataset).of_model(model).of_pairs(pairs)
    return waiting, {
        (line.true_label_id, line.predicted_label_id): line for line in ledger
    }


def _matrix(
    dataset: Dataset, scan: Scan
) -> tuple[list[Label], list[tuple[Label, list[Cell]]]]:
    """Return the classes in the model's order and a row of cells for each."""
    if not 1 < len(scan.classes) <= MATRIX_CLASSES:
        return [], []
    labels = dataset.labels.in_bulk(scan.classes)
    classes = [labels[pk] for pk in scan.classes]
    counts = {
        (row.true_label_id, row.predicted_label_id): row.count
        for row in scan.confusion_counts.all()
    }
    support: Counter[int] = Counter()
    for (true_id, _), count in counts.items():
        support[true_id] += count
    return classes, [
        (true, [_cell(true, predicted, counts, support) for predicted in classes])
        for true in classes
    ]


def _cell(
    true: Label,
    predicted: Label,
    counts: dict[tuple[int, int], int],
    support: Counter[int],
) -> Cell:
    count = counts.get((true.pk, predicted.pk), 0)
    # The diagonal stays pale: what is looked for lies beside it.
    heat = 0.0 if true == predicted else count / max(support[true.pk], 1)
    return Cell(true, predicted, count, heat=round(min(heat * 2, 1) * DARKEST, 2))
