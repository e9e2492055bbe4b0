"""What there is to tell: of scans, trainings and reports, of what is back, of a gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.urls import reverse

from reviewapp.actions.notices import is_wanted, tell
from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Notice,
    NoticeKind,
    Report,
    Scan,
    TrainingRun,
)
from reviewapp.templatetags.hardmine import count, percent

if TYPE_CHECKING:
    from reviewapp.gating import Condition

NAMED: Final = 50  # confusions in one notice


def tell_of_scan(*, scan: Scan) -> None:
    """Tell that a scan is done, partial or failed, and which confusions are back.

    Call it in the transaction of the scan's end, after the ledger was updated.
    """
    wanted = [
        kind
        for kind in (NoticeKind.SCAN, NoticeKind.REGRESSION)
        if is_wanted(scan.dataset, kind)
    ]
    if not wanted:
        return
    fresh = Scan.objects.with_names().get(pk=scan.pk)
    before = _before(fresh)
    if NoticeKind.SCAN in wanted:
        _tell_of_end(fresh, before)
    if NoticeKind.REGRESSION in wanted:
        _tell_of_regressions(fresh)


def _before(scan: Scan) -> Scan | None:
    """Return the last finished scan of the same model and split before this one."""
    model = scan.model_version.registered_model
    earlier = Scan.objects.of_model(model).finished().counted().with_names()
    return earlier.filter(split=scan.split, pk__lt=scan.pk).newest_first().first()


def _tell_of_end(scan: Scan, before: Scan | None) -> None:
    title = f"{_in_words(scan)} {ENDED[Scan.State(scan.state)]}"
    if scan.is_done:
        was = f" ({count(before.errors)})" if before else ""
        title += f": {count(scan.errors)} errors in {count(scan.samples)} samples{was}"
    lines = _counts(scan, before) if scan.errors is not None else []
    tell(
        dataset=scan.dataset,
        kind=NoticeKind.SCAN,
        title=title,
        lines=[*lines, *([scan.message] if scan.message else [])],
        path=_path(scan),
        data={
            "scan": _facts(scan) | {"message": scan.message},
            "before": _facts(before) if before else None,
        },
    )


def _counts(scan: Scan, before: Scan | None) -> list[str]:
    """Return the counts of a scan, beside those of the one before."""
    both = [_shown(one) for one in (scan, before) if one]
    lines = [
        f"{name}: {' (was '.join(each[name] for each in both)}{')' if before else ''}"
        for name in both[0]
    ]
    return [*lines, f"Before: {_in_words(before)}."] if before else lines


def _shown(scan: Scan) -> dict[str, str]:
    return {
        "Samples": count(scan.samples),
        "Accuracy": percent(scan.accuracy),
        "Errors": count(scan.errors),
        "Near misses": count(scan.near_misses),
        "Unreadable": count(scan.unreadable),
    }


ENDED: Final = {
    Scan.State.DONE: "is done",
    Scan.State.PARTIAL: "is partial",
    Scan.State.FAILED: "failed",
}


def _tell_of_regressions(scan: Scan) -> None:
    events = ConfusionEvent.objects.filter(
        scan=scan, new_state=Confusion.State.REGRESSED
    )
    total = events.count()
    if not total:
        return
    rows = events.order_by("-confusion__present", "-confusion_id").select_related(
        "confusion__true_label", "confusion__predicted_label"
    )
    lines = [event.confusion for event in rows[:NAMED]]
    many = "1 confusion is" if total == 1 else f"{count(total)} confusions are"
    tell(
        dataset=scan.dataset,
        kind=NoticeKind.REGRESSION,
        title=f"{many} back in {_in_words(scan, first=False)}",
        lines=[f"{line}: {count(line.present)} errors" for line in lines]
        + ([f"and {count(total - NAMED)} more"] if total > NAMED else []),
        path=_path(scan),
        data={
            "scan": _facts(scan),
            "count": total,
            "confusions": [
                {
                    "id": line.pk,
                    "true_label": line.true_label.name,
                    "predicted_label": line.predicted_label.name,
                    "errors": line.present,
                }
                for line in lines
            ],
        },
    )


def tell_of_gate(
    *,
    baseline: Scan,
    candidate: Scan,
    conditions: Sequence[Condition],
    summary: Sequence[str],
) -> Notice | None:
    """Tell that a candidate was not let through, and why."""
    dataset = candidate.dataset
    versions = f"{candidate.model_version} against {baseline.model_version}"
    with transaction.atomic():
        return tell(
            dataset=dataset,
            kind=NoticeKind.GATE,
            title=f"The gate is closed: {versions}",
            lines=summary,
            path=reverse(
                "comparison-detail", args=[dataset.slug, baseline.pk, candidate.pk]
            ),
            data={
                "candidate": _facts(candidate),
                "baseline": _facts(baseline),
                "conditions": [
                    {"name": c.name, "said": c.said, "passed": c.passed}
                    for c in conditions
                ],
            },
        )


def tell_of_training(*, run: TrainingRun) -> None:
    """Tell that a training is done or failed; call it in the transaction of its end."""
    if not is_wanted(run.dataset, NoticeKind.TRAINING):
        return
    parent = run.parent
    made = f": {run.version}" if run.version else ""
    tell(
        dataset=run.dataset,
        kind=NoticeKind.TRAINING,
        title=f"Training run {run.pk} of {parent} {TRAINED[run.is_done]}{made}",
        lines=[run.message] if run.message else [],
        path=reverse("training-detail", args=[run.dataset.slug, run.pk]),
        data=_made_by(run),
    )


def tell_of_report(*, report: Report) -> None:
    """Tell that a report was made, or could not be; call it in the transaction of that."""
    run = report.run
    if not is_wanted(run.dataset, NoticeKind.REPORT):
        return
    is_done = report.state == Report.State.DONE
    claim = report.figures["claim"] if is_done else None
    asked = [f"The training was asked for by {run.requested_by}."]
    said = [claim["text"], claim["control"]] if claim else [report.message]
    tell(
        dataset=run.dataset,
        kind=NoticeKind.REPORT,
        title=f"The report of training run {run.pk} of {run.parent} {TRAINED[is_done]}",
        lines=[line for line in said if line] + (asked if run.requested_by else []),
        path=reverse("report-detail", args=[run.dataset.slug, run.pk]),
        data={
            "report": {
                "state": report.state,
                "message": report.message,
                "claim": claim,
            },
            **_made_by(run),
        },
    )


def _made_by(run: TrainingRun) -> dict[str, Any]:
    """Return a training run for programs; names are null where there is none."""
    return {
        "run": {
            "id": run.pk,
            "state": run.state,
            "message": run.message,
            "control": run.is_control,
            "epochs": len(run.epochs),
            "requested_by": run.requested_by and run.requested_by.username,
        },
        "model": run.parent.registered_model.name,
        "parent": run.parent.number,
        "version": run.version.number if run.version else None,
    }


TRAINED: Final = {True: "is done", False: "failed"}


def _path(scan: Scan) -> str:
    return reverse("scan-detail", args=[scan.dataset.slug, scan.pk])


def _in_words(scan: Scan, *, first: bool = True) -> str:
    return f"{'Scan' if first else 'scan'} {scan.pk} of {scan.model_version}"


def _facts(scan: Scan) -> dict[str, Any]:
    """Return a scan for programs; counts are null when it failed."""
    return {
        "id": scan.pk,
        "state": scan.state,
        "model": scan.model_version.registered_model.name,
        "version": scan.model_version.number,
        "split": scan.split,
        "samples": scan.samples,
        "correct": scan.correct,
        "errors": scan.errors,
        "near_misses": scan.near_misses,
        "unreadable": scan.unreadable,
        "accuracy": scan.accuracy,
        "for_record": scan.for_record,
    }
