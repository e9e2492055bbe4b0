"""A reviewer's own last verdicts, each with its undo."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from reviewapp.access import access_dataset, id_from
from reviewapp.actions.given import MOMENT, GivenRow
from reviewapp.actions.lines import Line, kind_and_id, last_lines, take_line_back
from reviewapp.exceptions import HardmineError, Refused
from reviewapp.keys import OFF
from reviewapp.models import DismissReason, Finding, FixItem, Review, Verdict
from reviewapp.views.requests import UserRequest

if TYPE_CHECKING:
    from reviewapp.models import User

SHOWN = 50
THUMBNAILS = 8  # of what was given as one
# One key to a line: there are fewer letters than lines, so capitals follow.
KEYS = "123456789" + string.ascii_lowercase + string.ascii_uppercase
DONE = {
    Verdict.CONFIRM: "confirmed",
    Verdict.RELABEL: "relabelled",
    Verdict.DISMISS: "dismissed",
    Verdict.FLAG: "flagged",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list.

    Attributes:
        line: The verdicts.
        key: Undoes it; "" where there is none.
        can_undo: Whether something of it can be undone.
        why_not: What stands against its undo, or a part of it.
        frozen_in: Names of frozen fix sets that hold it.
    """

    line: Line
    key: str
    can_undo: bool
    why_not: str
    frozen_in: list[str]

    @property
    def first(self) -> GivenRow:
        """Return the verdict that names the line."""
        return self.line.first

    @property
    def said(self) -> str:
        """Return the verdict in words: "24 dismissed as one: ambiguous"."""
        row = self.first
        words = DONE[row.verdict]
        if len(self.line.rows) > 1:
            words = f"{len(self.line.rows)} {words} as one"
        if row.new_label:
            words += f" to {row.new_label}"
        return f"{words}: {DismissReason(row.reason).label}" if row.reason else words

    @property
    def pairs(self) -> str:
        """Return the confusion; of several the most frequent one."""
        pairs = Counter(row.finding.pair for row in self.line.rows)
        (most, _), others = pairs.most_common(1)[0], len(pairs) - 1
        return f"{most} and {others} more" if others else most

    @property
    def others(self) -> list[Finding]:
        """Return findings given with the first one, as many as have room."""
        return [row.finding for row in self.line.rows[1:THUMBNAILS]]

    @property
    def hidden(self) -> int:
        """Return how many have no thumbnail here."""
        return max(0, len(self.line.rows) - THUMBNAILS)


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show this reviewer's last verdicts on a data set, the latest first."""
    dataset = access_dataset(request.user, slug)
    lines = last_lines(dataset=dataset, by=request.user, limit=SHOWN)
    context = {
        "dataset": dataset,
        "entries": _entries(lines, request.user),
        "shown": SHOWN,
    }
    return render(request, "review/verdicts.html", context)


@require_POST
def undo(request: UserRequest, slug: str) -> HttpResponse:
    """Take one line back: the field `line` has the name of its first verdict."""
    dataset = access_dataset(request.user, slug)
    try:
        finding, at = _named(request.POST.get("line", ""))
        kind, pk = kind_and_id(finding=finding, at=at, dataset=dataset, by=request.user)
        taken = take_line_back(kind=kind, pk=pk, dataset=dataset, by=request.user)
    except HardmineError as error:
        messages.error(request, str(error))
        return redirect("review-verdicts", slug=slug)
    said = f"{len(taken.findings):,} undone."
    if taken.refused:
        why = " ".join(dict.fromkeys(text for _, text in taken.refused))
        said += f" {len(taken.refused):,} stay as they are. {why}"
    messages.success(request, said)
    return redirect("review-verdicts", slug=slug)


def _named(line: str) -> tuple[int, datetime]:
    """Read a `GivenRow.name`: the finding's id, and when the verdict was given."""
    number, _, moment = line.partition("-")
    finding = id_from(number)
    try:
        at = datetime.strptime(moment, MOMENT).replace(tzinfo=UTC)
    except ValueError:
        finding = None
    if finding is None:
        raise Refused("Choose the verdict to undo from the list.")
    return finding, at


def _entries(lines: list[Line], user: User) -> list[Entry]:
    reviews = [row for line in lines for row in line.rows if row.kind == "review"]
    obstacles = _obstacles(reviews)
    frozen = _frozen(reviews)
    keys = iter("" if user.keys.get(OFF) else KEYS)
    entries = []
    for line in lines:
        mine = [row.pk for row in line.rows if row.kind == "review"]
        why = [obstacles[pk] for pk in mine if pk in obstacles]
        can_undo = len(line.rows) > len(why)
        entries.append(
            Entry(
                line=line,
                key=next(keys, "") if can_undo else "",
                can_undo=can_undo,
                why_not=_in_words(why, len(line.rows)),
                frozen_in=sorted({name for pk in mine for name in frozen.get(pk, ())}),
            )
        )
    return entries


def _obstacles(reviews: Collection[GivenRow]) -> dict[int, str]:
    """Return review id -> what stands against its undo."""
    last = Review.objects.standing().last_of([row.finding.pk for row in reviews])
    found = {}
    for row in reviews:
        later = last.get(row.finding.pk)
        label = row.finding.sample.label
        if later and later.pk > row.pk:
            found[row.pk] = f"{later.reviewer} gave the verdict {later.verdict} later."
        elif row.new_label and label != row.new_label:
            found[row.pk] = f"The label was changed to {label} since."
    return found


def _in_words(why: list[str], of: int) -> str:
    reasons = " ".join(dict.fromkeys(why))
    return (
        f"{len(why)} of them cannot be undone: {reasons}" if why and of > 1 else reasons
    )


def _frozen(reviews: Collection[GivenRow]) -> dict[int, set[str]]:
    """Return review id -> names of the frozen fix sets that were made from it."""
    ids = {(row.finding.pk, row.created_at): row.pk for row in reviews}
    items = FixItem.objects.filter(
        finding__in=[row.finding.pk for row in reviews],
        fix_set__frozen_at__isnull=False,
    )
    found: dict[int, set[str]] = {}
    for finding, at, name in items.values_list(
        "finding_id", "reviewed_at", "fix_set__name"
    ):
        if (finding, at) in ids:
            found.setdefault(ids[finding, at], set()).add(name)
    return found
