"""Trends: a model's scans and the team's verdicts over time."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.models import RegisteredModel
from reviewapp.trends import Point, Trends, Week, last_scanned, trends_of
from reviewapp.views.requests import UserRequest

COLOURS = ("accent", "info", "good", "muted")  # of the splits
VERDICTS = (
    ("confirmed", "good", "confirmed"),
    ("relabelled", "info", "labels corrected"),
    ("dismissed", "muted", "dismissed"),
)


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show one registered model over time: of the one asked for, else the last scanned."""
    dataset = access_dataset(request.user, slug)
    models = dataset.registered_models.order_by("name", "pk")
    chosen = request.GET.get("model", "")
    if chosen:
        model: RegisteredModel | None = access_one(models, pk=id_from(chosen))
    else:
        model = last_scanned(dataset)
    context: dict[str, object] = {"dataset": dataset, "models": models, "model": model}
    if model:
        trends = trends_of(dataset, model)
        context |= {
            "points": trends.points[::-1],
            "weeks": [week for week in reversed(trends.weeks) if week.verdicts],
            "figures": figures_of(trends),
        }
    return render(request, "trends/index.html", context)


def figures_of(trends: Trends) -> list[tuple[str, str, str, dict[str, object]]]:
    """Return id, heading, spoken summary and figure of each chart that has something."""
    points, weeks = trends.points, trends.weeks
    charts = []
    if points:
        charts += [
            ("accuracy-figure", "Accuracy", _spoken(points), _accuracy(points)),
            (
                "errors-figure",
                "Errors and what waited",
                "See the table of scans",
                _errors(points),
            ),
        ]
    if any(week.verdicts for week in weeks):
        charts.append(
            (
                "verdicts-figure",
                "Verdicts by week",
                "See the table of weeks",
                _verdicts(weeks),
            )
        )
    return charts


def _spoken(points: list[Point]) -> str:
    first, last = points[0].scan, points[-1].scan
    return (
        f"Accuracy of {len(points)} scans, {first.accuracy or 0:.1%} in the first and "
        f"{last.accuracy or 0:.1%} in the last"
    )


def _names(points: list[Point]) -> list[str]:
    return [str(point.scan.pk) for point in points]


def _accuracy(points: list[Point]) -> dict[str, object]:
    """Return a curve for each split, in percent, with Wilson's intervals as bars."""
    splits = list(dict.fromkeys(point.scan.split for point in points))
    traces = []
    for n, split in enumerate(splits):
        mine = [p for p in points if p.scan.split == split and p.scan.readable]
        y = [100 * (point.scan.accuracy or 0) for point in mine]
        traces.append(
            {
                "name": split or "every split",
                "x": _names(mine),
                "y": y,
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [
                        100 * p.interval.high - a for p, a in zip(mine, y, strict=True)
                    ],
                    "arrayminus": [
                        a - 100 * p.interval.low for p, a in zip(mine, y, strict=True)
                    ],
                    "thickness": 1,
                },
                "mode": "lines+markers",
                "color": COLOURS[n % len(COLOURS)],
                "hovertemplate": "%{y:.1f} %",
            }
        )
    return {"traces": traces, "layout": _layout(_names(points), "accuracy, %")}


def _errors(points: list[Point]) -> dict[str, object]:
    names = _names(points)
    splits = list(dict.fromkeys(point.scan.split for point in points))
    traces: list[dict[str, object]] = [
        {
            "name": f"errors, {split or 'every split'}",
            "x": names,
            "y": [p.scan.errors if p.scan.split == split else None for p in points],
            "mode": "lines+markers",
            "connectgaps": True,
            "color": COLOURS[n % len(COLOURS)],
        }
        for n, split in enumerate(splits)
    ]
    waited = {
        "name": "findings without a verdict at its end",
        "x": names,
        "y": [point.scan.waiting for point in points],
        "mode": "lines+markers",
        "color": "bad",
        "line": {"dash": "dot"},
    }
    layout = _layout(names, "number")
    layout["yaxis"] = {"rangemode": "tozero", "title": {"text": "number"}}
    return {"traces": [*traces, waited], "layout": layout}


def _verdicts(weeks: list[Week]) -> dict[str, object]:
    return {
        "traces": [
            {
                "name": name,
                "type": "bar",
                "x": [week.start.isoformat() for week in weeks],
                "y": [getattr(week, field) for week in weeks],
                "color": colour,
            }
            for field, colour, name in VERDICTS
        ],
        "layout": {
            "barmode": "stack",
            "showlegend": True,
            "xaxis": {"type": "category", "title": {"text": "week from"}},
            "yaxis": {"rangemode": "tozero", "title": {"text": "verdicts"}},
        },
    }


def _layout(names: list[str], title: str) -> dict[str, object]:
    return {
        "showlegend": True,
        "xaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": names,
            "title": {"text": "scan"},
        },
        "yaxis": {"title": {"text": title}},
    }
