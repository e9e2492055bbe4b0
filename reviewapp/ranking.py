"""The order that is learned from a team's own verdicts, and what it says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mining.ranker import Floats, Weights, log_odds
from reviewapp.models import Finding, Ranker, RegisteredModel, Standing

MOST_VERDICTS: Final = 5000  # the last ones: a model changes, and so do its errors
LEAST_VERDICTS: Final = 100
LEAST_OF_A_KIND: Final = 20

# What is known of a finding before its verdict.
SCORES: Final = (
    "1 - p_true",
    "confidence",
    "confidence above the lane's",
    "log size of the confusion",
    "back",
    "opened again",
    "near miss",
)

Pair = tuple[int, int]  # true label id, predicted label id


def scores_of(
    finding: Finding, standing: Standing | None, *, is_again: bool
) -> list[float]:
    """Return what is known of a finding, in the order of `SCORES`.

    Args:
        finding: Any.
        standing: That of its confusion; None: it is as if nothing were known of it.
        is_again: Whether its image was reviewed before.
    """
    standing = standing or Standing()
    return [
        finding.priority,
        finding.confidence,
        finding.confidence - standing.label_from,
        math.log1p(standing.present),
        float(finding.presence == Finding.Presence.REGRESSED),
        float(is_again),
        float(finding.kind == Finding.Kind.NEAR_MISS),
    ]


def scores(
    findings: Sequence[Finding], standings: Mapping[Pair, Standing], ranker: Ranker
) -> list[float]:
    """Return how probably each finding is worth a look, in log odds; higher is more.

    Args:
        findings: Of the ranker's registered model.
        standings: By true and predicted label id; a confusion may be missing.
        ranker: As the last fit left it.
    """
    if not findings:
        return []
    known = [
        scores_of(
            finding,
            standings.get((finding.true_label_id, finding.predicted_label_id)),
            is_again=bool(finding.reopened_because),
        )
        for finding in findings
    ]
    odds: list[float] = log_odds(_weights(ranker), np.array(known)).tolist()
    return odds


def stored_weights(weights: Weights) -> dict[str, object]:
    """Return weights as `Ranker` keeps them: by the name of the score."""
    columns = (weights.weights, weights.mean, weights.scale)
    rows = zip(SCORES, *(column.tolist() for column in columns), strict=True)
    named = {name: dict(zip(PARTS, parts, strict=True)) for name, *parts in rows}
    return {"intercept": weights.intercept, "scores": named}


PARTS: Final = ("weight", "mean", "scale")


def _weights(ranker: Ranker) -> Weights:
    named = ranker.weights["scores"]

    def column(part: str) -> Floats:
        return np.array([named[name][part] for name in SCORES])

    weight, mean, scale = map(column, PARTS)
    return Weights(ranker.weights["intercept"], weight, mean, scale)


def ranker_sentence(model: RegisteredModel) -> str:
    """Say in plain words what the learned order of a model is worth, and whether it is used."""
    ranker = Ranker.objects.filter(registered_model=model).first()
    if ranker is None or not ranker.is_fitted:
        return (
            "The order does not learn from your team's verdicts yet: it takes "
            f"{LEAST_VERDICTS} of them, at least {LEAST_OF_A_KIND} confirmed or relabelled "
            f"and {LEAST_OF_A_KIND} dismissed."
        )
    last = "last " if ranker.verdicts == MOST_VERDICTS else ""
    verdicts = f"Your team's {last}{ranker.verdicts:,} verdicts"
    figures = f"average precision {ranker.learned:.2f} against {ranker.plain:.2f}"
    if ranker.is_used:
        return f"{verdicts} say more than the plain order: {figures}. Used."
    return (
        f"{verdicts} do not say clearly more than the plain order: {figures}. Not used."
    )
