"""The list of findings, and everything known about one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode

import django_filters
from django.db.models import Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset, access_one
from reviewapp.filters import FindingFilter, IdFilter
from reviewapp.forms.choices import offer_choices
from reviewapp.models import (
    Cause,
    ConfusionCount,
    Dataset,
    Finding,
    KnownAnswer,
    Review,
    Sighting,
    Split,
    Standing,
)
from reviewapp.models.findings import FindingQuerySet
from reviewapp.models.people import role_on
from reviewapp.pagination import Page, keyset_page, keyset_token
from reviewapp.queues import QUEUE_FIELDS, Lane
from reviewapp.searching import BY, STEP, Wanted, search
from reviewapp.templatetags.hardmine import count, percent
from reviewapp.views.requests import UserRequest

PAGE_SIZE = 60
COUNTED = 1000  # more findings than this are shown as "over 1,000"
# The choices above the list: `show` in the query -> what it is called, what it keeps.
SHOWN: dict[str, tuple[str, Callable[[FindingQuerySet], FindingQuerySet]]] = {
    "waiting": ("Waiting", FindingQuerySet.waiting),
    "present": ("All present", FindingQuerySet.present),
    "reviewed": ("Reviewed", FindingQuerySet.reviewed),
    "fixed": ("Fixed", FindingQuerySet.fixed),
    "everything": ("Everything", FindingQuerySet.all),
}
STATES = ("review_state", "presence")  # filters that choose among the same as `show`
# What the standings count: of these choices, under no other filters than these.
STANDING = ("waiting", "present", "reviewed")
# Filters that `search` looks for.
SEARCHED = {"key", "cause", "split", "confidence_from", "confidence_to", "scan"}
STANDING_FIELDS = {"true_label", "predicted_label", "registered_model", "kind"}


class ListFilter(FindingFilter):
    """The filters of the list; `search` looks for what no index has in order."""

    key = django_filters.CharFilter(
        label="File name contains", method="leave_to_search"
    )
    cause = django_filters.ChoiceFilter(
        label="Cause", choices=Cause, empty_label="any", method="leave_to_search"
    )
    split = django_filters.ChoiceFilter(
        label="Split",
        choices=[choice for choice in Split.choices if choice[0]],
        empty_label="any",
        method="leave_to_search",
    )
    confidence_from = django_filters.NumberFilter(
        label="Confidence from", method="leave_to_search", min_value=0, max_value=1
    )
    confidence_to = django_filters.NumberFilter(
        label="Confidence to", method="leave_to_search", min_value=0, max_value=1
    )
    scan = IdFilter(label="Seen by scan", method="leave_to_search")

    def leave_to_search(
        self, queryset: FindingQuerySet, name: str, value: str
    ) -> FindingQuerySet:
        """Keep everything."""
        return queryset


@dataclass(frozen=True, slots=True)
class Listing:
    """What the list was asked for.

    Attributes:
        dataset: Whose findings.
        show: One of `SHOWN`.
        given: The filters that are set, read; none when they make no sense.
        findings: What they keep.
        after: The token of the page before, None for the first.
    """

    dataset: Dataset
    show: str
    given: dict[str, Any]
    findings: FindingQuerySet
    after: str | None

    def parts(self) -> list[FindingQuerySet]:
        """Return the findings in disjoint sets that an index has in order, each."""
        given, show = self.given, self.show
        reviewed = given.get("review_state", "open") != "open"
        unseen = given.get("presence", "seen") != "seen"
        if given.get("presence") == "regressed" and not reviewed:
            return self._back()
        if reviewed or unseen or show == "fixed":
            return [self.findings]
        if show == "reviewed" or "cause" in given:  # a cause comes with a verdict
            states = [state for state in Finding.ReviewState if state != "open"]
            return [self.findings.filter(review_state=state) for state in states]
        of_kind = [self.findings]  # the kind of a confusion is known
        if not given.keys() >= {"true_label", "predicted_label"}:
            of_kind = [self.findings.filter(kind=kind) for kind in Finding.Kind]
        if show == "waiting":
            return of_kind
        return [part for kind in of_kind for part in (kind.waiting(), kind.settled())]

    def _back(self) -> list[FindingQuerySet]:
        """Return the parts of what was fixed and seen again: few are reviewed."""
        waiting = self.findings.filter(review_state="open")
        of_kind = [waiting.filter(kind=kind) for kind in Finding.Kind]
        return [*of_kind, self.findings.exclude(review_state="open")]

    def page(self) -> Page[Finding]:
        """Return the page that is asked for; a whole file name is looked up."""
        if self.findings.query.is_empty():
            return Page([], None)
        rows, parts = self.findings.with_names(), self.parts()
        wanted = Wanted(**{n: self.given[n] for n in SEARCHED if n in self.given})
        named = wanted.key and self.dataset.samples.filter(key=wanted.key).first()
        if named:
            rows, wanted = rows.filter(sample=named), replace(wanted, key="")
            parts = [self.findings.filter(sample=named)]
        if not wanted:
            return keyset_page(
                rows, by=BY, after=self.after, size=PAGE_SIZE, parts=parts
            )
        ids, last = search(parts, wanted, after=self.after, size=PAGE_SIZE)
        found = list(rows.filter(pk__in=ids).hardest_first())
        at = self.findings.get(pk=last) if last else None
        return Page(found, keyset_token(at, by=BY) if at else None)

    def count(self, page: Page[Finding]) -> str:
        """Return how many there are, in words; "" where a search cannot know."""
        if page.next is None and not self.after:
            return count(len(page.rows))
        if self.given.keys() <= STANDING_FIELDS and self.show in STANDING:
            standings = Standing.objects.for_dataset(self.dataset).filter(**self.given)
            return count(standings.aggregate(n=Coalesce(Sum(self.show), 0))["n"])
        if self.given.keys() & SEARCHED:
            return self._count_of_cell()
        n = 0
        for part in self.parts():
            # In the index's order: else all are read to find what is rare.
            n += part.hardest_first()[: COUNTED + 1 - n].count()
        return count(n) if n <= COUNTED else f"over {count(COUNTED)}"

    def _count_of_cell(self) -> str:
        """Return what a scan counted of one confusion; "" for another search."""
        given = self.given
        cell = {"scan", "true_label", "predicted_label"}
        more = {"kind", "registered_model"}
        if self.show != "everything" or not cell <= given.keys() <= cell | more:
            return ""
        counts = ConfusionCount.objects.errors().filter(
            **{name: given[name] for name in cell},
            scan__dataset=self.dataset,
            scan__for_record=False,
        )
        return "".join(count(row.count) for row in counts)


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show the findings that a filter keeps, hardest first, as a grid or a table."""
    dataset = access_dataset(request.user, slug)
    show = _shown(request)
    _, keep = SHOWN[show]
    chosen = ListFilter(
        request.GET, keep(Finding.objects.for_dataset(dataset)), dataset=dataset
    )
    listing = _listing(request, dataset, show, chosen)
    page = listing.page()
    offer_choices(chosen.form, dataset)
    context = {
        "dataset": dataset,
        "form": chosen.form,
        "page": page,
        "count": listing.count(page),
        "searched": STEP,
        "is_filtered": any(request.GET.get(name) for name in chosen.filters),
        "show": show,
        "choices": [
            (name, title, _query(request, *STATES, show=name))
            for name, (title, _) in SHOWN.items()
        ],
        "as_table": request.GET.get("view") == "table",
        "grid_query": _query(request, view="grid"),
        "table_query": _query(request, view="table"),
        "first_query": _query(request),
        "next_query": _query(request, after=page.next or ""),
        "queue_fields": (queue := _queue(request)),
        "queue_query": urlencode(queue),
        "after": listing.after or "",
    }
    return render(request, "findings/index.html", context)


def _listing(
    request: HttpRequest, dataset: Dataset, show: str, chosen: ListFilter
) -> Listing:
    after = request.GET.get("after") or None
    if not chosen.is_valid():
        return Listing(dataset, show, {}, Finding.objects.none(), after)
    given = {n: v for n, v in chosen.form.cleaned_data.items() if v or v == 0}
    findings = cast("FindingQuerySet", chosen.qs)
    return Listing(dataset, show, given, findings, after)


def _queue(request: HttpRequest) -> dict[str, str]:
    """Return the fields of the queue with the same filters."""
    near = request.GET.get("kind") == Finding.Kind.NEAR_MISS
    lane = {"lane": Lane.NEAR_MISS.value} if near else {}
    sent = {name: request.GET.get(name, "") for name in QUEUE_FIELDS}
    return lane | {name: value for name, value in sent.items() if value}


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
        "role": role_on(request.user, dataset),
        "known": KnownAnswer.objects.filter(finding=finding).first(),
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
