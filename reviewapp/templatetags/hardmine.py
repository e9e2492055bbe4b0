"""How numbers, times and the navigation look, on every page the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django import template
from django.template import Context
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from reviewapp.models import Dataset

register = template.Library()
MISSING = "\N{EN DASH}"

# Name, URL, and how the URL names of its pages begin.
SECTIONS = (
    ("Overview", "dataset-detail", ("dataset-", "registration-")),
    ("Review", "review", ("review", "finding-decide", "finding-skip")),
    ("Findings", "finding-list", ("finding-list", "finding-detail")),
    ("Confusions", "confusion-list", ("confusion-list",)),
    ("History", "history", ("history", "confusion-detail", "confusion-plan")),
    ("Trends", "trends", ("trends",)),
    ("Compare", "comparison-new", ("comparison-",)),
    ("Scans", "scan-list", ("scan-", "schedule-")),
    ("Models", "model-list", ("model-", "version-")),
    ("Fix sets", "fixset-list", ("fixset-", "export-", "recipe-")),
    ("Training", "training-list", ("training-", "report-")),
    ("Team", "team", ("team",)),
    ("Members", "member-list", ("member-",)),
    ("Notifications", "webhook-list", ("webhook-",)),
)


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of a data set's navigation."""

    name: str
    url: str
    current: bool


@register.simple_tag(takes_context=True)
def dataset_sections(context: Context) -> list[Section]:
    """Return the navigation of the page's data set; empty outside of one."""
    dataset = context.get("dataset")
    if not isinstance(dataset, Dataset):
        return []
    request = context.get("request")
    match = request.resolver_match if request else None
    here = (match.url_name or "") if match else ""
    return [
        Section(
            name=name,
            url=reverse(url_name, args=[dataset.slug]),
            current=here.startswith(beginnings),
        )
        for name, url_name, beginnings in SECTIONS
    ]


@register.filter
def percent(share: float | None) -> str:
    """Write a share (0-1) as "26.5 %", or a dash when there is none.

    Only what is 0 or 1 is written so: "< 0.1 %" and "> 99.9 %" come between.
    """
    if share is None:
        return MISSING
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


@register.filter
def count(number: int | None) -> str:
    """Write a number as "12,345", or a dash when there is none."""
    return MISSING if number is None else f"{number:,}"


@register.filter
def share_of(part: int | None, whole: int | None) -> float | None:
    """Return part / whole, 0-1; None when there is nothing to divide."""
    return part / whole if part is not None and whole else None


@register.filter
def duration(seconds: float | timedelta | None) -> str:
    """Write seconds in the two largest units, "2 h 5 min" or "12 s"."""
    if seconds is None:
        return MISSING
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


@register.filter
def ago(moment: datetime | None) -> str:
    """Write how long ago a moment was, "12 s ago", or a dash when there is none."""
    if moment is None:
        return MISSING
    return f"{duration(timezone.now() - moment)} ago"


@register.filter
def mebibytes(number: float | None) -> str:
    """Write MiB as "612 MiB" or "3.4 GiB", or a dash when there is none."""
    if number is None:
        return MISSING
    return f"{number:,.0f} MiB" if number < 1024 else f"{number / 1024:,.1f} GiB"


@register.filter
def when(moment: datetime | None) -> SafeString | str:
    """Write a moment as a <time> in the local zone, or a dash when there is none."""
    if moment is None:
        return MISSING
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        f"{local:%Y-%m-%d %H:%M:%S %Z}",
        f"{local:%Y-%m-%d %H:%M}",
    )


@register.filter
def bar(share: float | None) -> SafeString:
    """Draw a share (0-1) as a bar; the number beside it is what is read out."""
    width = f"{100 * min(1.0, max(0.0, share or 0.0)):.1f}%"
    return format_html(
        '<svg class="bar" aria-hidden="true" focusable="false">'
        '<rect width="{}" height="100%"></rect></svg>',
        width,
    )
