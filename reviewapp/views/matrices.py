"""The confusion matrix of a scan, and its difference to another scan's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset, access_one
from reviewapp.forms.matrices import MatrixForm
from reviewapp.matrices import Cell, Drawing, draw
from reviewapp.models import Scan
from reviewapp.views.requests import UserRequest

TOP_CELLS: Final = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One cell in the table; the addresses are empty where there are no findings."""

    actual: str
    predicted: str
    cell: Cell
    findings: str
    findings_before: str

    @property
    def change(self) -> str:
        """Return how many more there are than in the other scan, "+4"."""
        n = self.cell.count - self.cell.before
        sign = "+" if n > 0 else "\N{MINUS SIGN}" if n else ""
        return f"{sign}{abs(n):,}"


@require_GET
def detail(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """Show the matrix of a finished scan; its cells come from the API."""
    dataset = access_dataset(request.user, slug)
    scan = access_one(Scan.objects.for_dataset(dataset).with_names(), pk=scan_id)
    form = MatrixForm(request.GET.dict(), scan=scan)
    form.offer_scans()
    choice, against = form.choice(), form.other_scan()
    drawing = draw(dataset=dataset, scan=scan, against=against, choice=choice)
    pages = findings_of(scan), findings_of(against) if against else ""
    context = {
        "dataset": dataset,
        "scan": scan,
        "against": against,
        "form": form,
        "choice": choice,
        "drawing": drawing,
        "rows": _rows(drawing, pages),
        "findings": pages[0],
        "findings_before": pages[1],
        "source": _source(scan, form),
    }
    return render(request, "matrices/detail.html", context)


def findings_of(scan: Scan) -> str:
    """Return the address of the errors that a scan saw; "" when it kept none.

    `&true_label=…&predicted_label=…` behind it keeps one cell's.
    """
    if scan.for_record:
        return ""
    query = urlencode(
        {
            "show": "everything",
            "kind": "misclassified",
            "scan": scan.pk,
            "registered_model": scan.model_version.registered_model_id,
        }
    )
    return f"{reverse('finding-list', args=[scan.dataset.slug])}?{query}"


def _rows(drawing: Drawing, pages: tuple[str, str]) -> list[Row]:
    names = dict(zip(drawing.now.labels.tolist(), drawing.names, strict=True))
    return [
        Row(
            actual=names[cell.true_label],
            predicted=names[cell.predicted_label],
            cell=cell,
            findings=_page(pages[0], cell) if cell.count else "",
            findings_before=_page(pages[1], cell) if cell.before else "",
        )
        for cell in drawing.top(TOP_CELLS)
    ]


def _page(findings: str, cell: Cell) -> str:
    if not findings:
        return ""
    pair = {"true_label": cell.true_label, "predicted_label": cell.predicted_label}
    return f"{findings}&{urlencode(pair)}"


def _source(scan: Scan, form: MatrixForm) -> str:
    """Return the address of the cells of the same matrix."""
    read = {name: form.data[name] for name in form.cleaned_data if form.data.get(name)}
    read["cells"] = "packed"
    address = reverse("api-matrix-detail", args=[scan.dataset.slug, scan.pk])
    return f"{address}?{urlencode(read)}"
