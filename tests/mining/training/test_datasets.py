from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from mining.training.datasets import FixSetDataset
from tests.mining.training.recipes import recipe, sample, write_images

FIXES = recipe(
    sample("cat/1.png", "dog", role="corrected"),
    sample("cat/2.png", weight=0.75, repeat=2),
    sample("dog/0.png", role="drop"),
    sample("dog/1.png", role="easy"),
    class_weights={"dog": 0.5},
    ignore={"cat/1.png": "label_wrong", "dog/0.png": "ambiguous"},
)


@pytest.fixture
def folder(tmp_path):
    return ImageFolder(write_images(tmp_path))


def seen(data):
    """Return (grey, class index) of every item."""
    return [(int(np.asarray(image)[0, 0, 0]), label) for image, label in data]


def test_it_applies_labels_drops_and_repeats_and_leaves_the_rest(folder):
    data = FixSetDataset(folder, FIXES)
    assert seen(data[i] for i in range(len(data))) == [
        (0, 0), (40, 1), (80, 0), (80, 0), (160, 1), (200, 1),
    ]  # fmt: skip
    assert data.weights.tolist() == [1, 1, 0.75, 0.75, 1, 1]
    assert data.ignored.tolist() == [False, True, False, False, False, False]
    assert data.classes == ("cat", "dog")
    assert data.class_weights.tolist() == [1.0, 0.5]


def test_without_the_rest_only_the_recipes_samples_are_left(folder):
    data = FixSetDataset(folder, FIXES, rest=False)
    assert seen(data[i] for i in range(len(data))) == [
        (40, 1), (80, 0), (80, 0), (160, 1),
    ]  # fmt: skip


def test_pairs_with_keys_are_wrapped_too():
    pairs = [("a cat", 0), ("another", 0)]
    data = FixSetDataset(
        pairs, recipe(sample("cat/1.png", "dog")),
        key=["cat/0.png", "cat/1.png"].__getitem__, classes=("cat", "dog"),
        transform=str.upper, with_position=True,
    )  # fmt: skip
    assert [data[i] for i in range(2)] == [("A CAT", 0, 0), ("ANOTHER", 1, 1)]


def test_the_position_finds_the_item_in_a_shuffled_batch(folder):
    data = FixSetDataset(folder, FIXES, transform=v2.PILToTensor(), with_position=True)
    loader = torch.utils.data.DataLoader(data, batch_size=6, shuffle=True)
    [(images, _, positions)] = loader
    assert images[data.ignored[positions]][:, 0, 0, 0].tolist() == [40]


def test_hints_change_an_image_before_the_transform_and_only_where_asked(folder):
    hinted = recipe(sample("dog/2.png", hints=("light",)))
    data = FixSetDataset(folder, hinted, transform=v2.PILToTensor())
    torch.manual_seed(0)
    greys = {int(data[5][0][0, 0, 0]) for _ in range(12)}
    assert len(greys) > 3
    assert 200 in greys  # half of the draws stay as they are
    assert {int(data[4][0][0, 0, 0]) for _ in range(12)} == {160}


def test_mixing_takes_other_images_of_the_same_corrected_class(folder):
    hinted = recipe(
        sample("dog/2.png", hints=("mix",)),  # 200
        sample("dog/1.png", role="easy"),  # 160
        sample("cat/0.png", role="easy"),  # 0: never mixed into a dog
        sample("cat/2.png", hints=("mix",)),  # 80
    )
    data = FixSetDataset(folder, hinted)
    torch.manual_seed(0)
    dogs = {grey for grey, _ in seen(data[5] for _ in range(20))}
    cats = {grey for grey, _ in seen(data[2] for _ in range(20))}
    others = {
        folder[data.partner(data.entries[5])][0].getpixel((0, 0)) for _ in range(9)
    }
    assert others == {(160, 160, 160)}  # never itself
    assert 184 <= min(dogs) < max(dogs) == 200
    assert 48 <= min(cats) < max(cats) == 80


def test_an_image_alone_in_its_class_is_not_mixed(folder):
    data = FixSetDataset(folder, recipe(sample("dog/2.png", hints=("mix",))))
    assert set(seen(data[5] for _ in range(10))) == {(200, 1)}


def test_a_sample_that_is_not_there_is_refused_by_name(folder):
    with pytest.raises(
        ValueError, match=r"not in the data set: 1 of 1, such as cat/9.png"
    ):
        FixSetDataset(folder, recipe(sample("cat/9.png")))


def test_a_class_that_is_not_there_is_refused_by_name(folder):
    with pytest.raises(ValueError, match=r"lacks: 1, such as horse"):
        FixSetDataset(folder, recipe(sample("cat/1.png", "horse")))


def test_a_data_set_without_paths_or_classes_is_refused():
    with pytest.raises(ValueError, match="key="):
        FixSetDataset([(0, 0)], recipe(), classes=("cat",))
    with pytest.raises(ValueError, match="classes="):
        FixSetDataset([(0, 0)], recipe(), key=str)
