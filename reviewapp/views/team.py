"""The team of a data set: its figures, second opinions, known answers and rules."""

from __future__ import annotations

from uuid import uuid4

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.actions.known import add_known_answer, remove_known_answer
from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.teams import free_claims, set_team_rules
from reviewapp.exceptions import HardmineError
from reviewapp.forms.reviews import DecisionForm
from reviewapp.forms.team import TeamRulesForm
from reviewapp.models import Dataset, Finding, KnownAnswer, Opinion, Role, User
from reviewapp.models.people import role_on
from reviewapp.second_opinions import (
    as_disputed,
    as_flagged,
    count_set_aside,
    disputed_findings,
    flagged_findings,
    in_words,
    settled_disputes,
)
from reviewapp.team import BREAK, COUNTED, DAYS, Estimate, team_figures
from reviewapp.views.requests import UserRequest

KNOWN_SHOWN = 20
WHOLE_FROM = 10  # days left; a tenth of a day says nothing of more
MARKED = "Marked. It is mixed in for those who do not know it yet."
MARKED_UNUSED = (
    "Marked, but not handed out yet: the share of known answers is 0 %. An admin sets "
    "it on the page Team, under Rules."
)


@require_GET
def team(request: UserRequest, slug: str) -> HttpResponse:
    """Show how the team does; other people's own figures are for leads."""
    return _team(request, access_dataset(request.user, slug))


@require_POST
def rules(request: UserRequest, slug: str) -> HttpResponse:
    """Set overlap and known answers (admin)."""
    dataset = access_dataset(request.user, slug, role=Role.ADMIN)
    form = TeamRulesForm.of(dataset, request.POST)
    if not form.is_valid():
        return _team(request, dataset, form=form)
    set_team_rules(dataset=dataset, by=request.user, **form.rules())
    messages.success(request, "The rules are set. They hold from the next verdict on.")
    return redirect("team", slug)


@require_POST
def free(request: UserRequest, slug: str) -> HttpResponse:
    """Take back what one person holds, or with `all` everybody (admin)."""
    dataset = access_dataset(request.user, slug, role=Role.ADMIN)
    holder = None
    if "all" not in request.POST:
        holders = User.objects.filter(claims__finding__dataset=dataset).distinct()
        holder = access_one(holders, pk=id_from(request.POST.get("holder", "")))
    freed = free_claims(dataset=dataset, by=request.user, holder=holder)
    whose = f"{holder} held" if holder else "the team held"
    messages.success(request, f"{freed:,} that {whose} are free again.")
    return redirect("team", slug)


def _team(
    request: UserRequest, dataset: Dataset, *, form: TeamRulesForm | None = None
) -> HttpResponse:
    role = role_on(request.user, dataset)
    leads = role is not None and role.leads
    figures = team_figures(dataset)
    known = KnownAnswer.objects.for_dataset(dataset)
    context = {
        "dataset": dataset,
        "role": role,
        "figures": figures if leads else figures.only(request.user),
        "form": form or TeamRulesForm.of(dataset),
        "known": known.with_score().newest_first()[:KNOWN_SHOWN] if leads else [],
        "known_count": known.count() if leads else 0,
        "counted": COUNTED,
        "days": DAYS,
        "days_left": _days_in_words(figures.left.days),
        "pause": BREAK // 60,
    }
    status = 400 if form else 200
    return render(request, "team/team.html", context, status=status)


def _days_in_words(days: Estimate | None) -> dict[str, str]:
    """Write an estimate in days by its parts; whole days from `WHOLE_FROM` on."""
    if days is None:
        return {}
    parts = {"value": days.value, "low": days.low, "high": days.high}
    return {
        name: f"{part:,.0f}" if round(part, 1) >= WHOLE_FROM else f"{part:.1f}"
        for name, part in parts.items()
    }


@require_GET
def second(request: UserRequest, slug: str) -> HttpResponse:
    """Show what is flagged, and to leads what is disputed."""
    dataset = access_dataset(request.user, slug)
    role = role_on(request.user, dataset)
    leads = role is not None and role.leads
    disputed = leads and request.GET.get("show") == "disputed"
    after = request.GET.get("after")
    if disputed:
        page = disputed_findings(dataset, after)
        cases = as_disputed(page.rows, request.user)
    else:
        page = flagged_findings(dataset, after)
        cases = as_flagged(page.rows, request.user)
    context = {
        "dataset": dataset,
        "role": role,
        "disputed": disputed,
        "left": count_set_aside(dataset, COUNTED),
        "cases": [(case, uuid4()) for case in cases],
        "next": page.next,
        "labels": dataset.labels.current(),
        "settled": settled_disputes(dataset) if disputed else [],
    }
    return render(request, "team/second.html", context)


@require_POST
def decide(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Decide a flagged or disputed finding, and say who had said what."""
    dataset = access_dataset(request.user, slug)
    findings = Finding.objects.for_dataset(dataset).with_names()
    finding = access_one(findings, pk=finding_id)
    form = DecisionForm(request.POST, dataset=dataset)
    back = redirect("team-second", slug)
    if request.POST.get("show") == "disputed":
        back.headers["Location"] += "?show=disputed"
    try:
        given = give_verdict(finding=finding, by=request.user, decision=form.decision())
    except HardmineError as error:
        messages.error(request, f"{finding.sample.key}: {error}")
        return back
    settled = Opinion.objects.filter(review=given.review) if given.review else None
    voices = ", ".join(
        f"{one.reviewer} had said {in_words(one)}"
        for one in (settled.with_names().order_by("id") if settled else ())
    )
    said = f"{finding.sample.key}: {given.said}"
    messages.success(request, f"{said} {voices}." if voices else said)
    return back


@require_POST
def known(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Mark a finding's answer as known, or with `remove` take the mark off (lead)."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    finding = access_one(Finding.objects.for_dataset(dataset), pk=finding_id)
    if "remove" in request.POST:
        marks = KnownAnswer.objects.for_dataset(dataset).select_related("dataset")
        remove_known_answer(known=access_one(marks, finding=finding), by=request.user)
        messages.success(request, "The mark is off. The finding can be decided anew.")
    else:
        add_known_answer(finding=finding, by=request.user)
        messages.success(request, MARKED if dataset.known_rate else MARKED_UNUSED)
    if "team" in request.POST:
        return redirect("team", slug)
    return redirect("finding-detail", slug, finding_id)
