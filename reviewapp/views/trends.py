"""Trends: a model's scans and the team's verdicts over time."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.kinds import choose_kind, kind_of, last_scans
from reviewapp.models import RegisteredModel, Scan
from reviewapp.trends import Point, Trends, Week, trends_of
from reviewapp.views.requests import UserRequest

VERDICTS = (
    ("confirmed", "good", "confirmed"),
    ("relabelled", "info", "labels corrected"),
    ("dismissed", "muted", "dismissed"),
)


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show a model over time, in scans of one kind: those asked for, or the last."""
    dataset = access_dataset(request.user, slug)
    models = dataset.registered_models.order_by("name", "pk")
    last = last_scans(Scan.objects.for_dataset(dataset).finished().counted())
    asked = request.GET.get("model", "")
    if asked:
        model: RegisteredModel | None = access_one(models, pk=id_from(asked))
    else:
        newest = last[0].model if last else None
        model = next((one for one in models if one.pk == newest), None)
    context: dict[str, object] = {"dataset": dataset, "models": models, "model": model}
    if model:
        mine = (one for one in last if one.model == model.pk)
        kinds = choose_kind(mine, request.GET.get("over", ""))
        trends = trends_of(dataset, model, kinds.chosen)
        context |= {
            "kinds": kinds,
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
            (
                "accuracy-figure",
                f"Accuracy: {_kind(points)}",
                _spoken(points),
                _accuracy(points),
            ),
            (
                "errors-figure",
                f"Errors and what waited: {_kind(points)}",
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
    """Return a curve in percent, with Wilson's intervals as bars."""
    mine = [point for point in points if point.scan.readable]
    y = [100 * (point.scan.accuracy or 0) for point in mine]
    above = [100 * p.interval.high - a for p, a in zip(mine, y, strict=True)]
    below = [a - 100 * p.interval.low for p, a in zip(mine, y, strict=True)]
    trace = {
        "name": _kind(points),
        "x": _names(mine),
        "y": y,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": above,
            "arrayminus": below,
            "thickness": 1,
        },
        "mode": "lines+markers",
        "color": "accent",
        "hovertemplate": "%{y:.1f} %",
    }
    return {"traces": [trace], "layout": _layout(_names(points), "accuracy, %")}


def _errors(points: list[Point]) -> dict[str, object]:
    names = _names(points)
    errors = {
        "name": f"errors, {_kind(points)}",
        "x": names,
        "y": [point.scan.errors for point in points],
        "mode": "lines+markers",
        "color": "accent",
    }
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
    return {"traces": [errors, waited], "layout": layout}


def _kind(points: list[Point]) -> str:
    """Return the kind of the scans, which they share."""
    return str(kind_of(points[0].scan))


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
