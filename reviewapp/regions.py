"""A scan's threshold region, answered from what its analysis kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import numpy as np
from django.db.models import OuterRef, Subquery

from mining.statistics import wilson
from mining.tally import (
    Tally,
    band_counts,
    cheapest,
    class_figures,
    curve,
    from_bytes,
)
from mining.thresholds import Floats, Ints
from reviewapp.forms.analyses import RegionForm
from reviewapp.models import Analysis, Dataset, Finding, Label, Sample, Scan
from reviewapp.models.findings import FindingQuerySet
from reviewapp.queues import Lane, Order, Queue, read_queue

TALLIES: Final = 2  # kept


def classes_of(scan: Scan) -> dict[int, str]:
    """Return label id -> name of a scan's classes, in the model's order."""
    rows = Label.objects.filter(pk__in=scan.classes).values_list("pk", "name")
    names = dict(rows)
    return {pk: names[pk] for pk in scan.classes}


def region_of(analysis: Analysis, form: RegionForm) -> dict[str, Any]:
    """Return what a threshold does, as JSON; shares are 0-1, null of nothing.

    `at`: the threshold, for the chosen class or all. `band`: the samples about it.
    `cheapest`: the threshold that costs least of all samples. `curve`: columns over the
    thresholds 0, 0.01, ... 1, `cost` among them. `classes`: a row for each class, most
    accepted errors first.
    """
    chosen, name = form.cleaned_data, form.class_name
    of = _tally(analysis.pk, analysis.finished_at, tuple(form.classes.values()))
    found, costs = cheapest(
        of,
        look=chosen["look"],
        error=chosen["error"],
        of_class=form.of_class,
        of_confusion=form.of_confusion,
    )
    drawn = curve(of, name)
    shares = ("coverage", "accuracy", "precision", "recall")
    return {
        "threshold": chosen["threshold"],
        "width": chosen["width"],
        "class": name,
        **_at(of, chosen["threshold"], form),
        "band": _band(of, analysis, form),
        "cheapest": {
            "threshold": found.threshold,
            "cost": found.cost,
            "looks": found.looks,
            "errors": found.errors,
            "accepting_all": found.accepting_all,
            "looking_at_all": found.looking_at_all,
        },
        "curve": {
            "threshold": [n / 100 for n in range(101)],
            **{part: _plain(getattr(drawn, part)) for part in shares},
            "cost": _plain(costs),
        },
    }


# In the process: unpacking half a million cells takes longer than all that is asked of
# them. Some 25 MB each.
@lru_cache(maxsize=TALLIES)
def _tally(
    analysis_id: int,
    made_at: datetime | None,
    classes: tuple[str, ...],
) -> Tally:
    counts = Analysis.objects.values_list("counts", flat=True).get(pk=analysis_id)
    return from_bytes(bytes(counts), classes)


def band_queue(dataset: Dataset, scan: Scan, form: RegionForm, lane: Lane) -> Queue:
    """Return the queue of the findings whose confidence lies in the band."""
    low, high = band_ends(form)
    fields = {
        "registered_model": str(scan.model_version.registered_model_id),
        "split": scan.split,
        "true_label": form.cleaned_data["label"],
        "confidence_from": str(low),
        "confidence_to": str(high),
        "lane": lane.value,
        "order": Order.LEAST_SURE.value,
    }
    return read_queue(dataset, fields)


def waiting_in_band(scan: Scan, form: RegionForm, lane: Lane) -> FindingQuerySet:
    """Return what waits of a band's queue, to be read in an index's order.

    The sample's split is looked up row by row: a join, or EXISTS, may read all samples.
    """
    model = scan.model_version.registered_model
    waiting: FindingQuerySet = Finding.objects.for_dataset(scan.dataset).waiting()
    found = waiting.filter(kind=lane.kind).of_model(model)
    found = found.of_confidence(*band_ends(form))
    if form.cleaned_data["label"]:
        found = found.filter(true_label=form.cleaned_data["label"])
    if scan.split:
        splits = Sample.objects.filter(pk=OuterRef("sample")).values("split")
        found = found.annotate(split=Subquery(splits[:1])).filter(split=scan.split)
    return found


def band_ends(form: RegionForm) -> tuple[float, float]:
    """Return from which confidence to which the band goes, 0-1."""
    middle, width = form.cleaned_data["threshold"], form.cleaned_data["width"]
    return max(0.0, round(middle - width, 3)), min(1.0, round(middle + width, 3))


def _band(of: Tally, analysis: Analysis, form: RegionForm) -> dict[str, Any]:
    low, high = band_ends(form)
    below = analysis.figures["near_miss_below"]
    counts = band_counts(of, low, high, near_miss_below=below, name=form.class_name)
    return {
        "from": low,
        "to": high,
        "samples": counts.samples,
        "errors": counts.errors,
        "near_misses": counts.near_misses,
        "right": counts.samples - counts.errors - counts.near_misses,
    }


def _at(of: Tally, threshold: float, form: RegionForm) -> dict[str, Any]:
    """Return the figures at a threshold, of the chosen class or all, and of each class."""
    each = class_figures(of, threshold)
    rows = [
        {"id": pk, "class": name, **_figures(*numbers)}
        for (pk, name), *numbers in zip(
            form.classes.items(),
            each.samples.tolist(),
            each.accepted.tolist(),
            each.claimed.tolist(),
            each.right.tolist(),
            strict=True,
        )
    ]
    parts = (each.samples, each.accepted, each.accepted, each.right)
    whole = _figures(*(int(part.sum()) for part in parts))
    at = next((row for row in rows if row["class"] == form.class_name), whole)
    rows.sort(key=lambda row: (-row["errors"], -row["samples"], row["class"]))
    return {"at": at, "classes": rows}


def _figures(samples: int, accepted: int, claimed: int, right: int) -> dict[str, Any]:
    interval = wilson(right, accepted)
    return {
        "samples": samples,
        "accepted": accepted,
        "errors": accepted - right,
        "coverage": _share(accepted, samples),
        "accuracy": _share(right, accepted),
        "low": interval.low,
        "high": interval.high,
        "precision": _share(right, claimed),
        "recall": _share(right, samples),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _plain(values: Floats | Ints | Sequence[float]) -> list[float | None]:
    """Return numbers as JSON knows them; it has no nan."""
    return [None if np.isnan(value) else float(value) for value in values]
