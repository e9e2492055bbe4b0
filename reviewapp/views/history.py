"""The ledger: every confusion over all scans, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.text import Truncator
from django.views.decorators.http import require_GET, require_POST

from mining.evidence import Evidence
from reviewapp.access import access_dataset, access_one
from reviewapp.actions.plans import change_plan, plan_line
from reviewapp.filters import ConfusionFilter
from reviewapp.forms.choices import Menu, offer_choices
from reviewapp.forms.confusions import PlanForm
from reviewapp.judged import ASSUMED_SECONDS
from reviewapp.kinds import Kinds, ScanKind, choose_kind, last_scans
from reviewapp.ledger import (
    FOLLOWED,
    Fates,
    LineHistory,
    claims_on,
    fates_of,
    histories,
)
from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Dataset,
    RegisteredModel,
    Scan,
    Standing,
)
from reviewapp.models.people import role_on
from reviewapp.pagination import Page, keyset_page
from reviewapp.proofs import Proof, proof_of
from reviewapp.values import Value, page_by_value, values_of
from reviewapp.views.requests import UserRequest

if TYPE_CHECKING:
    from reviewapp.models.confusions import ConfusionQuerySet

PAGE_SIZE = 50
SCANS = 200  # as far back as the curve of one line goes
SCANS_OF_ALL = 60  # the same for all lines: a sparkline has no room for more
COLUMNS = 4  # the last scans, each with a column of its own
CHARTED = 8  # confusions drawn in the chart
NAME_SHOWN = 20  # characters of each in its legend, which a phone has room for
EVIDENCE = frozenset(field.name for field in fields(Evidence))


@dataclass(frozen=True, slots=True)
class Row:
    """One ledger line as the table shows it."""

    entry: LineHistory
    value: Value
    counts: tuple[int | None, ...]  # in the last scans
    proof: Proof
    elsewhere: ScanKind | None  # where its errors come from, if not from these scans


@dataclass(frozen=True, slots=True)
class Scanned:
    """The scans of one kind: their errors can be put side by side.

    Attributes:
        kinds: All that there are, and the one chosen.
        scans: Those of the one chosen, the oldest first.
        last: Id -> kind of the last scan of each model and kind, the latest first.
    """

    kinds: Kinds
    scans: list[Scan]
    last: dict[int, ScanKind]

    def elsewhere(self, value: Value) -> ScanKind | None:
        """Return of what kind the scan is that a value comes from; None: of this one."""
        kind = self.last.get(value.scan or 0)
        return None if kind == self.kinds.chosen else kind


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show the ledger, most frequent first, with each line's errors in every scan."""
    dataset = access_dataset(request.user, slug)
    query = ConfusionFilter(
        request.GET, Confusion.objects.for_dataset(dataset), dataset=dataset
    )
    page = _page(dataset, query, request.GET.get("after"))
    model = query.form.cleaned_data["registered_model"] if query.is_valid() else None
    scanned = _scanned(request, dataset, model, most=SCANS_OF_ALL)
    scans = scanned.scans
    lines = histories(lines=page.rows, scans=scans)
    values = values_of(dataset, page.rows)
    offer_choices(query.form, dataset)
    for name in ("state", "owner", "plan", "ordering"):
        field: Any = query.form.fields[name]  # a choice of some kind, each
        field.widget = Menu(choices=field.choices)
    context = {
        "dataset": dataset,
        "form": query.form,
        "order": query.order,
        "kinds": scanned.kinds,
        "scans": len(scans),
        "columns": scans[-COLUMNS:],
        "rows": [
            Row(
                entry,
                values[entry.line.pk],
                entry.counts[-COLUMNS:],
                proof_of(entry.line.evidence),
                scanned.elsewhere(values[entry.line.pk]),
            )
            for entry in lines
        ],
        "page": page,
        "has_several_models": len({row.registered_model_id for row in page.rows}) > 1,
        "errors_figure": errors_figure(scans),
        "lines_figure": lines_figure(scans, lines[:CHARTED]),
    }
    return render(request, "history/index.html", context)


def _page(
    dataset: Dataset, query: ConfusionFilter, after: str | None
) -> Page[Confusion]:
    lines = cast("ConfusionQuerySet", query.qs).with_names().select_related("owner")
    if query.order:
        return page_by_value(
            dataset, lines, order=query.order, after=after, size=PAGE_SIZE
        )
    return keyset_page(lines, by=("present", "peak", "id"), after=after, size=PAGE_SIZE)


def _scanned(
    request: UserRequest, dataset: Dataset, model: RegisteredModel | None, *, most: int
) -> Scanned:
    """Return the last scans that count, of the kind asked for or the last scanned."""
    finished = Scan.objects.for_dataset(dataset).finished().counted()
    if model:
        finished = finished.of_model(model)
    last = last_scans(finished)
    kinds = choose_kind(last, request.GET.get("over", ""))
    of_kind = kinds.chosen.among(finished) if kinds.chosen else finished
    scans = of_kind.lean().newest_first()[:most]
    return Scanned(kinds, list(scans)[::-1], {one.scan: one.kind for one in last})


@require_GET
def detail(request: UserRequest, slug: str, confusion_id: int) -> HttpResponse:
    """Show one ledger line: its proof, value, plan, scans, events and findings."""
    dataset = access_dataset(request.user, slug)
    return _detail(request, dataset, _access_line(dataset, confusion_id))


@require_POST
def plan(request: UserRequest, slug: str, confusion_id: int) -> HttpResponse:
    """Set owner, plan and target (lead), or take a line and give it up (reviewer)."""
    dataset = access_dataset(request.user, slug)
    line = _access_line(dataset, confusion_id)
    if "take" in request.POST or "give_up" in request.POST:
        owner = request.user if "take" in request.POST else None
        change_plan(line=line, by=request.user, owner=owner)
    else:
        form = PlanForm(request.POST, line=line)
        if not form.is_valid():
            return _detail(request, dataset, line, form=form)
        plan_line(line=line, plan=form.line_plan(), by=request.user)
    messages.success(request, "Saved.")
    page = reverse("confusion-detail", args=[slug, confusion_id])
    over = request.GET.get("over")
    return redirect(f"{page}?{urlencode({'over': over})}" if over else page)


def _access_line(dataset: Dataset, confusion_id: int) -> Confusion:
    ledger = Confusion.objects.for_dataset(dataset).with_names()
    return access_one(ledger.select_related("owner", "dataset"), pk=confusion_id)


def _detail(
    request: UserRequest,
    dataset: Dataset,
    line: Confusion,
    *,
    form: PlanForm | None = None,
) -> HttpResponse:
    scanned = _scanned(request, dataset, line.registered_model, most=SCANS)
    scans, newest = scanned.scans, next(iter(scanned.last), None)
    [entry] = histories(lines=[line], scans=scans)
    pair = (line.true_label_id, line.predicted_label_id)
    standings = Standing.objects.of_model(line.registered_model).of_pairs([pair])
    standing = standings.first() or Standing()
    fates = fates_of(line, newest) if newest else Fates()
    value = values_of(dataset, [line])[line.pk]
    context = {
        "dataset": dataset,
        "line": line,
        "role": role_on(request.user, dataset),
        "form": form or PlanForm(line=line),
        "proof": proof_of(line.evidence),
        "kinds": scanned.kinds,
        "value": value,
        "elsewhere": scanned.elsewhere(value),
        "assumed_seconds": ASSUMED_SECONDS,
        "claims": claims_on(line) if standing.is_exported else [],
        "entry": entry,
        "rows": list(zip(scans, entry.counts, strict=True))[::-1],
        "events": [
            (event, Confusion.State(event.new_state), evidence_in_words(event))
            for event in line.events.select_related("scan").order_by("-id")
        ],
        "standing": standing,
        "findings": _findings(standing),
        "fates": _fates(fates),
        "followed": 2 * FOLLOWED if fates.is_cut else None,
        "last_scan": newest,
        "figure": lines_figure(scans, [entry]),
    }
    return render(request, "history/detail.html", context, status=400 if form else 200)


def _findings(standing: Standing) -> list[tuple[str, str, int]]:
    """Return what each part is called, the choice of its findings, and how many."""
    return [
        ("Waiting for review", "show=waiting", standing.waiting),
        ("Of these, back", "show=waiting&presence=regressed", standing.back),
        ("Reviewed", "show=reviewed", standing.reviewed),
        ("Still seen", "show=present", standing.present),
    ]


def _fates(fates: Fates) -> list[tuple[str, str, int]]:
    """Return what each fate is called, the filter of its findings, and how many."""
    return [
        ("New", "", fates.new),
        ("Still wrong", "", fates.still),
        ("Fixed", "show=everything&presence=fixed", fates.fixed),
        ("Back", "show=present&presence=regressed", fates.regressed),
        ("Not covered by it", "", fates.not_covered),
        (
            "Wrong in another way, or with another label or image",
            "show=everything&presence=superseded",
            fates.superseded,
        ),
    ]


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
    counts = ", ".join(parts)
    proof = {name: value for name, value in said.items() if name in EVIDENCE}
    return f"{proof_of(proof).text} {counts}." if proof else counts


def errors_figure(scans: Sequence[Scan]) -> dict[str, object]:
    """Return what charts.js draws: all errors by scan of a kind, a curve for each model."""
    return {
        "traces": [
            {
                "name": model.name,
                "x": [str(scan.pk) for scan in scans],
                "y": [scan.errors if _model(scan) == model else None for scan in scans],
                "mode": "lines+markers",
                "connectgaps": True,
            }
            for model in dict.fromkeys(map(_model, scans))
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
                "name": Truncator(str(entry.line)).chars(NAME_SHOWN),
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
