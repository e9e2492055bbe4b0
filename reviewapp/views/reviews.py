"""The review queue and the desk: one finding, one key, the next finding."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HttpResponseClientRedirect, push_url, reswap, retarget

from reviewapp.access import access_dataset, access_one
from reviewapp.actions import reviews as actions
from reviewapp.exceptions import HardmineError, Refused
from reviewapp.forms.reviews import DecisionForm, Queue, read_queue
from reviewapp.models import Dataset, Finding, Verdict
from reviewapp.views.desk import COUNTED, desk_context, pair_counts
from reviewapp.views.requests import UserRequest

SAID = {
    Verdict.CONFIRM: "Confirmed.",
    Verdict.RELABEL: "Relabelled.",
    Verdict.DISMISS: "Dismissed.",
}


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show what waits for a verdict, and what of it is free for this reviewer."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    waiting = Finding.objects.for_dataset(dataset).waiting()
    pairs = pair_counts(dataset, waiting)
    context = {
        "dataset": dataset,
        "queue": queue,
        "free": queue.free_for(request.user).count_up_to(COUNTED + 1),
        "counted": COUNTED,
        "skipped": queue.findings.waiting().skipped_by(request.user).count(),
        "mine": waiting.held_by(request.user).count(),
        "holders": waiting.held_by_others(request.user).count_by_holder(),
        "confusions": [pair for pair in pairs if not pair.is_near_miss],
        "near_misses": [pair for pair in pairs if pair.is_near_miss],
        "errors": sum(pair.n for pair in pairs if not pair.is_near_miss),
        "near": sum(pair.n for pair in pairs if pair.is_near_miss),
    }
    return render(request, "review/index.html", context)


@require_POST
def next_finding(request: UserRequest, slug: str) -> HttpResponse:
    """Hand out the next findings of a queue and go to the first.

    The field `again` brings back what this reviewer skipped in it.
    """
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.POST)
    if "again" in request.POST:
        actions.forget_skips(queue=queue.findings.waiting(), by=request.user)
    return _advance(request, dataset, queue)


@require_GET
def finding(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Show the desk of one finding."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    on_desk = access_one(
        Finding.objects.for_dataset(dataset).with_names(), pk=finding_id
    )
    context = desk_context(user=request.user, finding=on_desk, queue=queue)
    return render(request, "review/finding.html", context)


@require_POST
def decide(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Record a verdict and go to the next finding, in one request."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    findings = Finding.objects.for_dataset(dataset).with_names()
    on_desk = access_one(findings, pk=finding_id)
    form = DecisionForm(request.POST, dataset=dataset)
    try:
        review = form.decide(finding=on_desk, by=request.user)
    except HardmineError as error:
        now = access_one(findings, pk=finding_id)
        context = desk_context(
            user=request.user, finding=now, queue=queue, form=form, refusal=str(error)
        )
        return _desk(request, context, status=error.status)
    return _advance(request, dataset, queue, said=SAID[Verdict(review.verdict)])


@require_POST
def skip(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Put a finding off and go to the next."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    put_off = access_one(Finding.objects.for_dataset(dataset), pk=finding_id)
    actions.skip(finding=put_off, by=request.user)
    return _advance(request, dataset, queue, said="Skipped; it comes back at the end.")


@require_POST
def undo(request: UserRequest, slug: str) -> HttpResponse:
    """Take this reviewer's last verdict back and go to its finding."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    review = actions.last_review(dataset=dataset, by=request.user)
    if review is None:
        raise Refused(f"You have no verdict on {dataset} that could be undone.")
    reopened = actions.undo(review=review, by=request.user)
    findings = Finding.objects.for_dataset(dataset).with_names()
    actions.claim(queue=findings.just(reopened), by=request.user)
    said = f"Undone: {review.verdict}. Decide again."
    return _go(request, access_one(findings, pk=reopened.pk), queue, said=said)


@require_POST
def release(request: UserRequest, slug: str) -> HttpResponse:
    """Give back what this reviewer holds; a page that is left sends `beacon`."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    actions.release(dataset=dataset, by=request.user)
    if "beacon" in request.POST:
        return HttpResponse(status=204)
    return redirect(_url("review", queue, dataset.slug))


def _advance(
    request: UserRequest, dataset: Dataset, queue: Queue, *, said: str = ""
) -> HttpResponse:
    """Claim the next of the queue and go there; to the queue when nothing is free."""
    findings = actions.claim(queue=queue.findings.with_names(), by=request.user)
    if findings:
        return _go(request, findings[0], queue, said=said)
    text = f"{said} Nothing is left for you in {queue.title}.".strip()
    messages.info(request, text)
    url = _url("review", queue, dataset.slug)
    return HttpResponseClientRedirect(url) if request.htmx else redirect(url)


def _go(
    request: UserRequest, to: Finding, queue: Queue, *, said: str = ""
) -> HttpResponse:
    url = _url("review-finding", queue, to.dataset.slug, to.pk)
    if request.htmx:
        context = desk_context(user=request.user, finding=to, queue=queue, said=said)
        return push_url(_desk(request, context), url)
    if said:
        messages.success(request, said)
    return redirect(url)


def _desk(
    request: UserRequest, context: dict[str, object], *, status: int = 200
) -> HttpResponse:
    if not request.htmx:
        return render(request, "review/finding.html", context, status=status)
    response = render(request, "review/finding.html#desk", context, status=status)
    if status >= 400:  # base.html would put a refusal above the page
        response.headers["HX-Reselect"] = "unset"
        retarget(response, "#desk")
        reswap(response, "outerHTML")
    return response


def _url(name: str, queue: Queue, *args: object) -> str:
    return f"{reverse(name, args=args)}?{queue.query}"
