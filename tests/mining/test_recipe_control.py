from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from mining.recipe import Recipe, RecipeSample
from mining.recipe_making import EasySample, random_recipe

SAMPLES = (
    RecipeSample("pool/07", "d", "cat", "cat", "hard", weight=1.2, repeat=3),
    RecipeSample("pool/09", "d", "dog", "dog", "hard", hints=("erase",)),
    RecipeSample("train/03", "d", "dog", "cat", "corrected"),
    RecipeSample("train/05", "d", "cat", "cat", "easy"),
    RecipeSample("train/08", "d", "cat", "cat", "drop"),
)
RECIPE = Recipe(
    SAMPLES, class_weights={"cat": 0.8, "dog": 1.2}, ignore={"train/03": "label_wrong"}
)
POOL = [
    EasySample(
        f"{split}/{n:02}", f"digest {split} {n}", "cat" if n % 2 else "dog", split
    )
    for split in ("pool", "train", "test")
    for n in range(40)
]


def lines_but_for_the_sample(recipe: Recipe) -> Counter[tuple[object, ...]]:
    return Counter(
        (line.key.split("/")[0], line.role, line.weight, line.repeat, line.hints)
        for line in recipe.samples
    )


def test_a_control_has_the_same_lines_with_other_samples_of_the_same_splits():
    control = random_recipe(RECIPE, POOL, seed=3)
    assert lines_but_for_the_sample(control) == lines_but_for_the_sample(RECIPE)
    known = {one.key: one for one in POOL}
    for line in control.samples:
        one = known[line.key]
        assert (line.digest, line.label, line.old_label) == (
            one.digest,
            one.label,
            one.label,
        )
    assert {line.key for line in control.samples} != {line.key for line in SAMPLES}
    assert control.class_weights == RECIPE.class_weights
    assert control.ignore == {}


def test_a_control_follows_from_the_seed_and_not_from_the_order():
    shuffled = random.Random(1).sample(POOL, len(POOL))
    first = random_recipe(RECIPE, POOL, seed=3)
    assert random_recipe(RECIPE, shuffled, seed=3) == first
    assert random_recipe(RECIPE, POOL, seed=4) != first


def test_every_sample_is_as_likely_as_another():
    drawn = Counter(
        line.key
        for seed in range(400)
        for line in random_recipe(RECIPE, POOL, seed=seed).samples
    )
    pool = [drawn[one.key] for one in POOL if one.split == "pool"]
    # 400 draws of 2 in 40: 20 each on average, 4.4 the standard deviation.
    assert sum(pool) == 800
    assert 5 <= min(pool) <= max(pool) <= 38
    assert not any(key.startswith("test/") for key in drawn)


def test_a_control_may_take_all_there_are():
    few = [one for one in POOL if one.split == "pool"][7:10]
    few = [replace(one, split="only") for one in few]
    lines = tuple(RecipeSample(one.key, "d", "cat", "cat", "hard") for one in few)
    control = random_recipe(Recipe(lines), few, seed=0)
    assert [line.key for line in control.samples] == [one.key for one in few]


def test_it_refuses_candidates_without_the_recipes_own_samples():
    with pytest.raises(ValueError, match=r"1 samples of the recipe .* pool/07"):
        random_recipe(RECIPE, [one for one in POOL if one.key != "pool/07"], seed=0)
