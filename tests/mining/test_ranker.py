from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from mining.ranker import average_precision, compare, fit, log_odds


def verdicts(n: int, strength: float, seed: int = 0):
    """Return scores (n, 3) of which the second decides, and who was useful."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 3))
    return scores, rng.random(n) < 1 / (1 + np.exp(-strength * scores[:, 1]))


def test_it_finds_the_weights_that_scikit_learn_finds():
    scores, useful = verdicts(400, 2.0)
    found = fit(scores, useful)
    standard = (scores - found.mean) / found.scale
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
    reference.fit(standard, useful)
    np.testing.assert_allclose(found.weights, reference.coef_[0], atol=1e-5)
    assert found.intercept == pytest.approx(reference.intercept_[0], abs=1e-5)
    np.testing.assert_allclose(
        log_odds(found, scores), reference.decision_function(standard), atol=1e-5
    )


def test_the_same_verdicts_give_the_same_weights():
    scores, useful = verdicts(200, 1.0)
    one, other = fit(scores, useful), fit(scores.copy(), useful.copy())
    assert one.weights.tolist() == other.weights.tolist()


def test_a_score_that_never_changes_has_no_weight():
    scores, useful = verdicts(100, 1.0)
    scores[:, 0] = 3.0
    found = fit(scores, useful)
    assert found.weights[0] == 0
    assert np.isfinite(log_odds(found, scores)).all()


def test_scores_that_separate_completely_stay_finite():
    scores = np.linspace(-1, 1, 50)[:, None]
    found = fit(scores, scores[:, 0] > 0)
    assert 0 < found.weights[0] < 20


@pytest.mark.parametrize("useful", [np.zeros(3, bool), np.ones(3, bool)])
def test_verdicts_of_one_kind_teach_nothing(useful):
    with pytest.raises(ValueError, match="both values"):
        fit(np.zeros((3, 1)), useful)


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"scores \(3, 1\) and useful \(2,\)"):
        fit(np.zeros((3, 1)), np.array([True, False]))


def test_average_precision_is_that_of_scikit_learn_ties_included():
    rng = np.random.default_rng(2)
    for size in (1, 5, 300):
        useful = rng.random(size) < 0.4
        useful[0] = True
        order = rng.integers(0, 10, size).astype(float)
        assert average_precision(useful, order) == pytest.approx(
            average_precision_score(useful, order), abs=1e-12
        )


def test_an_order_that_the_verdicts_follow_is_better_than_one_they_do_not():
    scores, useful = verdicts(500, 3.0)
    found = compare(scores, useful, plain=scores[:, 0])
    assert found.is_better
    assert found.learned > 0.9
    assert found.plain < 0.65


def test_what_the_plain_order_knows_already_is_no_gain():
    scores, useful = verdicts(500, 3.0)
    assert not compare(scores, useful, plain=scores[:, 1]).is_better


def test_noise_is_hardly_ever_taken_for_a_better_order():
    better = sum(
        compare(scores, useful, plain=scores[:, 2]).is_better
        for scores, useful in (verdicts(150, 0.0, seed) for seed in range(40))
    )
    assert better <= 4


def test_too_few_of_a_kind_are_not_compared():
    scores, useful = verdicts(50, 1.0)
    useful[:] = False
    useful[:4] = True
    with pytest.raises(ValueError, match="5 times at least"):
        compare(scores, useful, plain=scores[:, 0])
