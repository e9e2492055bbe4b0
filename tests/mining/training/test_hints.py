from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from mining.recipe import Hint
from mining.recipe_making import HINTS
from mining.training.hints import apply_hints
from reviewapp.models import Cause

HINT_NAMES = get_args(Hint)


def picture(mode):
    rng = np.random.default_rng(3)
    shape = (24, 32) if mode == "L" else (24, 32, 3)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode=None)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("hint", HINT_NAMES)
def test_every_hint_keeps_size_and_mode_and_changes_about_half(hint, mode):
    image, other = picture(mode), picture(mode).resize((9, 9)).transpose(1)
    torch.manual_seed(1)
    before = image.tobytes()
    copies = [apply_hints(image, [hint], other=other) for _ in range(40)]
    assert {(copy.size, copy.mode) for copy in copies} == {((32, 24), mode)}
    assert 8 <= sum(copy.tobytes() != before for copy in copies) <= 32
    assert image.tobytes() == before


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("hint", HINT_NAMES)
def test_tensors_stay_tensors_of_their_type_and_range(hint, dtype):
    image = torch.randint(256, (3, 24, 32), dtype=torch.uint8)
    image = image if dtype == torch.uint8 else image / 255
    torch.manual_seed(1)
    for _ in range(6):
        copy = apply_hints(image, [hint], other=image.flip(2))
        assert (copy.shape, copy.dtype) == (image.shape, dtype)
        assert copy.max() <= (255 if dtype == torch.uint8 else 1.0001)


@pytest.mark.parametrize(("mode", "other"), [("L", "RGB"), ("RGB", "L")])
def test_an_image_of_another_mode_is_mixed_in_as_the_first_ones(mode, other):
    image = Image.new(mode, (8, 6), 0)
    torch.manual_seed(1)
    copies = [
        apply_hints(image, ["mix"], other=Image.new(other, (5, 5), "white"))
        for _ in range(9)
    ]
    assert {(copy.size, copy.mode) for copy in copies} == {((8, 6), mode)}
    assert 0 < np.max([np.asarray(copy) for copy in copies]) <= 102  # 40 % of 255


def test_erasing_blackens_a_part_and_only_that():
    image = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    torch.manual_seed(0)
    copies = [apply_hints(image, ["erase"]) for _ in range(20)]
    shares = {float((copy == 0).float().mean()) for copy in copies}
    assert 0.0 in shares
    assert all(0.04 <= share <= 0.26 for share in shares - {0.0})
    assert all(set(copy.unique().tolist()) <= {0, 200} for copy in copies)


def test_the_same_seed_gives_the_same_image():
    image, copies = picture("RGB"), []
    for _ in "ab":
        torch.manual_seed(9)
        copies.append(apply_hints(image, HINT_NAMES, other=image).tobytes())
    assert copies[0] == copies[1]


def test_a_normalised_tensor_is_refused():
    with pytest.raises(ValueError, match="normalised already"):
        apply_hints(torch.randn(3, 8, 8), ["light"])


def test_a_palette_is_refused():
    with pytest.raises(ValueError, match="mode L or RGB, not P"):
        apply_hints(Image.new("P", (8, 8)), ["light"])


def test_the_causes_with_hints_are_the_products_and_all_hints_are_used():
    assert set(HINTS) <= set(Cause.values)
    assert {hint for hints in HINTS.values() for hint in hints} == set(HINT_NAMES)
