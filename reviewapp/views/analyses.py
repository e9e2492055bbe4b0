"""A scan's threshold region, and what goes with its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HttpResponseClientRefresh

from reviewapp.access import access_dataset, access_one
from reviewapp.actions.analyses import start_analyses
from reviewapp.forms.analyses import RegionForm
from reviewapp.forms.choices import datalist
from reviewapp.models import Analysis, Dataset, Finding, Scan
from reviewapp.models.findings import FindingQuerySet
from reviewapp.queues import Lane, Queue
from reviewapp.regions import (
    band_ends,
    band_queue,
    classes_of,
    region_of,
    waiting_in_band,
)
from reviewapp.tasks import enqueue_analysis
from reviewapp.templatetags.analyses import condition_words, part_words
from reviewapp.views.requests import UserRequest

ROWS: Final = 50  # of classes
COUNTED: Final = 1000  # a longer queue is "over 1,000"
PICTURES: Final = 12
LUCK: Final = 0.05
MARGIN: Final = {"t": 36, "r": 16, "b": 48, "l": 56}  # room for the axes' titles
THRESHOLDS, SLICES = Analysis.What


@dataclass(frozen=True, slots=True)
class Waiting:
    """The findings of a band in one lane of the review."""

    name: str
    queue: Queue
    count: int

    @property
    def is_more(self) -> bool:
        """Whether there are more than were counted."""
        return self.count > COUNTED


@require_GET
def thresholds(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """Show how far a scan's confidences can be trusted, and what a threshold does."""
    dataset = access_dataset(request.user, slug)
    scan = access_one(Scan.objects.for_dataset(dataset).with_names(), pk=scan_id)
    analysis = scan.analyses.filter(what=THRESHOLDS).defer("counts").first()
    if request.htmx:
        return _poll(analysis)
    context: dict[str, Any] = {
        "dataset": dataset,
        "scan": scan,
        "analysis": analysis,
        "page": "thresholds",
    }
    if analysis and analysis.figures:
        context |= _region(request, dataset, analysis, scan)
    return render(request, "analyses/thresholds.html", context)


def _region(
    request: UserRequest, dataset: Dataset, analysis: Analysis, scan: Scan
) -> dict[str, Any]:
    classes = classes_of(scan)
    form = asked = RegionForm(request.GET, classes=classes)
    if not asked.is_valid():  # the page shows the defaults, and what is wrong
        form = RegionForm(QueryDict(), classes=classes)
        form.full_clean()
    region = region_of(analysis, form)
    reliability = analysis.figures["reliability"]
    return {
        "form": asked,
        "costs": asked.empty_lines(),
        "figures": analysis.figures,
        "region": region,
        "reliability": reliability,
        "classes": Paginator(region["classes"], ROWS).get_page(
            request.GET.get("classes")
        ),
        "names": datalist("class-names", classes.values()),
        "reliability_figure": _reliability_figure(reliability),
        "curve_figure": _curve_figure(region),
        "curve_columns": region["curve"],
        "curve_rows": list(zip(*region["curve"].values(), strict=True)),
        "cost_figure": _cost_figure(region),
        **({} if scan.for_record else _waiting(dataset, scan, form)),
    }


def _waiting(dataset: Dataset, scan: Scan, form: RegionForm) -> dict[str, Any]:
    """Return what of the band waits for review, and the images closest to its middle."""
    found = []
    for name, lane in (("errors", Lane.ALL), ("near misses", Lane.NEAR_MISS)):
        rows = waiting_in_band(scan, form, lane).order_by("confidence", "id")
        count = rows[: COUNTED + 1].count()
        found.append(Waiting(name, band_queue(dataset, scan, form, lane), count))
    middle = form.cleaned_data["threshold"]
    return {
        "waiting": found,
        "counted": COUNTED,
        "pictures": _closest(waiting_in_band(scan, form, Lane.ALL), middle),
        "band_query": _band_query(scan, form),
    }


def _band_query(scan: Scan, form: RegionForm) -> str:
    """Return the query of the list of findings that the scan saw, of the band."""
    low, high = band_ends(form)
    query = {"scan": scan.pk, "confidence_from": low, "confidence_to": high}
    chosen = form.cleaned_data["label"]
    of_class = {"true_label": chosen} if chosen else {}
    return urlencode({**query, **of_class, "show": "everything"})


def _closest(findings: FindingQuerySet, middle: float) -> list[Finding]:
    """Return the findings whose confidence is closest; an index has them in order."""
    # Without the names: their joins may be taken for the place to begin with.
    above = findings.of_confidence(low=middle).order_by("confidence", "id")
    below = findings.filter(confidence__lt=middle).order_by("-confidence", "-id")
    both = dict(
        chain.from_iterable(
            rows.values_list("pk", "confidence")[:PICTURES] for rows in (above, below)
        )
    )
    closest = sorted(both, key=lambda pk: abs(both[pk] - middle))[:PICTURES]
    named = Finding.objects.filter(pk__in=closest).with_names()
    return sorted(named, key=lambda row: row.confidence)


@require_GET
def slices(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """Show which attributes and image properties go with a scan's errors."""
    dataset = access_dataset(request.user, slug)
    scan = access_one(Scan.objects.for_dataset(dataset).with_names(), pk=scan_id)
    analysis = scan.analyses.filter(what=SLICES).defer("counts").first()
    if request.htmx:
        return _poll(analysis)
    context: dict[str, Any] = {
        "dataset": dataset,
        "scan": scan,
        "analysis": analysis,
        "page": "slices",
    }
    if analysis and analysis.figures:
        figures = analysis.figures
        title, chosen = _chosen(figures, request.GET.get("slice", ""))
        context |= {
            "figures": figures,
            "luck": LUCK,
            "found": sum(table["p"] <= LUCK for table in figures["tables"]),
            "chosen": request.GET.get("slice", "") if chosen else "",
            "title": title,
            "slice": chosen,
            "pictures": _pictures(scan, chosen["hardest"]) if chosen else [],
            "figure": _slices_figure(figures),
        }
    return render(request, "analyses/slices.html", context)


def _poll(analysis: Analysis | None) -> HttpResponse:
    """Answer the page of an analysis that is being made: it is loaded anew at the end."""
    if analysis and analysis.is_active:
        return HttpResponse(status=204)
    return HttpResponseClientRefresh()


@require_POST
def analyse(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """Have both analyses of a scan made, or made again."""
    dataset = access_dataset(request.user, slug)
    scan = access_one(Scan.objects.for_dataset(dataset), pk=scan_id)
    for analysis in start_analyses(scan=scan, by=request.user):
        enqueue_analysis(analysis)
    page = "slices" if request.POST.get("page") == "slices" else "thresholds"
    return redirect(f"scan-{page}", dataset.slug, scan.pk)


def _chosen(figures: dict[str, Any], asked: str) -> tuple[str, dict[str, Any] | None]:
    """Return the slice that the query names, in words and as it was kept.

    "2-0" is the first line of the third table, "tree-1" the second leaf of the tree.
    """
    for number, leaf in enumerate(figures["leaves"]):
        if asked == f"tree-{number}":
            return " and ".join(map(condition_words, leaf["conditions"])), leaf
    for number, table in enumerate(figures["tables"]):
        for place, row in enumerate(table["slices"]):
            if asked == f"{number}-{place}":
                return f"{table['attribute']}: {part_words(row)}", row
    return "", None


def _pictures(scan: Scan, samples: Sequence[int]) -> list[Finding]:
    """Return the findings of samples in the order given, those the scan saw."""
    found = (
        Finding.objects.for_dataset(scan.dataset)
        .of_model(scan.model_version.registered_model)
        .filter(sample__in=samples, sightings__scan=scan)
        .misclassified()
        .with_names()
    )
    by_sample = {finding.sample_id: finding for finding in found}
    return [by_sample[pk] for pk in samples if pk in by_sample]


def _reliability_figure(reliability: dict[str, Any] | None) -> dict[str, Any]:
    """Return accuracy over confidence, for both kinds of bins."""
    traces: list[dict[str, Any]] = [
        {
            "x": [0, 1],
            "y": [0, 1],
            "mode": "lines",
            "name": "as sure as right",
            "color": "line-strong",
            "line": {"dash": "dot", "width": 1},
            "hoverinfo": "skip",
        }
    ]
    looks = (
        ("width", "equally wide bins", "accent", "circle"),
        ("mass", "bins of equal mass", "warn", "square-open"),
    )
    for binning, name, color, symbol in looks:
        bins = (reliability or {}).get(binning, {}).get("bins", [])
        traces.append(
            {
                "x": [row["confidence"] for row in bins],
                "y": [row["accuracy"] for row in bins],
                "text": [f"{row['samples']:,} samples" for row in bins],
                "error_y": {
                    "array": [row["high"] - row["accuracy"] for row in bins],
                    "arrayminus": [row["accuracy"] - row["low"] for row in bins],
                    "thickness": 1,
                },
                "mode": "lines+markers",
                "name": name,
                "color": color,
                "line": {"width": 1},
                "marker": {"symbol": symbol, "size": 7},
                "hovertemplate": "%{y:.1%} right, %{text}<extra></extra>",
            }
        )
    return {
        "traces": traces,
        "layout": {
            "margin": MARGIN,
            "hovermode": "closest",
            "xaxis": _share_axis("mean confidence"),
            "yaxis": _share_axis("accuracy"),
        },
    }


def _curve_figure(region: dict[str, Any]) -> dict[str, Any]:
    """Return coverage, accuracy and recall (of a class, precision) over the threshold."""
    parts = [("coverage", "accent", "solid"), ("accuracy", "good", "dash")]
    parts.append(("recall", "warn", "dot"))
    if region["class"]:
        parts.append(("precision", "bad", "dashdot"))
    at = region["threshold"]
    traces: list[dict[str, Any]] = [
        {
            "x": region["curve"]["threshold"],
            "y": region["curve"][part],
            "mode": "lines",
            "name": part,
            "color": color,
            "line": {"dash": dash},
            "hovertemplate": "%{y:.1%}",
        }
        for part, color, dash in parts
    ]
    traces.append(_line_at(at, 1, "threshold"))
    layout = {
        "margin": MARGIN,
        "xaxis": _share_axis("threshold", tickformat=".2f"),
        "yaxis": _share_axis(""),
    }
    return {"traces": traces, "layout": layout}


def _cost_figure(region: dict[str, Any]) -> dict[str, Any]:
    """Return the cost of errors and looks over the threshold."""
    cost = region["curve"]["cost"]
    traces: list[dict[str, Any]] = [
        {
            "x": region["curve"]["threshold"],
            "y": cost,
            "mode": "lines",
            "name": "cost",
            "color": "accent",
            "hovertemplate": "%{y:,.6~g}",
        }
    ]
    if region["cheapest"]["threshold"] is not None:
        traces.append(
            _line_at(region["cheapest"]["threshold"], max(cost), "cheapest threshold")
        )
    layout = {
        "margin": MARGIN,
        "xaxis": _share_axis("threshold", tickformat=".2f"),
        "yaxis": {"title": {"text": "cost"}, "rangemode": "tozero"},
    }
    return {"traces": traces, "layout": layout}


def _slices_figure(figures: dict[str, Any]) -> dict[str, Any]:
    """Return each slice as a point: how many of the errors, and how many errors in it."""
    rows = [
        (f"{table['attribute']}: {part_words(row)}", row)
        for table in figures["tables"]
        for row in table["slices"]
    ]
    groups = (
        ("more errors than luck gives", "bad", "diamond", True),
        ("may be luck", "muted", "circle-open", False),
    )
    traces: list[dict[str, Any]] = []
    for name, color, symbol, is_sure in groups:
        kept = [row for row in rows if (row[1]["p"] <= LUCK) == is_sure]
        traces.append(
            {
                "x": [row["covered"] for _, row in kept],
                "y": [row["rate"] for _, row in kept],
                "text": [words for words, _ in kept],
                "mode": "markers",
                "name": name,
                "color": color,
                "marker": {"symbol": symbol, "size": 9},
                "hovertemplate": "%{text}<br>%{y:.1%} wrong, %{x:.1%} of all errors"
                "<extra></extra>",
            }
        )
    rate = figures["errors"] / figures["drawn"] if figures["drawn"] else 0
    traces.append(
        {
            "x": [0, 1],
            "y": [rate, rate],
            "mode": "lines",
            "name": "error rate of all",
            "color": "line-strong",
            "line": {"dash": "dot", "width": 1},
            "hoverinfo": "skip",
        }
    )
    layout = {
        "margin": MARGIN,
        "hovermode": "closest",
        "xaxis": _share_axis("share of all errors"),
        "yaxis": {
            "title": {"text": "error rate"},
            "tickformat": ".0%",
            "rangemode": "tozero",
        },
    }
    return {"traces": traces, "layout": layout}


def _line_at(x: float, top: float, name: str) -> dict[str, Any]:
    return {
        "x": [x, x],
        "y": [0, top],
        "mode": "lines",
        "name": name,
        "color": "text",
        "line": {"width": 1},
        "hoverinfo": "skip",
    }


def _share_axis(title: str, *, tickformat: str = ".0%") -> dict[str, Any]:
    return {
        "title": {"text": title},
        "range": [-0.02, 1.02],
        "tickformat": tickformat,
    }
