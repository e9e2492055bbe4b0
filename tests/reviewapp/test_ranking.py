"""The order learned from verdicts: when it is fitted, used, and what it says."""

from __future__ import annotations

import numpy as np
import pytest

from reviewapp.actions.ranking import fit_ranker, models_to_fit
from reviewapp.actions.reviews import undo
from reviewapp.models import Finding, Ranker, Review, Standing, Verdict
from reviewapp.ranking import ranker_sentence, scores
from tests import factories
from tests.reviewing import decide

CONFIRM, DISMISS = Verdict.CONFIRM, Verdict.DISMISS


def judged(world, rita, n: int, *, decides, seed: int = 0) -> None:
    """Add n findings with verdicts: useful where `decides(finding)` says so."""
    rng = np.random.default_rng(seed)
    samples = [factories.SampleFactory.build(label=world.labels[0]) for _ in range(n)]
    type(samples[0]).objects.bulk_create(samples)
    findings = Finding.objects.bulk_create(
        factories.FindingFactory.build(
            sample=sample,
            predicted_label=world.labels[1],
            registered_model=world.model,
            priority=float(rng.uniform(0.5, 1)),
            confidence=float(rng.uniform(0.3, 0.99)),
        )
        for sample in samples
    )
    Review.objects.bulk_create(
        Review(
            dataset=world.dataset,
            finding=finding,
            finding_version=0,
            reviewer=rita,
            verdict=CONFIRM if decides(finding) else DISMISS,
            label_before=world.labels[0],
            state_before="open",
        )
        for finding in findings
    )
    Finding.objects.filter(pk__in=[f.pk for f in findings]).update(
        review_state="dismissed", version=1
    )


def sure(finding) -> bool:
    return finding.confidence > 0.6


def test_an_order_that_explains_the_verdicts_is_used(world, rita):
    judged(world, rita, 200, decides=sure)
    ranker = fit_ranker(model=world.model)
    assert ranker.is_used
    assert ranker.verdicts == 200
    assert ranker.learned > 0.95 > ranker.plain
    weights = {n: parts["weight"] for n, parts in ranker.weights["scores"].items()}
    assert max(weights, key=lambda name: weights[name]).startswith("confidence")
    assert ranker_sentence(world.model) == (
        "Your team's 200 verdicts say more than the plain order: average precision "
        f"{ranker.learned:.2f} against {ranker.plain:.2f}. Used."
    )


def test_the_surest_come_first_then(world, rita):
    judged(world, rita, 200, decides=sure)
    ranker = fit_ranker(model=world.model)
    first, second, third = world.findings
    first.confidence, second.confidence, third.confidence = 0.5, 0.9, 0.7
    standings = {
        (s.true_label_id, s.predicted_label_id): s for s in Standing.objects.all()
    }
    found = scores(world.findings, standings, ranker)
    assert found[1] > found[2] > found[0]
    assert scores([], standings, ranker) == []
    # A confusion that was not counted yet is taken as an empty one.
    assert len(scores(world.findings, {}, ranker)) == 3


def test_an_order_that_explains_nothing_is_not_used(world, rita):
    rng = np.random.default_rng(7)
    judged(world, rita, 120, decides=lambda finding: rng.random() < 0.5)
    ranker = fit_ranker(model=world.model)
    assert not ranker.is_used
    assert ranker_sentence(world.model) == (
        "Your team's 120 verdicts do not say clearly more than the plain order: average "
        f"precision {ranker.learned:.2f} against {ranker.plain:.2f}. Not used."
    )


TOO_FEW = (
    "The order does not learn from your team's verdicts yet: it takes 100 of them, at "
    "least 20 confirmed or relabelled and 20 dismissed."
)


@pytest.mark.parametrize(("n", "decides"), [(99, sure), (120, lambda finding: True)])
def test_too_few_verdicts_teach_nothing(world, rita, n, decides):
    assert ranker_sentence(world.model) == TOO_FEW
    judged(world, rita, n, decides=decides)
    ranker = fit_ranker(model=world.model)
    assert (ranker.is_used, ranker.verdicts) == (False, n)
    assert ranker_sentence(world.model) == TOO_FEW


def test_the_same_verdicts_give_the_same_order(world, rita):
    judged(world, rita, 120, decides=sure)
    weights = fit_ranker(model=world.model).weights
    assert fit_ranker(model=world.model).weights == weights
    assert Ranker.objects.count() == 1


def test_it_is_fitted_again_after_fifty_verdicts(world, rita):
    judged(world, rita, 99, decides=sure)
    assert models_to_fit() == []
    judged(world, rita, 1, decides=sure)
    assert models_to_fit() == [world.model.pk]
    fit_ranker(model=world.model)
    assert models_to_fit() == []
    judged(world, rita, 49, decides=sure)
    assert models_to_fit() == []
    judged(world, rita, 1, decides=sure)
    assert models_to_fit() == [world.model.pk]


def test_undone_verdicts_flags_and_those_of_other_models_teach_nothing(world, rita):
    judged(world, rita, 30, decides=sure)
    undone = decide(finding=world.findings[0], by=rita, verdict=CONFIRM)
    undo(review=undone, by=rita)
    decide(finding=world.findings[1], by=rita, verdict=Verdict.FLAG)
    other = factories.RegisteredModelFactory(dataset=world.dataset)
    assert fit_ranker(model=world.model).verdicts == 30
    assert fit_ranker(model=other).verdicts == 0


def test_the_last_verdict_on_a_finding_counts_once(world, rita):
    finding = world.findings[0]
    decide(finding=finding, by=rita, verdict=DISMISS)
    Finding.objects.filter(pk=finding.pk).update(review_state="open")
    decide(finding=finding, by=rita, verdict=CONFIRM, version=1)
    assert fit_ranker(model=world.model).verdicts == 1
