from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from mining.training.losses import focal_loss, hard_example_loss

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def batch(n=64, classes=3):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (n,), generator=generator)


def logits_for(*probabilities):
    """Return logits (N, 2) that give class 0 these probabilities."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], 1), torch.zeros(len(p), dtype=int)


def test_focal_loss_has_its_closed_form():
    logits, labels = logits_for(0.2, 0.9)
    expected = -(0.8**2 * math.log(0.2) + 0.1**2 * math.log(0.9)) / 2
    assert focal_loss(logits, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_two_classes_is_torchvisions(gamma):
    logits, labels = batch(classes=2)
    theirs = sigmoid_focal_loss(
        logits[:, 1] - logits[:, 0], labels.double(), alpha=-1, gamma=gamma,
        reduction="mean",
    )  # fmt: skip
    assert torch.allclose(focal_loss(logits, labels, gamma=gamma), theirs)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_with_their_defaults_off_both_are_class_weighted_cross_entropy(weights):
    logits, labels = batch()
    double = None if weights is None else weights.double()
    theirs = functional.cross_entropy(logits, labels, weight=double)
    focal = focal_loss(logits, labels, gamma=0, class_weights=weights)
    hard = hard_example_loss(logits, labels, share=1, class_weights=weights)
    assert torch.allclose(focal, theirs)
    assert torch.allclose(hard, theirs)


def test_a_sure_sample_has_a_finite_gradient():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0]), gamma=0.5).backward()
    assert torch.isfinite(logits.grad).all()


def test_only_the_hardest_share_counts():
    logits, labels = logits_for(0.9, 0.1, 0.5, 0.7, 0.8)
    expected = -(math.log(0.1) + math.log(0.5)) / 2
    got = hard_example_loss(logits, labels, share=0.4)
    assert got.item() == pytest.approx(expected)


def test_only_the_kept_samples_have_a_gradient():
    logits, labels = logits_for(0.9, 0.1, 0.5)
    logits.requires_grad_()
    hard_example_loss(logits, labels, share=0.3).backward()
    assert (logits.grad.abs().sum(1) > 0).tolist() == [False, True, False]


def test_the_share_is_capped():
    logits, labels = logits_for(0.9, 0.1, 0.5)
    got = hard_example_loss(logits, labels, share=1, at_most=1)
    assert got.item() == pytest.approx(-math.log(0.1))


def test_a_label_error_never_counts_as_hard_nor_for_the_share():
    logits, labels = logits_for(0.001, 0.1, 0.5, 0.6, 0.7)
    ignore = torch.tensor([True, False, False, False, False])
    got = hard_example_loss(logits, labels, share=0.25, ignore=ignore)
    assert got.item() == pytest.approx(-math.log(0.1))


def test_a_batch_of_label_errors_alone_costs_nothing_and_can_be_stepped():
    logits, labels = logits_for(0.1, 0.2)
    logits.requires_grad_()
    loss = hard_example_loss(logits, labels, ignore=torch.tensor([True, True]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("given", [{"share": 0}, {"share": 1.1}, {"at_most": 0}])
def test_it_refuses_a_share_or_cap_out_of_range(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        hard_example_loss(*batch(), **given)


def test_it_refuses_a_gamma_below_zero():
    with pytest.raises(ValueError, match="gamma"):
        focal_loss(*batch(), gamma=-1)
