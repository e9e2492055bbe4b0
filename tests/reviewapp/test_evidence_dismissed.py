"""Scan after scan: what was said stays said, whoever was faster."""

from __future__ import annotations

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewapp.actions.finishing import finish_scan
from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Finding,
    ModelVersion,
    Sample,
    Scan,
    User,
    Verdict,
)
from tests import answering
from tests.reviewapp.test_evidence import (
    CATS,
    RIGHT,
    cats,
    dogs,
    export,
    scan,
)
from tests.reviewing import decide

__all__ = ["cats", "export", "scan"]


def test_running_the_end_again_changes_nothing(scan, export):
    scan(*range(10))
    export()
    last = scan(9)
    before = list(Confusion.objects.values()), ConfusionEvent.objects.count()
    finish_scan(scan=Scan.objects.get(pk=last.pk))
    assert (list(Confusion.objects.values()), ConfusionEvent.objects.count()) == before


@pytest.mark.parametrize("claimed", [False, True])
def test_ten_scans_of_an_unchanged_model_make_no_new_work(scan, export, lena, claimed):
    scan(0, 1, 2)
    first = Finding.objects.order_by("id").first()
    decide(finding=first, by=lena, verdict=Verdict.DISMISS)
    if claimed:
        export()
    waiting = set(Finding.objects.waiting().values_list("id", flat=True))
    before = list(Finding.objects.order_by("id").values())
    events = ConfusionEvent.objects.count()
    for _ in range(10):
        scan(0, 1, 2)
    assert list(Finding.objects.order_by("id").values()) == before
    assert set(Finding.objects.waiting().values_list("id", flat=True)) == waiting
    assert ConfusionEvent.objects.count() == events
    first.refresh_from_db()
    assert (first.review_state, first.reopened_because) == ("dismissed", "")


def test_what_was_dismissed_stays_so_when_it_goes_and_comes_back(scan, lena):
    scan(0)
    decide(finding=Finding.objects.get(), by=lena, verdict=Verdict.DISMISS)
    scan()
    scan(0)
    found = Finding.objects.get()
    assert (found.presence, found.review_state) == ("regressed", "dismissed")
    assert not Finding.objects.waiting().exists()


@pytest.mark.parametrize(
    ("change", "said", "why"),
    [
        ("label", 1, "the label changed from cat to fox since it was dismissed"),
        (
            "prediction",
            2,
            "the prediction changed from dog to fox since it was dismissed",
        ),
        ("image", 1, "the image changed since it was dismissed"),
    ],
)
def test_what_was_dismissed_is_asked_about_again_for_three_reasons(
    scan, version, cats, labels, lena, change, said, why
):
    scan(0)
    decide(finding=Finding.objects.get(), by=lena, verdict=Verdict.DISMISS)
    changes = {"label": {"label": labels[2]}, "image": {"digest": "0" * 64}}
    if change in changes:
        Sample.objects.filter(pk=cats[0].pk).update(**changes[change])
    answering.scan(version, cats, [said, *RIGHT[1:]])
    waiting = Finding.objects.waiting().get()
    assert (waiting.sample, waiting.reopened_because) == (cats[0], why)


def facts() -> list[tuple[object, ...]]:
    """Return the ledger without ids and times."""
    pair = ("true_label__name", "predicted_label__name")
    rows = Confusion.objects.order_by(*pair)
    said = [
        (*row, {k: v for k, v in evidence.items() if k not in IDS})
        for *row, evidence in rows.values_list(
            *pair, "state", "present", "peak", "evidence"
        )
    ]
    events = ConfusionEvent.objects.order_by(*(f"confusion__{p}" for p in pair), "id")
    return [*said, *events.values_list("confusion__predicted_label__name", "new_state")]


IDS = ("scan", "baseline", "proved_by")


@given(
    order=st.permutations(range(4)),
    answers=st.lists(st.integers(0, 2), min_size=CATS, max_size=CATS),
)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_ledger_does_not_depend_on_which_worker_was_faster(
    order: list[int],
    answers: list[int],
    version: ModelVersion,
    cats: list[Sample],
    lena: User,
) -> None:
    """Each order is tried on the same rows, which are taken back after it."""

    def ledger(shards: list[int]) -> list[tuple[object, ...]]:
        with transaction.atomic():
            answering.scan(version, cats, dogs(*range(10)))
            findings = list(Finding.objects.select_related("dataset"))
            for finding in findings[:6]:
                decide(finding=finding, by=lena, verdict=Verdict.CONFIRM)
            answering.export(findings, lena)
            started = answering.begin(version, cats, shards=4)
            parts = list(started.shards.order_by("number"))
            for number in shards:
                answering.answer(parts[number], cats, answers)
            assert finish_scan(scan=started).state == "done"
            found = facts()
            transaction.set_rollback(True)
        return found

    assert ledger(order) == ledger([0, 1, 2, 3])
