from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from mining.predictors import Normaliser
from mining.training import train_small_cnn
from mining.types import Preprocessing

DIGITS = Preprocessing(resize=None, crop=(28, 28), mean=(0.3,), std=(0.35,), mode="L")


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return real handwritten digits, 8 x 8 enlarged to 28 x 28."""
    data = load_digits()
    small = torch.from_numpy(data.images)[:, None].float() / 16 * 255
    images = torch.nn.functional.interpolate(small, 28).round().to(torch.uint8)
    return images, torch.from_numpy(data.target).long()


@torch.inference_mode()
def accuracy(model, images, labels) -> float:
    logits = model(Normaliser(DIGITS, torch.device("cpu"))(images))
    return (logits.argmax(1) == labels).float().mean().item()


def test_it_learns_handwritten_digits():
    images, labels = digits()
    model = train_small_cnn(
        images[:1200], labels[:1200], 10, preprocessing=DIGITS, epochs=3, batch_size=32
    )
    assert not model.training
    assert accuracy(model, images[1200:], labels[1200:]) > 0.85


def test_the_same_input_gives_the_same_model():
    images, labels = digits()
    done = []
    before = torch.get_rng_state()
    first, second = (
        train_small_cnn(
            images[:96], labels[:96], 10, preprocessing=DIGITS, seed=5, epochs=1,
            batch_size=32, progress=done.append,
        )
        for _ in "ab"
    )  # fmt: skip
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(left, right)
    assert done == [32] * 6
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_of_no_weight_are_not_learnt():
    images, labels = digits()
    weights = (labels != 3).float()
    model = train_small_cnn(
        images[:600], labels[:600], 10, preprocessing=DIGITS, epochs=3, batch_size=32,
        sample_weights=weights[:600],
    )  # fmt: skip
    threes = labels == 3
    assert accuracy(model, images[threes], labels[threes]) < 0.2
    assert accuracy(model, images[~threes], labels[~threes]) > 0.7


def test_it_refuses_labels_out_of_range():
    images, labels = digits()
    with pytest.raises(ValueError, match="from 0 to 8"):
        train_small_cnn(images, labels, 9, preprocessing=DIGITS)
