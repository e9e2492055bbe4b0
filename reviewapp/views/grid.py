"""The grid: many findings at once, one verdict for what is selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from reviewapp.access import access_dataset, access_one
from reviewapp.actions.bulk import Bulk, decide_many, skip_many
from reviewapp.actions.known import mix_in
from reviewapp.actions.lines import take_last_back
from reviewapp.actions.reviews import claim, hold
from reviewapp.desk_reasons import lane_of
from reviewapp.exceptions import HardmineError
from reviewapp.forms.bulk import BulkForm
from reviewapp.keys import BY_NAME, keys_for
from reviewapp.models import (
    Cause,
    Dataset,
    DismissReason,
    Finding,
    Review,
    Standing,
)
from reviewapp.queues import Lane, Queue, read_queue
from reviewapp.views.requests import UserRequest

SIZES = (10, 25, 50, 100)
USUAL = 50
COUNTED = 1000  # a longer queue is shown as "over 1,000"
HELP = (
    "select_all",
    "enlarge",
    "confirm",
    "relabel",
    "dismiss",
    "dismiss_as",
    "flag",
    "skip",
    "undo",
    "note",
)
DONE = {
    "confirm": "confirmed",
    "relabel": "relabelled",
    "dismiss": "dismissed",
    "flag": "flagged for a second opinion",
    "skip": "skipped; they come back at the end",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One finding of the grid."""

    finding: Finding
    lane: Lane
    is_chosen: bool

    @property
    def mark(self) -> str:
        """Return the lane in a word; a near miss says it in its pair."""
        return "" if self.lane is Lane.NEAR_MISS else str(self.lane.label)


@require_GET
def grid(request: UserRequest, slug: str) -> HttpResponse:
    """Show what this reviewer holds of a queue; a script takes the first batch."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    size = _size(request.GET.get("size"))
    held = queue.findings.waiting().held_by(request.user).with_names()
    left = queue.left_for(request.user, COUNTED + 1)
    keys = keys_for(request.user)
    context = {
        "dataset": dataset,
        "queue": queue,
        "size": size,
        "sizes": SIZES,
        "tiles": _tiles(dataset, list(held.order_by("claim__id")[:size])),
        "left_said": _left_said(left),
        "has_more": left > 0,
        "labels": dataset.labels.current(),
        "reasons": DismissReason.choices,
        "tags": [
            {
                "value": cause.value,
                "label": cause.label,
                "action": f"cause_{cause}",
                "key": keys[f"cause_{cause}"],
            }
            for cause in Cause
        ],
        "keys": keys,
        "help": [(keys[name], BY_NAME[name].text) for name in HELP],
    }
    return render(request, "review/grid.html", context)


@require_POST
def take(request: UserRequest, slug: str) -> HttpResponse:
    """Hand out the next findings of a queue, all at once."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, {**request.POST.dict(), **request.GET.dict()})
    shown = _next(request, queue)
    if not _is_script(request):
        return _to_grid(request, queue)
    said = "" if shown else f"Nothing is left for you in {queue.title}."
    return _answer(request, queue, said=said, html=_html(queue, shown))


@require_POST
def decide(request: UserRequest, slug: str) -> HttpResponse:
    """Record one verdict on many findings, or put them off.

    The field `next` asks a script's answer to bring the next batch.
    """
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    form = BulkForm(request.POST, dataset=dataset)
    try:
        form.read()
        done = _carry_out(request, dataset, form)
    except HardmineError as error:
        return _refused(request, queue, error)
    said = _said(str(form.cleaned_data["verdict"]), done)
    if not _is_script(request):
        messages.info(request, _with_reasons(said, done))
        if not queue.findings.waiting().held_by(request.user).exists():
            _next(request, queue)
        return _to_grid(request, queue)
    answer: dict[str, object] = {
        "said": said,
        "decided": done.decided,
        "refused": {pk: _short(why) for pk, why in done.refused},
    }
    # What was refused stays in view with its reason.
    if "next" in request.POST and not done.refused:
        answer["html"] = _html(queue, _next(request, queue))
    return _answer(request, queue, **answer)


@require_POST
def undo(request: UserRequest, slug: str) -> HttpResponse:
    """Take back what this reviewer said last, all of it, and show it again."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    try:
        taken = take_last_back(dataset=dataset, by=request.user)
    except HardmineError as error:
        return _refused(request, queue, error)
    ids = [finding.pk for finding in taken.findings]
    hold(findings=ids, by=request.user)
    said = f"{_count(len(ids))} undone. Decide again."
    if taken.refused:
        said += f" {_count(len(taken.refused))} could not be: {taken.refused[0][1]}"
    if not _is_script(request):
        messages.info(request, said)
        return _to_grid(request, queue)
    again = Finding.objects.for_dataset(dataset).filter(pk__in=ids).with_names()
    before = _html(queue, list(again.order_by("claim__id", "pk")), chosen=True)
    return _answer(request, queue, said=said, before=before)


@require_POST
def alike(request: UserRequest, slug: str, review_id: int) -> HttpResponse:
    """Give nearly identical images the verdict that one of them got."""
    dataset = access_dataset(request.user, slug)
    mine = Review.objects.for_dataset(dataset).by(request.user).standing()
    review = access_one(mine.with_names(), pk=review_id)
    form = BulkForm(
        {
            "finding": request.POST.getlist("finding"),
            "key": request.POST.get("key", ""),
            "verdict": review.verdict,
            "new_label": review.new_label_id,
            "reason": review.reason,
            "causes": review.causes,
        },
        dataset=dataset,
    )
    form.read()
    done = _carry_out(request, dataset, form)
    said = _said(review.verdict, done)
    if _is_script(request):
        return JsonResponse({"said": _with_reasons(said, done)})
    messages.info(request, _with_reasons(said, done))
    return redirect(f"{reverse('review', args=[slug])}?{request.GET.urlencode()}")


def _carry_out(request: UserRequest, dataset: Dataset, form: BulkForm) -> Bulk:
    if form.is_skip:
        ids = [finding_id for finding_id, _ in form.findings]
        return skip_many(dataset=dataset, by=request.user, findings=ids)
    return decide_many(
        dataset=dataset,
        by=request.user,
        findings=form.findings,
        decision=form.decision,
    )


def _next(request: UserRequest, queue: Queue) -> list[Finding]:
    size = _size(request.POST.get("size"))
    findings = claim(queue=queue, by=request.user, limit=size)
    return mix_in(queue=queue, by=request.user, findings=findings)


def _size(text: str | None) -> int:
    return next((n for n in SIZES if str(n) == text), USUAL)


def _is_script(request: UserRequest) -> bool:
    return request.headers.get("Hardmine-Desk") == "1"


def _to_grid(request: UserRequest, queue: Queue) -> HttpResponse:
    size = _size(request.POST.get("size"))
    fields = f"{queue.query}&size={size}".removeprefix("&")
    return redirect(f"{reverse('review-grid', args=[queue.dataset.slug])}?{fields}")


def _refused(request: UserRequest, queue: Queue, error: HardmineError) -> HttpResponse:
    if _is_script(request):
        raise error  # the refusal as a page, with its status
    messages.error(request, str(error))
    return _to_grid(request, queue)


def _tiles(
    dataset: Dataset, findings: Sequence[Finding], *, chosen: bool = False
) -> list[Tile]:
    pairs = {(f.true_label_id, f.predicted_label_id) for f in findings}
    rows = Standing.objects.for_dataset(dataset).of_pairs(pairs)
    standings = {
        (row.registered_model_id, row.true_label_id, row.predicted_label_id): row
        for row in rows
    }
    return [
        Tile(
            finding=f,
            lane=lane_of(
                f,
                standings.get(
                    (f.registered_model_id, f.true_label_id, f.predicted_label_id)
                ),
            ),
            is_chosen=chosen,
        )
        for f in findings
    ]


def _html(queue: Queue, findings: Sequence[Finding], *, chosen: bool = False) -> str:
    context = {
        "dataset": queue.dataset,
        "queue": queue,
        "tiles": _tiles(queue.dataset, findings, chosen=chosen),
    }
    return render_to_string("review/grid.html#tiles", context)


def _answer(request: UserRequest, queue: Queue, **fields: object) -> HttpResponse:
    left = queue.left_for(request.user, COUNTED + 1)
    return JsonResponse({**fields, "left": _left_said(left), "has_more": left > 0})


def _left_said(left: int) -> str:
    if left > COUNTED:
        return f"Over {COUNTED:,} left for you"
    return f"{left:,} left for you"


def _count(n: int) -> str:
    return f"{n:,}"


def _said(verdict: str, done: Bulk) -> str:
    done_said = f"{_count(len(done.decided))} {DONE[verdict]}."
    if not done.refused:
        return done_said
    return (
        f"{done_said} {_count(len(done.refused))} refused, nothing was recorded there."
    )


def _with_reasons(said: str, done: Bulk) -> str:
    why = dict.fromkeys(_short(reason) for _, reason in done.refused)
    return " ".join([said, *why])


def _short(why: str) -> str:
    """Leave out what is said for all of them."""
    return why.partition(" Your verdict was not recorded")[0]
