from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mining.scoring import score_batch


def test_a_batch_worked_out_by_hand():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.1, 0.6]])
    scores = score_batch(probabilities.log(), torch.tensor([0, 1]), top_k=2)
    assert scores.predicted.tolist() == [0, 2]
    assert scores.confidence.tolist() == pytest.approx([0.7, 0.6])
    assert scores.p_true.tolist() == pytest.approx([0.7, 0.1])
    assert scores.margin.tolist() == pytest.approx([0.5, 0.3])
    assert scores.loss.tolist() == pytest.approx([-math.log(0.7), -math.log(0.1)])
    assert scores.top_classes.tolist() == [[0, 1], [2, 0]]
    assert scores.top_probs[1].tolist() == pytest.approx([0.6, 0.3])


def test_a_tie_goes_to_the_lower_index():
    scores = score_batch(torch.zeros(1, 4), torch.tensor([3]), top_k=4)
    assert scores.top_classes.tolist() == [[0, 1, 2, 3]]
    assert scores.margin.item() == 0


def test_one_top_class_still_has_a_margin():
    scores = score_batch(torch.tensor([[0.0, math.log(3)]]), torch.tensor([0]), top_k=1)
    assert scores.top_classes.shape == (1, 1)
    assert scores.margin.item() == pytest.approx(0.5)


def test_extreme_logits_stay_finite():
    scores = score_batch(torch.tensor([[1e4, -1e4]]), torch.tensor([1]), top_k=2)
    assert scores.loss.item() == pytest.approx(2e4)
    assert scores.p_true.item() == 0


@given(
    st.integers(1, 6), st.integers(2, 9), st.integers(1, 12), st.integers(0, 2**31 - 1)
)
def test_scores_agree_with_torch_and_with_each_other(batch, classes, top_k, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, generator=generator) * 4
    true = torch.randint(0, classes, (batch,), generator=generator)
    scores = score_batch(logits, true, top_k)
    assert torch.equal(scores.predicted, logits.argmax(1))
    reference = torch.nn.functional.cross_entropy(logits, true, reduction="none")
    assert torch.allclose(scores.loss, reference, atol=1e-5)
    assert torch.allclose(scores.p_true, (-scores.loss).exp())
    assert scores.top_classes.shape == (batch, min(top_k, classes))
    assert bool((scores.margin >= 0).all())


@pytest.mark.parametrize(
    ("logits", "true", "reason"),
    [
        (torch.zeros(2, 3), torch.tensor([0]), "logits must be"),
        (torch.zeros(2, 1), torch.tensor([0, 0]), "logits must be"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "from 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), "from 0 to 2"),
    ],
)
def test_it_refuses_input_that_does_not_fit(logits, true, reason):
    with pytest.raises(ValueError, match=reason):
        score_batch(logits, true, 2)
