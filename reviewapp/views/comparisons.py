"""Two scans side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from mining.compare import CHANGES
from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.actions.comparisons import start_comparison
from reviewapp.comparing import CELLS
from reviewapp.forms.comparisons import ComparisonForm
from reviewapp.models import Comparison, Dataset, Exemplar, Finding, Sample, Scan
from reviewapp.pagination import keyset_page
from reviewapp.tasks import enqueue_comparison
from reviewapp.views.requests import UserRequest

PAGE_SIZE: Final = 30
IMAGES: Final = 24  # to a page
ROWS: Final = 50  # of confusions, of classes
REASONS: Final = {
    "only_in_baseline": "are in the baseline's scan only",
    "only_in_candidate": "are in the candidate's scan only",
    "other_label": "had another label in each scan",
    "other_image": "were another image in each scan",
}


@dataclass(frozen=True, slots=True)
class Image:
    """One sample of a cell: its label, and what the two models say."""

    key: str
    true: str
    before: str
    after: str
    page: str  # URL of a finding of it; empty: there is none
    picture: str  # URL of its thumbnail; empty: there is none


@dataclass(frozen=True, slots=True)
class Part:
    """One page of a table; `back` and `more` are queries, empty at the ends."""

    rows: Sequence[list[Any]]
    back: str
    more: str
    kept: int  # rows of all pages
    found: int  # what there is; a comparison keeps the first of many


@dataclass(frozen=True, slots=True)
class Confusion:
    """What became of one confusion; `findings` is a query for the list of them."""

    actual: str
    predicted: str
    before: int
    after: int
    both: int
    p: float
    adjusted: float
    findings: str


@require_http_methods(["GET", "POST"])
def new(request: UserRequest, slug: str) -> HttpResponse:
    """Choose two scans; list the comparisons that were made."""
    dataset = access_dataset(request.user, slug)
    asked = {
        side: id_from(request.GET.get(side, "")) for side in ("candidate", "baseline")
    }
    initial = {side: pk for side, pk in asked.items() if pk}
    form = ComparisonForm(request.POST or None, dataset=dataset, initial=initial)
    if form.is_valid():
        return _start(request, dataset, common=False, **form.cleaned_data)
    page = keyset_page(
        Comparison.objects.for_dataset(dataset).lean(),
        by=("id",),
        after=request.GET.get("after"),
        size=PAGE_SIZE,
    )
    context = {"dataset": dataset, "form": form, "page": page}
    return render(request, "comparisons/new.html", context)


@require_http_methods(["GET", "POST"])
def detail(
    request: UserRequest, slug: str, baseline_id: int, candidate_id: int
) -> HttpResponse:
    """Show one scan against another; a POST has it made, or made again."""
    dataset = access_dataset(request.user, slug)
    scans = Scan.objects.for_dataset(dataset).lean()
    baseline, candidate = (
        access_one(scans, pk=pk) for pk in (baseline_id, candidate_id)
    )
    given = request.POST if request.method == "POST" else request.GET
    labels = given.get("labels", "")
    if labels not in Comparison.Labels.values:
        labels = Comparison.Labels.CORRECTED.value
    common = given.get("common") == "1"
    if request.method == "POST":
        return _start(
            request,
            dataset,
            baseline=baseline,
            candidate=candidate,
            labels=labels,
            common=common,
        )
    made = Comparison.objects.of(baseline=baseline, candidate=candidate)
    comparison = made.scored(labels=labels, common=common).first()
    context = {
        "dataset": dataset,
        "baseline": baseline,
        "candidate": candidate,
        "labels": Comparison.Labels(labels),
        "choices": Comparison.Labels.choices,
        "common": common,
        "comparison": comparison,
    }
    if comparison:
        context |= _left_out(comparison)
    if comparison and comparison.figures:
        context |= _tables(request, dataset, comparison, candidate)
    return render(request, "comparisons/detail.html", context)


def _start(
    request: UserRequest,
    dataset: Dataset,
    *,
    baseline: Scan,
    candidate: Scan,
    labels: str,
    common: bool,
) -> HttpResponse:
    comparison = start_comparison(
        baseline=baseline,
        candidate=candidate,
        labels=labels,
        common=common,
        by=request.user,
    )
    enqueue_comparison(comparison)
    query = {"labels": labels} | ({"common": "1"} if common else {})
    page = reverse("comparison-detail", args=[dataset.slug, baseline.pk, candidate.pk])
    return redirect(f"{page}?{urlencode(query)}")


def _left_out(comparison: Comparison) -> dict[str, Any]:
    rows = comparison.details.get("left_out", {})
    return {"left_out": [(row, REASONS[name]) for name, row in rows.items()]}


def _tables(
    request: UserRequest,
    dataset: Dataset,
    comparison: Comparison,
    candidate: Scan,
) -> dict[str, Any]:
    figures, details = comparison.figures, comparison.details
    cell = _chosen(request, "cell", CELLS, figures, first=("broken", "fixed"))
    change = _chosen(request, "change", CHANGES, figures["changes"])
    images = _part(
        request, "images", details["images"][cell], IMAGES, found=figures[cell]
    )
    confusions = _part(
        request,
        "confusions",
        details["confusions"][change],
        ROWS,
        found=figures["changes"][change],
    )
    classes = details["classes"]
    return {
        "figures": figures,
        "cell": cell,
        "images": images,
        "shown": _images(dataset, candidate, images.rows),
        "change": change,
        "changes": [(name, figures["changes"][name]) for name in CHANGES],
        "confusions": confusions,
        "confusion_rows": _confusions(dataset, candidate, confusions.rows),
        "classes": _part(request, "classes", classes, ROWS, found=len(classes)),
    }


def _chosen(
    request: UserRequest,
    name: str,
    choices: Sequence[str],
    counts: dict[str, int],
    *,
    first: Sequence[str] = (),
) -> str:
    """Return what the query chooses, else the first that has something to show."""
    asked = request.GET.get(name, "")
    if asked in choices:
        return asked
    return next((c for c in (*first, *choices) if counts[c]), choices[0])


def _part(
    request: UserRequest, name: str, rows: list[list[Any]], size: int, *, found: int
) -> Part:
    page = Paginator(rows, size).get_page(request.GET.get(name))

    def query(number: int) -> str:
        given = request.GET.copy()
        given[name] = str(number)
        return given.urlencode()

    return Part(
        rows=list(page.object_list),
        back=query(page.number - 1) if page.has_previous() else "",
        more=query(page.number + 1) if page.has_next() else "",
        kept=len(rows),
        found=found,
    )


def _images(
    dataset: Dataset, candidate: Scan, rows: Sequence[list[Any]]
) -> list[Image]:
    """Return the images of a page, in three queries; a picture is a finding's, mostly."""
    ids = [row[0] for row in rows]
    keys = dict(Sample.objects.filter(pk__in=ids).values_list("pk", "key"))
    pages, pictures = {}, {}
    for one in Exemplar.objects.filter(
        registered_model__dataset=dataset, sample__in=ids
    ):
        pictures[one.sample_id] = _picture("exemplar-image", dataset, one)
    # Those of the candidate's model last: they replace another model's.
    model = candidate.model_version.registered_model_id
    found = Finding.objects.for_dataset(dataset).filter(sample__in=ids).order_by("id")
    for finding in sorted(found, key=lambda row: row.registered_model_id == model):
        sample = finding.sample_id
        pages[sample] = reverse("finding-detail", args=[dataset.slug, finding.pk])
        pictures[sample] = _picture("finding-image", dataset, finding)
    return [
        Image(
            key=keys[pk],
            true=true,
            before=before,
            after=after,
            page=pages.get(pk, ""),
            picture=pictures.get(pk, ""),
        )
        for pk, true, before, after in rows
        if pk in keys
    ]


def _picture(route: str, dataset: Dataset, one: Exemplar | Finding) -> str:
    return reverse(route, args=[dataset.slug, one.pk, one.digest, "grid"])


def _confusions(
    dataset: Dataset, candidate: Scan, rows: Sequence[list[Any]]
) -> list[Confusion]:
    names = {name for row in rows for name in row[:2]}
    labels = dict(dataset.labels.filter(name__in=names).values_list("name", "pk"))
    model = candidate.model_version.registered_model_id
    shared = {"registered_model": model, "show": "everything"}
    return [
        Confusion(
            actual=actual,
            predicted=predicted,
            before=before,
            after=after,
            both=both,
            p=p,
            adjusted=adjusted,
            findings=urlencode(
                {
                    "true_label": labels.get(actual, ""),
                    "predicted_label": labels.get(predicted, ""),
                }
                | shared
            ),
        )
        for actual, predicted, before, after, both, p, adjusted in rows
    ]
