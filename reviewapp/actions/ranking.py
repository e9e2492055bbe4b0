"""Learning an order from verdicts, in the background."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from django.db.models import Exists, OuterRef, Sum
from django.utils import timezone

from mining.ranker import Bools, Comparison, Floats, compare, fit
from reviewapp.models import Ranker, RegisteredModel, Review, Standing, Verdict
from reviewapp.ranking import (
    LEAST_OF_A_KIND,
    LEAST_VERDICTS,
    MOST_VERDICTS,
    SCORES,
    scores_of,
    stored_weights,
)

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

EVERY = 50  # verdicts between two fits
USEFUL = (Verdict.CONFIRM, Verdict.RELABEL)
TELLING = (*USEFUL, Verdict.DISMISS)  # to flag says nothing of the finding


class Again(TypedDict):
    """What the last verdicts are annotated with."""

    is_again: bool


def models_to_fit() -> list[int]:
    """Return the registered models with 50 more, or fewer, verdicts than at their last fit."""
    fitted = dict(
        Ranker.objects.values_list("registered_model_id", "weights__reviewed")
    )
    reviewed = (
        Standing.objects.order_by()
        .values_list("registered_model_id")
        .annotate(n=Sum("reviewed"))
        .filter(n__gte=LEAST_VERDICTS)
    )
    return sorted(
        model for model, n in reviewed if abs(n - fitted.get(model, -EVERY)) >= EVERY
    )


def fit_ranker(*, model: RegisteredModel) -> Ranker:
    """Learn from the last standing verdicts on a model's findings which are useful.

    Useful is what was confirmed or relabelled, against what was dismissed. The order is
    used where cross-validation shows it to be better than the plain one. The same verdicts
    always give the same order.
    """
    scores, useful, plain = _learned_from(model)
    rare = min(useful.sum(), (~useful).sum())
    weights: dict[str, object] = {"reviewed": _reviewed(model)}
    result = Comparison(learned=0.0, plain=0.0, error=0.0)
    if len(useful) >= LEAST_VERDICTS and rare >= LEAST_OF_A_KIND:
        result = compare(scores, useful, plain)
        weights |= stored_weights(fit(scores, useful))
    ranker, _ = Ranker.objects.update_or_create(
        registered_model=model,
        defaults={
            "weights": weights,
            "verdicts": len(useful),
            "learned": result.learned,
            "plain": result.plain,
            "is_used": result.is_better,
            "fitted_at": timezone.now(),
        },
    )
    return ranker


def _reviewed(model: RegisteredModel) -> int:
    standings = Standing.objects.of_model(model)
    return standings.aggregate(n=Sum("reviewed"))["n"] or 0


def _learned_from(model: RegisteredModel) -> tuple[Floats, Bools, Floats]:
    """Return scores (N, F), useful (N,) and the plain order (N,), the oldest first."""
    standings = {
        (row.true_label_id, row.predicted_label_id): row
        for row in Standing.objects.of_model(model)
    }
    reviews = _last_reviews(model)
    scores = np.empty((len(reviews), len(SCORES)))
    useful, plain = np.empty(len(reviews), np.bool_), np.empty(len(reviews))
    for n, review in enumerate(reviews):
        finding = review.finding
        standing = standings.get((finding.true_label_id, finding.predicted_label_id))
        scores[n] = scores_of(finding, standing, is_again=review.is_again)
        useful[n] = review.verdict in USEFUL
        plain[n] = finding.priority * (standing.present if standing else 0)
    return scores, useful, plain


def _last_reviews(model: RegisteredModel) -> list[WithAnnotations[Review, Again]]:
    """Return the last verdict on each finding, the oldest first."""
    before = Review.objects.standing().filter(
        finding__sample=OuterRef("finding__sample"),
        finding__registered_model=model,
        verdict__in=TELLING,
        pk__lt=OuterRef("pk"),
    )
    newest = (
        Review.objects.standing()
        .filter(finding__registered_model=model, verdict__in=TELLING)
        .select_related("finding")
        .newest_first()
        .annotate(is_again=Exists(before))[:MOST_VERDICTS]
    )
    first: dict[int, WithAnnotations[Review, Again]] = {}
    for review in cast("Iterable[WithAnnotations[Review, Again]]", newest):
        first.setdefault(review.finding_id, review)
    return list(reversed(first.values()))
