"""The desk: one finding, one key, the next finding.

Every request works in two ways. A form of the page gets a redirect. The desk's script
sends the header `Hardmine-Desk: 1` and gets fragments: how far the reviewer is, and the
next desk that it does not hold ready (`beside`) yet.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from reviewapp.access import access_dataset, access_finding, access_one, id_from
from reviewapp.actions import reviews as actions
from reviewapp.actions.given import last_given
from reviewapp.actions.known import mix_in
from reviewapp.actions.opinions import give_verdict, take_back, take_back_last
from reviewapp.exceptions import HardmineError, Refused
from reviewapp.forms.reviews import DecisionForm
from reviewapp.keys import key_groups, keys_for
from reviewapp.lookalikes import Offer, offer_for
from reviewapp.models import Dataset, Finding, Review
from reviewapp.queues import Queue, read_queue
from reviewapp.views.desk import desk_context, progress_of
from reviewapp.views.requests import UserRequest

BESIDE = 50  # findings that a browser may name as held ready


@require_POST
def next_finding(request: UserRequest, slug: str) -> HttpResponse:
    """Hand out the next findings of a queue and go to the first.

    The field `again` brings back what this reviewer skipped in it; a script says by
    `count` how many desks it wants.
    """
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, {**request.POST.dict(), **request.GET.dict()})
    if "again" in request.POST:
        actions.forget_skips(queue=queue, by=request.user)
    return _advance(request, queue)


@require_GET
def finding(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Show the desk of one finding."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    offer = _offered(request, dataset)
    return _page(request, _on_desk(dataset, finding_id), queue, offer=offer)


@require_POST
def decide(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Record a verdict and go to the next finding, in one request."""
    on_desk = access_finding(request.user, slug, finding_id)
    dataset = on_desk.dataset
    queue = read_queue(dataset, request.GET)
    form = DecisionForm(request.POST, dataset=dataset)
    try:
        given = give_verdict(finding=on_desk, by=request.user, decision=form.decision())
    except HardmineError as error:
        if _is_script(request):
            return _refusal(request, error)
        now = _on_desk(dataset, finding_id)
        return _page(request, now, queue, form=form, error=error)
    offer = offer_for(given.review, request.user) if given.review else None
    return _advance(request, queue, said=given.said, offer=offer)


@require_POST
def skip(request: UserRequest, slug: str, finding_id: int) -> HttpResponse:
    """Put a finding off and go to the next."""
    put_off = access_finding(request.user, slug, finding_id)
    queue = read_queue(put_off.dataset, request.GET)
    actions.skip(finding=put_off, by=request.user)
    return _advance(request, queue, said="Skipped; it comes back at the end.")


@require_POST
def undo(request: UserRequest, slug: str) -> HttpResponse:
    """Take this reviewer's last verdict back, or that of a `key`, and go there."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    try:
        reopened = _take_back(request, dataset)
    except HardmineError as error:
        if _is_script(request):
            return _refusal(request, error)
        raise
    actions.claim_one(finding=reopened, by=request.user)
    if _is_script(request):
        return _answer(request, queue, [_on_desk(dataset, reopened.pk)])
    messages.success(request, "Undone. Decide again.")
    return redirect(_url("review-finding", queue, dataset.slug, reopened.pk))


@require_POST
def release(request: UserRequest, slug: str) -> HttpResponse:
    """Give back what this reviewer holds; a page that is left sends `beacon`."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    actions.release(dataset=dataset, by=request.user)
    if "beacon" in request.POST:
        return HttpResponse(status=204)
    return redirect(_url("review", queue, dataset.slug))


@require_POST
def renew(request: UserRequest, slug: str) -> HttpResponse:
    """Extend what this reviewer holds, and say which of their desks are not theirs.

    The field `on` names the desks in the browser as "id:version,…". Those that nobody
    holds are held from now on.
    """
    dataset = access_dataset(request.user, slug)
    seen = _seen(request.POST.get("on", ""))
    actions.renew(dataset=dataset, by=request.user)
    on_desks = Finding.objects.for_dataset(dataset).filter(pk__in=seen)
    now = dict(on_desks.values_list("pk", "version"))
    actions.hold(findings=list(now), by=request.user)
    holders = on_desks.held_by_others(request.user)
    lost = {
        pk: "This finding has changed since it was loaded. A verdict would be refused."
        for pk, version in seen.items()
        if now.get(pk) != version
    }
    for pk, name in holders.values_list("pk", "claim__reviewer__username"):
        lost[pk] = f"{name} has taken this finding over. A verdict would be refused."
    return JsonResponse({"lost": lost})


def _advance(
    request: UserRequest, queue: Queue, *, said: str = "", offer: Offer | None = None
) -> HttpResponse:
    """Hand out the next of the queue and go there; to the queue when nothing is free."""
    found = _next(request, queue)
    if _is_script(request):
        return _answer(request, queue, found, offer=offer)
    if not found:
        text = f"{said} Nothing is left for you in {queue.title}.".strip()
        messages.info(request, text)
        return redirect(_url("review", queue, queue.dataset.slug))
    if said:
        messages.success(request, said)
    url = _url("review-finding", queue, queue.dataset.slug, found[0].pk)
    if not offer:
        return redirect(url)
    return redirect(f"{url}{'&' if queue.query else '?'}alike={offer.review.pk}")


def _next(request: UserRequest, queue: Queue) -> list[Finding]:
    """Claim and return the next findings that the browser does not hold ready."""
    beside = _ids(request.POST.get("beside", ""))
    count = min(id_from(request.POST.get("count", "")) or 1, settings.CLAIM_BATCH)
    # Without a script nothing is held ready: the batch is there for the next pages.
    limit = len(beside) + count if _is_script(request) else settings.CLAIM_BATCH
    free = actions.claim(
        queue=queue,
        by=request.user,
        limit=limit,
        without=beside,
        ahead=settings.CLAIM_BATCH - 1 if _is_script(request) else 0,
    )
    mixed = mix_in(queue=queue, by=request.user, findings=free)
    return [finding for finding in mixed if finding.pk not in beside][:count]


def _answer(
    request: UserRequest,
    queue: Queue,
    desks: list[Finding],
    *,
    offer: Offer | None = None,
) -> HttpResponse:
    """Return the fragments that the desk's script takes apart."""
    context = {
        "dataset": queue.dataset,
        "queue": queue,
        "alike": offer,
        "keys": keys_for(request.user),
    }
    # Between its answers the script counts by itself.
    if "progress" in request.POST:
        context["progress"] = progress_of(request.user, queue)
    parts = [render_to_string("review/answer.html", context, request)]
    for one in desks:
        context = desk_context(
            user=request.user, finding=one, queue=queue, is_ours=True
        )
        parts.append(render_to_string("review/desk.html", context, request))
    return HttpResponse("".join(parts))


def _refusal(request: UserRequest, error: HardmineError) -> HttpResponse:
    context = {"message": str(error)}
    return render(request, "review/refusal.html", context, status=error.status)


def _page(
    request: UserRequest,
    on_desk: Finding,
    queue: Queue,
    *,
    form: DecisionForm | None = None,
    error: HardmineError | None = None,
    offer: Offer | None = None,
) -> HttpResponse:
    context = desk_context(
        user=request.user,
        finding=on_desk,
        queue=queue,
        form=form,
        refusal=str(error or ""),
    )
    classes = list(queue.dataset.labels.current())
    context |= {
        "alike": offer,
        "ahead": settings.CLAIM_BATCH - 1,
        "choices": [one for one in classes if one.pk != on_desk.true_label_id],
        "classes": [[label.pk, label.name] for label in classes],
        "progress": progress_of(request.user, queue),
        "key_groups": key_groups(request.user),
    }
    status = error.status if error else 200
    return render(request, "review/finding.html", context, status=status)


def _take_back(request: UserRequest, dataset: Dataset) -> Finding:
    if not request.POST.get("key"):
        return take_back_last(dataset=dataset, by=request.user)
    key = _uuid(request.POST["key"])
    rows = last_given(dataset=dataset, by=request.user)
    row = next((row for row in rows if key and row.key == key), None)
    if row is None:
        raise Refused("This verdict is not among your last ones any more.")
    if row.is_undone:  # a retry: the answer to the first request was lost
        return row.finding
    return take_back(kind=row.kind, pk=row.pk, by=request.user)


def _offered(request: UserRequest, dataset: Dataset) -> Offer | None:
    """Return what looks like the finding that was just decided, without a script."""
    pk = id_from(request.GET.get("alike", ""))
    reviews = Review.objects.for_dataset(dataset).by(request.user).standing()
    review = reviews.with_names().filter(pk=pk).first() if pk else None
    return offer_for(review, request.user) if review else None


def _on_desk(dataset: Dataset, finding_id: int) -> Finding:
    findings = Finding.objects.for_dataset(dataset).with_names()
    return access_one(
        findings.select_related("dataset", "claim__reviewer"), pk=finding_id
    )


def _is_script(request: UserRequest) -> bool:
    return request.headers.get("Hardmine-Desk") == "1"


def _ids(text: str) -> set[int]:
    found = (id_from(part) for part in text.split(",")[:BESIDE])
    return {pk for pk in found if pk is not None}


def _seen(text: str) -> dict[int, int]:
    """Read "id:version,…"."""
    pairs = (part.partition(":") for part in text.split(",")[:BESIDE])
    read = ((id_from(pk), id_from(version)) for pk, _, version in pairs)
    return {pk: v for pk, v in read if pk is not None and v is not None}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _url(name: str, queue: Queue, *args: object) -> str:
    query = f"?{queue.query}" if queue.query else ""
    return f"{reverse(name, args=args)}{query}"
