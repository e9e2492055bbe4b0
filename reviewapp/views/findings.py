"""The list of findings, and everything known about one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset, access_one
from reviewapp.filters import FindingFilter
from reviewapp.forms.reviews import QUEUE_FIELDS
from reviewapp.models import Finding, Review, Sighting
from reviewapp.models.findings import FindingQuerySet
from reviewapp.pagination import Page, keyset_page
from reviewapp.templatetags.hardmine import percent
from reviewapp.views.requests import UserRequest

PAGE_SIZE = 60
COUNTED = 10_000  # more findings than this are shown as "over 10,000"
# The choices above the list: `show` in the query -> what it is called, what it keeps.
SHOWN: dict[str, tuple[str, Callable[[FindingQuerySet], FindingQuerySet]]] = {
    "waiting": ("Waiting", FindingQuerySet.waiting),
    "present": ("All present", FindingQuerySet.present),
    "reviewed": ("Reviewed", FindingQuerySet.reviewed),
    "fixed": ("Fixed", FindingQuerySet.fixed),
    "everything": ("Everything", FindingQuerySet.all),
}
STATES = ("review_state", "presence")  # filters that choose among the same as `show`


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show the findings that a filter keeps, hardest first, as a grid or a table."""
    dataset = access_dataset(request.user, slug)
    show = _shown(request)
    _, keep = SHOWN[show]
    chosen = FindingFilter(
        request.GET, keep(Finding.objects.for_dataset(dataset)), dataset=dataset
    )
    kept = chosen.qs if chosen.is_valid() else Finding.objects.none()
    findings = cast("FindingQuerySet", kept)
    page: Page[Finding] = keyset_page(
        findings.with_names(),
        by=("priority", "id"),
        after=request.GET.get("after"),
        size=PAGE_SIZE,
    )
    sent = {name: request.GET[name] for name in QUEUE_FIELDS if name in request.GET}
    as_table = request.GET.get("view") == "table"
    context = {
        "dataset": dataset,
        "form": chosen.form,
        "page": page,
        "count": findings.count_up_to(COUNTED + 1),
        "counted": COUNTED,
        "is_filtered": any(request.GET.get(name) for name in chosen.filters),
        "show": show,
        "choices": [
            (name, title, _query(request, *STATES, show=name))
            for name, (title, _) in SHOWN.items()
        ],
        "as_table": as_table,
        "grid_query": _query(request, view="grid"),
        "table_query": _query(request, view="table"),
        "first_query": _query(request),
        "next_query": _query(request, after=page.next or ""),
        # An empty kind is a choice too: errors and near misses.
        "queue_fields": {"kind": "", **sent},
        "after": request.GET.get("after", ""),
    }
    return render(request, "findings/index.html", context)


def _shown(request: HttpRequest) -> str:
    """Return what to show: what is asked for, else all present.

    A filter on review or presence says itself what to show.
    """
    show = request.GET.get("show", "")
    if show in SHOWN:
        return show
    return "everything" if any(request.GET.get(name) for name in STATES) else "present"


def _query(request: HttpRequest, *without: str, **changes: str) -> str:
    """Return the page's query string with changes, without the place in the list."""
    query = request.GET.copy()
    for name in ("after", *without):
        query.pop(name, None)
    for name, value in changes.items():
        query[name] = value
    return query.urlencode()


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened to a finding."""

    at: datetime
    what: str
    who: str = ""
    note: str = ""


@require_GET
def detail(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Show one finding: its image, sightings, reviews and what happened to it."""
    dataset = access_dataset(request.user, slug)
    finding = access_one(
        Finding.objects.for_dataset(dataset).with_names(), pk=finding_id
    )
    sightings = list(
        finding.sightings.select_related(
            "scan__model_version__registered_model"
        ).order_by("-scan_id")
    )
    reviews = list(Review.objects.of_sample(finding.sample).with_names().newest_first())
    context = {
        "dataset": dataset,
        "finding": finding,
        "sightings": sightings,
        "reviews": reviews,
        "attributes": sorted(finding.sample.attributes.items()),
        "moments": _moments(finding, sightings, reviews),
    }
    return render(request, "findings/detail.html", context)


def _moments(
    finding: Finding, sightings: list[Sighting], reviews: list[Review]
) -> list[Moment]:
    """Return what happened to the finding itself, the latest first."""
    moments = [Moment(finding.created_at, "found for the first time")]
    for sighting in sightings:
        scan = sighting.scan
        seen = (
            f"seen by {scan} ({scan.model_version}), p(true) {percent(sighting.p_true)}"
        )
        moments.append(Moment(scan.finished_at or scan.created_at, seen))
    for review in reviews:
        if review.finding_id != finding.pk:
            continue
        to = f" to {review.new_label}" if review.new_label else ""
        moments.append(
            Moment(
                review.created_at,
                f"{review.verdict}{to}",
                str(review.reviewer),
                review.note,
            )
        )
        if review.undone:
            what = f"{review.verdict} undone"
            moments.append(
                Moment(review.undone.created_at, what, str(review.undone.by))
            )
    return sorted(moments, key=lambda moment: moment.at, reverse=True)
