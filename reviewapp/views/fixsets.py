"""Fix sets: freezing what was confirmed and relabelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from mining.guards import REASONS
from reviewapp.access import access_dataset, access_one
from reviewapp.actions.fixsets import Preview
from reviewapp.exceptions import HardmineError
from reviewapp.forms.fixsets import FixSetForm, filter_in_words
from reviewapp.models import (
    Cause,
    Dataset,
    Export,
    FixSet,
    HeldItem,
    Role,
    Split,
    Verdict,
)
from reviewapp.models.people import role_on
from reviewapp.pagination import keyset_page
from reviewapp.tasks import enqueue_recipe
from reviewapp.views.requests import UserRequest

PAGE_SIZE = 50
ITEMS_SHOWN = 100
CONFUSIONS_SHOWN = 20

Counts = list[tuple[str, list[tuple[str, int]]]]


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """List the fix sets, the latest first."""
    dataset = access_dataset(request.user, slug)
    page = keyset_page(
        FixSet.objects.for_dataset(dataset).with_names(),
        by=("id",),
        after=request.GET.get("after"),
        size=PAGE_SIZE,
    )
    context = {
        "dataset": dataset,
        "fix_sets": page.rows,
        "next": page.next,
        "may_freeze": _is_admin(request, dataset),
    }
    return render(request, "fixsets/index.html", context)


@require_http_methods(["GET", "POST"])
def new(request: UserRequest, slug: str) -> HttpResponse:
    """Choose what to freeze, with a live preview, and freeze it."""
    dataset = access_dataset(request.user, slug, role=Role.ADMIN)
    data = request.POST if request.method == "POST" else (request.GET or None)
    form = FixSetForm(data, dataset=dataset)
    is_freezing = request.method == "POST" and "preview" not in request.POST
    if is_freezing and form.is_valid():
        try:
            fix_set = form.freeze(by=request.user)
        except HardmineError as error:
            form.add_error(None, str(error))
        else:
            enqueue_recipe(fix_set.recipes.lean().latest("pk"))
            messages.success(request, f"{fix_set.name} is frozen.")
            return redirect("fixset-detail", slug, fix_set.pk)
    preview = form.preview() if form.can_preview() else None
    context = {
        "dataset": dataset,
        "form": form,
        "preview": preview,
        "counts": _counts_of(preview) if preview else [],
        "held": _held(preview.held) if preview else [],
    }
    template = "fixsets/new.html" + ("#preview" if request.htmx else "")
    return render(request, template, context)


@require_GET
def detail(request: UserRequest, slug: str, fix_set_id: int) -> HttpResponse:
    """Show a frozen set: digest, filter, counts, recipes, items and exports."""
    dataset = access_dataset(request.user, slug)
    fix_set = _fix_set(dataset, fix_set_id)
    exports = list(fix_set.exports.select_related("requested_by"))
    role = role_on(request.user, dataset)
    context = {
        "dataset": dataset,
        "fix_set": fix_set,
        "exports": exports,
        "is_exporting": any(export.is_active for export in exports),
        "may_export": role is Role.ADMIN,
        "role": role,
        "formats": Export.formats_and_uses(),
    }
    if request.htmx and request.htmx.target != "recipes":
        return render(request, "fixsets/exports.html#exports", context)
    recipes = list(fix_set.recipes.lean().newest_first())
    context["recipes"] = recipes
    context["is_making"] = any(recipe.is_active for recipe in recipes)
    if request.htmx:
        return render(request, "fixsets/recipes.html#recipes", context)
    return render(request, "fixsets/detail.html", context | _content(fix_set))


def _content(fix_set: FixSet) -> dict[str, object]:
    """Return what a frozen set holds and what was held aside, for its page."""
    items = fix_set.items.all()
    held = fix_set.held_aside.all()
    return {
        "filter": filter_in_words(fix_set.filter),
        "items": items[:ITEMS_SHOWN],
        "held": _held(held.count_by("reason")),
        "first_held": held[:ITEMS_SHOWN],
        "counts": _in_words(
            items.count_by("verdict"),
            items.count_by("label"),
            items.count_by_pair(CONFUSIONS_SHOWN),
            items.count_by_cause(),
            items.count_by("split"),
        ),
    }


def _fix_set(dataset: Dataset, fix_set_id: int) -> FixSet:
    fix_sets = FixSet.objects.for_dataset(dataset).with_names()
    return access_one(fix_sets, pk=fix_set_id)


def _is_admin(request: UserRequest, dataset: Dataset) -> bool:
    return role_on(request.user, dataset) is Role.ADMIN


def _held(counts: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """Return (reason, why, findings) of the guards that hold something."""
    reasons = [HeldItem.Reason(name) for name in REASONS if name in counts]
    return [(reason.label, reason.why, counts[reason]) for reason in reasons]


def _counts_of(preview: Preview) -> Counts:
    return _in_words(
        preview.by_verdict,
        preview.by_label,
        preview.by_confusion[:CONFUSIONS_SHOWN],
        preview.by_cause,
        preview.by_split,
    )


def _in_words(
    by_verdict: Mapping[str, int],
    by_label: Mapping[str, int],
    by_pair: Iterable[tuple[str, str, int]],
    by_cause: Mapping[str, int],
    by_split: Mapping[str, int],
) -> Counts:
    """Return (heading, [(name, items)]) of each way to count."""
    pairs = [
        (f"{true}, near miss" if true == predicted else f"{true} → {predicted}", n)
        for true, predicted, n in by_pair
    ]
    return [
        ("Verdict", [(Verdict(name).label, n) for name, n in by_verdict.items()]),
        ("Label to train with", list(by_label.items())),
        ("Confusion, the most frequent", pairs),
        ("Cause", [(Cause(name).label, n) for name, n in by_cause.items()]),
        ("Split", [(Split(name).label, n) for name, n in by_split.items()]),
    ]
