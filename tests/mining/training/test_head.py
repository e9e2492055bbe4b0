from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mining.predictors import Normaliser
from mining.training import extract_features, train_head
from tests.mining.models import small_cnn
from tests.mining.pictures import GREY


def blobs(n: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """Return three overlapping clouds of points in four dimensions, badly scaled."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(n) % 3
    centres = torch.randn(3, 4, generator=generator) * 1.5
    noise = torch.randn(n, 4, generator=generator)
    scale = torch.tensor([1.0, 100.0, 0.01, 1.0])
    return (centres[labels] + noise) * scale + 5, labels


def test_it_is_scikit_learns_logistic_regression():
    x, y = blobs()
    head = train_head(x, y, 3, weight_decay=0.02, epochs=500)
    scaled = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    # Its C weighs the sum of losses, ours is their mean.
    reference = LogisticRegression(C=1 / (0.02 * len(y)), max_iter=1000, tol=1e-8)
    expected = reference.fit(scaled, y.numpy()).predict_proba(scaled)
    assert np.allclose(head(x).softmax(1).numpy(), expected, atol=2e-3)


def test_the_same_input_gives_the_same_head():
    first, second = (train_head(*blobs(), 3, seed=7) for _ in "ab")
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_training_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    train_head(*blobs(), 3, seed=7, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_of_samples_count_like_copies():
    x, y = blobs(30)
    weights = torch.ones(30)
    weights[:5] = 3
    copies = torch.cat([torch.arange(30), torch.arange(5), torch.arange(5)])
    # The same statistics on both sides, so that only the loss differs.
    x = (x - x[copies].mean(0)) / x[copies].std(0, correction=0)
    weighted = train_head(x, y, 3, sample_weights=weights, epochs=500)
    copied = train_head(x[copies], y[copies], 3, epochs=500)
    assert torch.allclose(weighted(x).softmax(1), copied(x).softmax(1), atol=0.03)
    plain = train_head(x, y, 3, epochs=500)
    assert not torch.allclose(weighted(x).softmax(1), plain(x).softmax(1), atol=0.03)


def test_a_heavier_class_is_predicted_more_often():
    x, y = blobs()
    plain = (train_head(x, y, 3)(x).argmax(1) == 2).sum()
    heavy = train_head(x, y, 3, class_weights=torch.tensor([1.0, 1.0, 20.0]))
    assert (heavy(x).argmax(1) == 2).sum() > plain


@pytest.mark.parametrize(
    ("features", "labels", "reason"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 1]), "must be"),
        (torch.zeros(0, 2), torch.tensor([], dtype=torch.int64), "N above 0"),
        (torch.zeros(2, 2), torch.tensor([0, 3]), "from 0 to 2"),
    ],
)
def test_it_refuses_input_that_does_not_fit(features, labels, reason):
    with pytest.raises(ValueError, match=reason):
        train_head(features, labels, 3)


def test_features_are_the_networks_in_order():
    model = small_cnn()
    images = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
    done = []
    found = extract_features(
        model, iter(images), preprocessing=GREY, batch_size=3, precision="float32",
        progress=done.append,
    )  # fmt: skip
    with torch.inference_mode():
        expected = model.embed(Normaliser(GREY, torch.device("cpu"))(images))
    assert torch.allclose(found, expected, atol=1e-4)
    assert done == [3, 3, 1]
    assert not found.is_inference()


def test_no_images_have_no_features():
    assert extract_features(small_cnn(), [], preprocessing=GREY).shape == (0, 128)
