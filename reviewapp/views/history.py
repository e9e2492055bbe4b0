"""The ledger: every confusion over all scans, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset, access_one
from reviewapp.filters import ConfusionFilter
from reviewapp.forms.choices import offer_choices
from reviewapp.ledger import LineHistory, histories
from reviewapp.models import Confusion, ConfusionEvent, RegisteredModel, Scan, Standing
from reviewapp.pagination import keyset_page
from reviewapp.views.requests import UserRequest

if TYPE_CHECKING:
    from reviewapp.models.confusions import ConfusionQuerySet

PAGE_SIZE = 50
SCANS = 200  # as far back as the curve of one line goes
SCANS_OF_ALL = 60  # the same for all lines: a sparkline has no room for more
COLUMNS = 12  # the last scans, each with a column of its own
CHARTED = 8  # confusions drawn in the chart


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show the ledger, most frequent first, with each line's errors in every scan."""
    dataset = access_dataset(request.user, slug)
    query = ConfusionFilter(
        request.GET, Confusion.objects.for_dataset(dataset), dataset=dataset
    )
    page = keyset_page(
        cast("ConfusionQuerySet", query.qs).with_names(),
        by=("present", "peak", "id"),
        after=request.GET.get("after"),
        size=PAGE_SIZE,
    )
    finished = (
        Scan.objects.for_dataset(dataset).finished().counted().lean().newest_first()
    )
    if query.is_valid() and (model := query.form.cleaned_data["registered_model"]):
        finished = finished.of_model(model)
    scans = list(finished[:SCANS_OF_ALL])[::-1]
    lines = histories(lines=page.rows, scans=scans)
    offer_choices(query.form, dataset)
    context = {
        "dataset": dataset,
        "form": query.form,
        "lines": lines,
        "scans": len(scans),
        "columns": scans[-COLUMNS:],
        "rows": [(entry, entry.counts[-COLUMNS:]) for entry in lines],
        "next": page.next,
        "has_several_models": len({row.registered_model_id for row in page.rows}) > 1,
        "errors_figure": errors_figure(scans),
        "lines_figure": lines_figure(scans, lines[:CHARTED]),
    }
    return render(request, "history/index.html", context)


@require_GET
def detail(request: UserRequest, slug: str, confusion_id: int) -> HttpResponse:
    """Show one ledger line: its errors in every scan, its events, its findings."""
    dataset = access_dataset(request.user, slug)
    ledger = Confusion.objects.for_dataset(dataset).with_names()
    line = access_one(ledger, pk=confusion_id)
    finished = (
        Scan.objects.for_dataset(dataset).finished().counted().lean().newest_first()
    )
    scans = list(finished.of_model(line.registered_model)[:SCANS])[::-1]
    [entry] = histories(lines=[line], scans=scans)
    pair = (line.true_label_id, line.predicted_label_id)
    standings = Standing.objects.of_model(line.registered_model).of_pairs([pair])
    standing = standings.first() or Standing()
    context = {
        "dataset": dataset,
        "line": line,
        "entry": entry,
        "rows": list(zip(scans, entry.counts, strict=True))[::-1],
        "events": [
            (event, Confusion.State(event.new_state), evidence_in_words(event))
            for event in line.events.select_related("scan").order_by("-id")
        ],
        "standing": standing,
        # What it is called, the choice above the list of findings, how many.
        "findings": [
            ("Waiting for review", "show=waiting", standing.waiting),
            ("Of these, back", "show=waiting&presence=regressed", standing.back),
            ("Reviewed", "show=reviewed", standing.reviewed),
            ("Still seen", "show=present", standing.present),
        ],
        "figure": lines_figure(scans, [entry]),
    }
    return render(request, "history/detail.html", context)


def evidence_in_words(event: ConfusionEvent) -> str:
    """Return why a ledger line changed its state."""
    said = event.evidence
    parts = [
        f"{said.get('present', 0)} still seen",
        f"{said.get('waiting', 0)} without a verdict",
        f"{said.get('reviewed', 0)} reviewed",
    ]
    if said.get("count_in_scan") is not None:
        parts.insert(0, f"{said['count_in_scan']} in this scan")
    return ", ".join(parts)


def errors_figure(scans: Sequence[Scan]) -> dict[str, object]:
    """Return what charts.js draws: all errors by scan, a curve for each model and split."""
    kinds = dict.fromkeys((_model(scan), scan.split) for scan in scans)
    return {
        "traces": [
            {
                "name": f"{model.name}, {split or 'every split'}",
                "x": [str(scan.pk) for scan in scans],
                "y": [
                    scan.errors
                    if (_model(scan), scan.split) == (model, split)
                    else None
                    for scan in scans
                ],
                "mode": "lines+markers",
                "connectgaps": True,
            }
            for model, split in kinds
        ],
        "layout": _layout(),
    }


def lines_figure(
    scans: Sequence[Scan], lines: Sequence[LineHistory]
) -> dict[str, object]:
    """Return what charts.js draws: a curve for each ledger line, with its gaps."""
    return {
        "traces": [
            {
                "name": str(entry.line),
                "x": [str(scan.pk) for scan in scans],
                "y": list(entry.counts),
                "mode": "lines+markers",
            }
            for entry in lines
        ],
        "layout": _layout(),
    }


def _layout() -> dict[str, object]:
    return {
        "showlegend": True,
        # Two columns, on a phone too: eight lines must leave room for the curves.
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "entrywidth": 0.45,
            "entrywidthmode": "fraction",
            "font": {"size": 11},
        },
        "xaxis": {"type": "category", "title": {"text": "scan"}},
        "yaxis": {"rangemode": "tozero"},
    }


def _model(scan: Scan) -> RegisteredModel:
    return scan.model_version.registered_model
