"""The reference case: 467 errors of 2,451, a fix, 312 errors; and which part is no luck."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from reviewapp.comparing import compare_scans, details_of, figures_of
from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Dataset,
    Finding,
    FixSet,
    ModelVersion,
    Sample,
    Scan,
    User,
    Verdict,
)
from tests import answering, factories
from tests.reviewing import decide

CLASSES = 10
N = 2451
TOP, SECOND = (4, 9), (7, 2)
GONE, SAME, LESS = (0, 6), (3, 5), (8, 1)
# (true, predicted) -> errors before, of these right after, wrong so after only.
CLAIMED = {
    TOP: (23, 20, 1),
    SECOND: (15, 8, 2),
    GONE: (5, 5, 0),
    SAME: (5, 0, 0),
    LESS: (5, 2, 0),
}
OTHERS = [
    pair for pair in itertools.permutations(range(CLASSES), 2) if pair not in CLAIMED
]
# 85 pairs, 414 errors: 11 of four, 74 of five; 41 pairs lose three each.
PLAN = CLAIMED | {
    pair: (4 if place < 11 else 5, 3 if place < 41 else 0, 0)
    for place, pair in enumerate(OTHERS)
}


def answers(true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the model says of each sample before and after the fix."""
    before, after = true.copy(), true.copy()
    free = {label: iter(np.flatnonzero(true == label)) for label in range(CLASSES)}
    for (label, said), (errors, fixed, new) in PLAN.items():
        places = [next(free[label]) for _ in range(errors + new)]
        before[places[:errors]] = said
        after[places[fixed:]] = said
    return before, after


def holm(p: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """Correct p values as Holm's paper has it, one step after the other."""
    largest, corrected = 0.0, {}
    for rank, (pair, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p) - rank) * value))
        corrected[pair] = largest
    return corrected


def p_of(pair: tuple[int, int]) -> float:
    _, b, c = PLAN[pair]
    return binomtest(b, b + c).pvalue if b + c else 1.0


@pytest.fixture
def digits(db: None) -> Dataset:
    dataset = factories.DatasetFactory(name="Digits", slug="digits")
    for place in range(CLASSES):
        factories.LabelFactory(dataset=dataset, name=str(place))
    return dataset


@pytest.fixture
def samples(digits: Dataset) -> list[Sample]:
    labels = list(digits.labels.current())
    return Sample.objects.bulk_create(
        factories.SampleFactory.build(
            label=labels[place % CLASSES],
            dataset=digits,
            original_label=labels[place % CLASSES],
        )
        for place in range(N)
    )


@pytest.fixture
def lead(digits: Dataset) -> User:
    return factories.MembershipFactory(dataset=digits, role="lead").user


def export_claimed(lead: User) -> FixSet:
    """Confirm every error of the claimed confusions and export them."""
    findings = [
        finding
        for finding in Finding.objects.select_related(
            "dataset", "true_label", "predicted_label"
        )
        if (finding.true_label.index, finding.predicted_label.index) in CLAIMED
    ]
    for finding in findings:
        decide(finding=finding, by=lead, verdict=Verdict.CONFIRM)
    return answering.export(findings, lead)


def ledger() -> dict[tuple[int, int], Confusion]:
    rows = Confusion.objects.with_names()
    return {(row.true_label.index, row.predicted_label.index): row for row in rows}


def test_the_ledger_and_the_comparison_say_exactly_what_the_fix_did(
    digits: Dataset, samples: list[Sample], lead: User
) -> None:
    model = factories.RegisteredModelFactory(dataset=digits)
    before, after = answers(np.arange(N) % CLASSES)
    old = factories.ModelVersionFactory(registered_model=model)
    first = answering.scan(old, samples, before.tolist())
    assert (first.samples, first.errors) == (N, 467)
    top, second = first.confusion_counts.top(2)
    assert [(row.true_label.index, row.predicted_label.index, row.count)
            for row in (top, second)] == [(*TOP, 23), (*SECOND, 15)]  # fmt: skip
    fix_set = export_claimed(lead)
    assert fix_set.size == 53
    assert {p for p, line in ledger().items() if line.state == "fix_exported"} == set(
        CLAIMED
    )

    new = factories.ModelVersionFactory(registered_model=model, trained_on=fix_set)
    last = answering.scan(new, samples, after.tolist())

    assert (last.samples, last.errors) == (N, 312)
    check_ledger(first, last)
    check_comparison(first, last)
    check_another_scan(new, samples, after.tolist())


def check_ledger(first: Scan, last: Scan) -> None:
    lines = ledger()
    corrected = holm({pair: p_of(pair) for pair in CLAIMED})
    for pair, (count, b, c) in CLAIMED.items():
        said = lines[pair].evidence
        assert (said["baseline"], said["scan"]) == (first.pk, last.pk)
        assert (said["samples"], said["b"], said["c"]) == (N, b, c)
        assert (said["baseline_count"], said["count"]) == (count, count - b + c)
        assert said["family"] == 5
        assert said["p"] == pytest.approx(p_of(pair))
        assert said["p_corrected"] == pytest.approx(corrected[pair])
    assert {pair for pair, p in corrected.items() if p < 0.05} == {TOP}
    assert {pair: (lines[pair].state, lines[pair].evidence["why"])
            for pair in CLAIMED} == {
        TOP: ("fixed", "proved"),
        SECOND: ("improving", "fewer"),
        GONE: ("improving", "zero_once"),
        SAME: ("fix_exported", "not_fewer"),
        LESS: ("improving", "fewer"),
    }  # fmt: skip
    # Nobody claimed to have fixed the others, however many of them went.
    assert {lines[pair].state for pair in OTHERS} == {"open"}
    changes = ConfusionEvent.objects.filter(scan=last)
    assert changes.count() == 4
    assert {event.confusion: event.evidence["b"] for event in changes} == {
        lines[pair]: PLAN[pair][1] for pair in (TOP, SECOND, GONE, LESS)
    }


def check_comparison(first: Scan, last: Scan) -> None:
    both = compare_scans(baseline=first, candidate=last, labels="corrected")
    figures, details = figures_of(both), details_of(both)
    assert (figures["samples"], figures["fixed"], figures["broken"]) == (N, 158, 3)
    assert figures["difference"]["p"] == pytest.approx(binomtest(158, 161).pvalue)
    assert figures["difference"]["value"] == pytest.approx((467 - 312) / N)
    rows = {
        (int(true), int(said)): numbers
        for change in details["confusions"].values()
        for true, said, *numbers in change
    }
    corrected = holm({pair: p_of(pair) for pair in PLAN})
    for pair, (count, b, c) in CLAIMED.items():
        assert rows[pair][:3] == [count, count - b + c, count - b]
        assert rows[pair][3:] == pytest.approx([p_of(pair), corrected[pair]])
    assert {pair for pair, p in corrected.items() if p < 0.05} == {TOP}


def check_another_scan(
    version: ModelVersion, samples: list[Sample], said: list[int]
) -> None:
    answering.scan(version, samples, said)
    lines = ledger()
    assert (lines[GONE].state, lines[GONE].evidence["why"]) == ("fixed", "zero_twice")
    assert [lines[pair].state for pair in (TOP, SECOND, SAME, LESS)] == [
        "fixed",
        "improving",
        "fix_exported",
        "improving",
    ]
