from __future__ import annotations

import json
import random
from dataclasses import replace

import jsonschema
import pytest

from mining.exceptions import MiningError
from mining.fixset import FixRow, fix_set_digest
from mining.recipe import (
    Recipe,
    RecipeSample,
    RecipeSettings,
    Sources,
    read_recipe,
    recipe_schema,
)
from mining.recipe_making import EasySample, class_balanced_weights, make_recipe

COUNTS = {"coat": 100, "dress": 300, "shirt": 400}


def row(key, label="dress", predicted="shirt", p_true=0.0, causes=(), **given):
    confirm = {"original_label": label, "true_label": label, "verdict": "confirm"}
    return FixRow(
        sample_key=key, digest="ab" * 32, label=label, predicted=predicted,
        causes=causes, p_true=p_true, confidence=0.9, reviewer="ann",
        reviewed_at="2026-01-01T00:00:00+00:00",
        **{"split": "train", **confirm, **given},
    )  # fmt: skip


def relabel(key, old, new, **given):
    return row(
        key,
        new,
        "shirt",
        original_label=old,
        true_label=old,
        verdict="relabel",
        **given,
    )


EMPHASIS = RecipeSettings(max_emphasis=3.0)


def easy(count):
    return [EasySample(f"easy/{i}.png", "cd" * 32, "coat") for i in range(count)]


def by_key(recipe):
    return {sample.key: sample for sample in recipe.samples}


ROWS = [
    row("hard.png", p_true=0.0, causes=("pose", "occlusion")),
    row("near.png", p_true=0.5, causes=("background",)),
    row("unclear.png", causes=("ambiguous", "blur")),
    row("suspect.png", causes=("label_wrong",)),
    relabel("wrong.png", "coat", "dress", causes=("label_wrong",)),
]


def test_each_role_has_its_weight_repeats_hints_and_labels():
    samples = by_key(make_recipe(ROWS, COUNTS, settings=EMPHASIS))
    digest = "ab" * 32
    assert samples == {
        "hard.png": RecipeSample(
            "hard.png", digest, "dress", "dress", "hard", 1.0, 3,
            ("erase", "perspective", "rotate"),
        ),
        "near.png": RecipeSample(
            "near.png", digest, "dress", "dress", "hard", 0.75, 2, ("crop", "mix")
        ),
        "suspect.png": RecipeSample("suspect.png", digest, "dress", "dress", "drop"),
        "unclear.png": RecipeSample("unclear.png", digest, "dress", "dress", "drop"),
        "wrong.png": RecipeSample("wrong.png", digest, "dress", "coat", "corrected"),
    }  # fmt: skip


def test_unless_asked_for_no_hard_sample_counts_more_than_another():
    assert {
        (sample.repeat, sample.weight) for sample in make_recipe(ROWS, COUNTS).samples
    } == {(1, 1.0)}


def test_label_errors_and_ambiguous_samples_are_never_to_be_mined_as_hard():
    assert make_recipe(ROWS, COUNTS).ignore == {
        "suspect.png": "label_wrong",
        "unclear.png": "ambiguous",
        "wrong.png": "label_wrong",
    }


def test_a_confirmed_sample_that_was_corrected_earlier_is_hard_under_its_new_label():
    sample = row("a.png", original_label="coat")
    [got] = make_recipe([sample], COUNTS).samples
    assert (got.role, got.label, got.old_label) == ("hard", "dress", "coat")


def test_one_sample_found_twice_is_one_line_as_hard_as_the_harder_one():
    rows = [
        row("a.png", p_true=0.6, predicted="coat", causes=("blur",)),
        row("a.png", p_true=0.0, causes=("lighting",)),
    ]
    [got] = make_recipe(rows, COUNTS, settings=EMPHASIS).samples
    assert (got.repeat * got.weight, got.hints) == (3.0, ("blur", "light"))


def test_a_sample_that_reviews_disagree_on_is_dropped():
    rows = [row("a.png"), relabel("a.png", "dress", "coat")]
    recipe = make_recipe(rows, COUNTS)
    assert [sample.role for sample in recipe.samples] == ["drop"]
    assert recipe.ignore == {"a.png": "reviews disagree"}


def test_class_weights_go_from_equal_to_inverse_frequency():
    assert class_balanced_weights(COUNTS, beta=0) == dict.fromkeys(COUNTS, 1.0)
    nearly = class_balanced_weights({"a": 10, "b": 40}, beta=1 - 1e-9)
    assert nearly == pytest.approx({"a": 1.6, "b": 0.4}, rel=1e-6)
    # E = (1 - 0.9^n) / 0.1: 1 and 1.9
    got = class_balanced_weights({"a": 1, "b": 2}, beta=0.9)
    assert got["a"] / got["b"] == pytest.approx(1.9)
    assert sum(got.values()) == pytest.approx(2)


def test_a_class_without_samples_is_refused():
    with pytest.raises(ValueError, match="coat has 0 samples"):
        make_recipe([], COUNTS | {"coat": 0})


def test_what_comes_from_other_splits_is_counted_for_the_class_weights():
    rows = [row("a.png", split="val"), row("b.png"), relabel("c.png", "coat", "cape")]
    pool = [EasySample(f"{i}.png", "", "coat", split) for i, split in enumerate(SPLITS)]
    recipe = make_recipe(rows, COUNTS, easy=pool)
    # One dress of val, one coat of test; the cape is the recipe's own, of train.
    counts = {"cape": 1, "coat": 101, "dress": 301, "shirt": 400}
    assert recipe.class_weights == class_balanced_weights(counts, beta=0.999)


SPLITS = ("train", "test")


def test_trainers_hear_of_what_was_held_aside_but_not_of_duplicates():
    held = [
        (row("x.png", causes=("out_of_scope",)), "ambiguous"),
        (row("y.png"), "label_suspect"),
        (row("z.png"), "outlier"),
        (row("w.png"), "duplicate"),
    ]
    recipe = make_recipe([row("a.png")], COUNTS, held=held)
    roles = {sample.key: sample.role for sample in recipe.samples}
    assert roles == {"a.png": "hard", "x.png": "drop"}
    assert recipe.ignore == {
        "x.png": "out_of_scope", "y.png": "label in doubt", "z.png": "outlier",
    }  # fmt: skip
    assert recipe.sources.fix_set == fix_set_digest([row("a.png")])


def test_what_is_doubted_outside_the_set_is_never_mined_and_never_easy():
    pool = easy(2)
    doubted = {pool[0].key: "ambiguous", "hard.png": "ambiguous", "train.png": "odd"}
    recipe = make_recipe([row("hard.png")], COUNTS, easy=pool, doubted=doubted)
    # Of what is in the set, the set's verdict counts.
    assert recipe.ignore == {pool[0].key: "ambiguous", "train.png": "odd"}
    roles = {sample.key: sample.role for sample in recipe.samples}
    assert roles == {pool[1].key: "easy", "hard.png": "hard"}


def test_the_caps_keep_the_hardest_and_say_what_they_left_out():
    rows = [row(f"{i}.png", p_true=i / 10) for i in range(5)]
    rows += [row(f"c{i}.png", predicted="coat", p_true=0.9) for i in range(3)]
    settings = RecipeSettings(per_confusion=3, per_class=4, easy_per_hard=0)
    recipe = make_recipe(rows, COUNTS, settings=settings)
    assert list(by_key(recipe)) == ["0.png", "1.png", "2.png", "c0.png"]
    assert recipe.warnings == (
        "dress: hard samples over the cap: 2. The easiest ones were left out.",
        "dress taken for shirt: hard samples over the cap: 2. The easiest ones were left out.",
    )


def test_near_misses_are_taken_for_nothing():
    rows = [row(f"n{i}.png", predicted="dress", p_true=0.5) for i in range(3)]
    settings = RecipeSettings(per_confusion=1)
    alone = make_recipe(rows, COUNTS, settings=settings)
    assert [line.predicted for line in alone.collection] == ["dress"]
    assert alone.warnings[0].startswith("dress, near misses: hard samples over the cap")
    among = make_recipe([*rows, row("e.png", predicted="coat")], COUNTS)
    assert [line.predicted for line in among.collection] == ["coat"]


def test_no_cap_is_reached_by_corrections():
    rows = [relabel(f"{i}.png", "coat", "dress") for i in range(3)]
    recipe = make_recipe(rows, COUNTS, settings=RecipeSettings(per_class=1))
    assert len(recipe.samples) == 3
    assert recipe.warnings == ()


def test_as_many_easy_samples_as_hard_ones_are_mixed_in_by_the_seed():
    pool = [*easy(50), EasySample("hard.png", "ab" * 32, "dress")]
    recipe = make_recipe(ROWS, COUNTS, easy=iter(pool))
    taken = [sample for sample in recipe.samples if sample.role == "easy"]
    assert len(taken) == 2
    assert all(sample.weight == sample.repeat == 1 for sample in taken)
    again = make_recipe(ROWS, COUNTS, easy=pool[::-1])
    other = make_recipe(ROWS, COUNTS, easy=pool, settings=RecipeSettings(seed=1))
    assert again == recipe
    assert other.samples != recipe.samples


def test_too_few_easy_samples_are_said():
    pool = [*easy(1), EasySample("hard.png", "ab" * 32, "dress")]  # one is taken
    assert make_recipe(ROWS, COUNTS, easy=pool).warnings == (
        "Easy samples found: 1 of 2 wanted.",
    )


def test_samples_of_the_test_split_are_said():
    [warning] = make_recipe([row("a.png", split="test")], COUNTS, easy=easy(1)).warnings
    assert warning.startswith("Samples of the test split: 1.")


def test_the_collection_plan_asks_for_what_other_images_would_mend():
    rows = [row(f"{i:02}.png", p_true=i / 100, causes=("pose",)) for i in range(20)]
    rows += [row("coat.png", "coat", "shirt", causes=("blur",))]
    rows += [row("shirt.png", "shirt", "coat")]
    settings = RecipeSettings(examples=2)
    plan = make_recipe(rows, COUNTS, settings=settings).collection
    assert [(line.label, line.predicted, line.count, line.like) for line in plan] == [
        ("dress", "shirt", 120, ("00.png", "01.png")),
        ("shirt", "coat", 6, ("shirt.png",)),
    ]


def test_the_order_of_the_rows_does_not_change_the_digest_and_a_verdict_does():
    shuffled = random.Random(4).sample(ROWS, len(ROWS))
    one, two = make_recipe(ROWS, COUNTS), make_recipe(shuffled, COUNTS)
    assert one.digest == two.digest
    assert one.sources.fix_set == fix_set_digest(ROWS)
    changed = [replace(ROWS[0], p_true=0.1), *ROWS[1:]]
    assert make_recipe(changed, COUNTS).digest != one.digest


def full():
    sources = Sources(scan="12", model="ef" * 32, dataset="animals")
    return make_recipe(ROWS, COUNTS, easy=easy(9), sources=sources)


def test_it_comes_back_from_json_and_fits_the_published_schema(tmp_path):
    recipe = full()
    path = tmp_path / "recipe.json"
    path.write_text(recipe.to_json())
    assert read_recipe(str(path)) == recipe
    jsonschema.Draft202012Validator.check_schema(recipe_schema())
    jsonschema.validate(json.loads(recipe.to_json()), recipe_schema())


WRONG = {
    "a newer version": ({"version": 2}, "version 2"),
    "another format": ({"format": "coco"}, "coco"),
    "an unknown field": ({"surprise": 1}, "unknown fields: surprise"),
    "samples twice": ({"samples": [0, 0]}, "each key once"),
    "no list": ({"samples": {}}, "samples must be a list"),
    "a weight of nothing": ({"class_weights": {"coat": 0}}, "above 0"),
    "a reason that is a number": ({"ignore": {"a": 1}}, "ignore must be plain text"),
    "a wrong setting": ({"settings": {"beta": 1.0}}, "beta must be from 0 to below 1"),
}


@pytest.mark.parametrize(("change", "says"), WRONG.values(), ids=WRONG)
def test_what_the_schema_refuses_is_refused_with_the_fields_name(
    tmp_path, change, says
):
    data = json.loads(full().to_json())
    if change == {"samples": [0, 0]}:
        change = {"samples": [data["samples"][0]] * 2}
    elif "settings" in change:
        change = {"settings": data["settings"] | change["settings"]}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(data | change))
    with pytest.raises(MiningError, match=says) as caught:
        read_recipe(str(path))
    assert str(path) in str(caught.value)
    if "each key once" not in says:  # a schema cannot say that
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data | change, recipe_schema())


SAMPLES = {
    "role": "maybe",
    "weight": 0,
    "repeat": 1.5,
    "hints": ["dance"],
    "label": None,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_wrong_field_of_a_sample_is_named_with_its_place(name):
    data = json.loads(full().to_json())
    data["samples"][1][name] = SAMPLES[name]
    with pytest.raises(ValueError, match=rf"samples\[1\]: {name}"):
        Recipe.from_dict(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, recipe_schema())


def test_a_missing_field_is_named():
    data = json.loads(full().to_json())
    del data["samples"][0]["digest"]
    with pytest.raises(ValueError, match=r"samples\[0\] lacks: digest"):
        Recipe.from_dict(data)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff", "[]"])
def test_it_refuses_what_is_not_a_recipe(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(MiningError, match="not a recipe"):
        read_recipe(str(path))


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(MiningError, match="cannot be read"):
        read_recipe(str(tmp_path / "none.json"))
