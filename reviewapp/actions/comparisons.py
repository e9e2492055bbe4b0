"""Comparing two scans: asked for, made once by a worker, kept."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from mining.compare import NothingToCompare
from mining.pairing import ScansDiffer
from reviewapp.actions.makings import ask_again, make, requeue_silent
from reviewapp.comparing import (
    compare_scans,
    details_of,
    differences_of,
    figures_of,
    require_comparable,
)
from reviewapp.exceptions import Refused, plain_message
from reviewapp.models import Comparison, Scan
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import User

logger = logging.getLogger(__name__)

State = Comparison.State


def start_comparison(
    *,
    baseline: Scan,
    candidate: Scan,
    labels: str = Comparison.Labels.CORRECTED,
    common: bool = False,
    by: User | None,
) -> Comparison:
    """Queue a comparison, or queue it again; the caller enqueues `run_comparison`.

    Two scans have one for each choice of labels and samples. What an earlier run found
    stays until the new one is done. One that is being made already is returned as it is.

    Raises:
        Refused: These are not two finished scans of one data set, or no such labels.
    """
    require_comparable(baseline, candidate)
    if labels not in Comparison.Labels.values:
        raise Refused(f"Unknown labels. Choose {', '.join(Comparison.Labels.values)}.")
    now = timezone.now()
    with transaction.atomic():
        comparison, is_new = Comparison.objects.get_or_create(
            baseline=baseline,
            candidate=candidate,
            labels=labels,
            common=common,
            defaults={"requested_by": by, "requested_at": now},
        )
        same = Comparison.objects.filter(pk=comparison.pk)
        again = ask_again(rows=same, by=by, at=now)
        if is_new or again:
            record("comparison started", comparison, dataset=baseline.dataset, actor=by)
    comparison.refresh_from_db()
    return comparison


def requeue_silent_comparisons() -> list[int]:
    """Give comparisons of dead workers back and return the ids to enqueue again."""
    return requeue_silent(kind=Comparison)


def run_comparison(*, comparison: Comparison) -> Comparison:
    """Compare the two scans and keep what was found, or why they cannot be compared.

    Does nothing unless the comparison is queued.
    """
    return make(making=comparison, outcome=lambda _: _outcome(comparison))


def _outcome(comparison: Comparison) -> dict[str, Any]:
    """Return the columns that a run sets."""
    try:
        compared = compare_scans(
            baseline=comparison.baseline,
            candidate=comparison.candidate,
            labels=comparison.labels,
            common=comparison.common,
        )
    except ScansDiffer as error:
        left_out = {"left_out": differences_of(error.differences)}
        return _without_figures(State.REFUSED, error, left_out)
    except NothingToCompare as error:
        return _without_figures(State.REFUSED, error, {})
    except Exception as error:
        logger.exception("%s failed", comparison)
        return _without_figures(State.FAILED, error, {})
    return {
        "figures": figures_of(compared),
        "details": details_of(compared),
    }


def _without_figures(
    state: Comparison.State, error: Exception, details: dict[str, Any]
) -> dict[str, Any]:
    message = plain_message(error)
    return {"state": state, "message": message, "figures": {}, "details": details}
