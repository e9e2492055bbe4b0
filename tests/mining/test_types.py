from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mining.types import ModelSpec, Outcome, Preprocessing, SampleRef, ScanSettings
from tests.mining.pictures import COLOUR, SPEC


def outcome(**changes: object) -> Outcome:
    values = {
        "id": 1, "key": "a.png", "digest": "d", "true": 0, "predicted": 0, "confidence": 0.5,
        "p_true": 0.5, "margin": 0.1, "loss": 0.7, "top_classes": (0,), "top_probs": (0.5,),
    }  # fmt: skip
    return Outcome(**(values | changes))


def test_preprocessing_survives_a_round_trip():
    assert Preprocessing.from_dict(COLOUR.to_dict()) == COLOUR


def test_one_number_is_a_square_crop():
    data = COLOUR.to_dict() | {"crop": 24}
    assert Preprocessing.from_dict(data).crop == (24, 24)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"resize": 0}, "resize"),
        ({"resize": True}, "resize"),
        ({"crop": [8, 8, 8]}, "crop"),
        ({"crop": "8"}, "crop"),
        ({"crop": 5000}, "crop"),
        ({"mean": [0.5]}, "mean must have 3"),
        ({"mean": ["a", "b", "c"]}, "mean"),
        ({"std": [0.5, 0.5, 0]}, "std must be above 0"),
        ({"std": [0.5, 0.5, math.nan]}, "std"),
        ({"mode": "CMYK"}, "mode"),
        ({"interpolation": "lanczos"}, "interpolation"),
        ({"croop": 3}, "croop"),
        ({"resize": 10**5000}, "resize"),
        ({"crop": [8] * 10**6}, "crop"),
        ({"crop": [8, 10**5000]}, "crop"),
        ({"crop": []}, "crop"),
        ({"mean": [10**400] * 3}, "mean must be a finite number"),
        ({"mean": [0.5, 0.5, math.inf]}, "mean must be a finite number"),
        ({"mean": [0.5, 0.5, True]}, "mean must be a finite number"),
        ({"mean": [0.5] * 10**6}, "mean must have at most 3 numbers, not 1,000,000"),
        ({"mean": {"r": 1}}, "mean must be a finite number"),
        ({"std": [10**400] * 3}, "std must be a finite number"),
        ({"std": []}, "std must have 3 numbers"),
        ({"mode": ["RGB"]}, "mode"),
        ({"interpolation": {"a": "x" * 10**6}}, "interpolation"),
        ({"\ud800": 1}, "unknown fields"),
    ],
)
def test_it_refuses_bad_preprocessing_by_name(change, named):
    with pytest.raises(ValueError, match=named) as caught:
        Preprocessing.from_dict(COLOUR.to_dict() | change)
    assert len(str(caught.value).encode()) < 700


@pytest.mark.parametrize("change", [{"mean": (math.nan,) * 3}, {"std": (10**400,) * 3}])
def test_preprocessing_that_is_not_from_json_is_checked_too(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(COLOUR, **change)


@pytest.mark.parametrize("kind", [Preprocessing, ModelSpec, ScanSettings])
@pytest.mark.parametrize("data", [[], "text", None, 3])
def test_what_is_no_object_is_refused(kind, data):
    with pytest.raises(ValueError, match="must be an object"):
        kind.from_dict(data)


def test_it_says_what_preprocessing_lacks():
    with pytest.raises(ValueError, match="lacks: crop, std"):
        Preprocessing.from_dict({"mean": [0.5]})


def test_a_spec_survives_a_round_trip():
    assert ModelSpec.from_dict(SPEC.to_dict()) == SPEC


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "pickle"}, "format"),
        ({"classes": ["one"]}, "two names"),
        ({"classes": ["a", "a", "b"]}, "twice: a"),
        ({"classes": ["a", ""]}, "non-empty"),
        ({"classes": ["a", 3]}, "list of text"),
        ({"classes": "ab"}, "list"),
        ({"architecture": ""}, "architecture"),
        ({"preprocessing": 3}, "preprocessing"),
        ({"architecture": None}, "architecture must be text"),
        ({"architecture": "a" * 101}, "architecture must be at most 100 characters"),
        ({"architecture": "a\0"}, "architecture"),
        ({"architecture": "\ud800"}, "architecture"),
        ({"classes": ["a", "b\0"]}, "classes: the label .* holds a NUL"),
        ({"classes": ["a", "\udcff"]}, "classes: the label .* surrogate"),
        ({"classes": ["a", "b" * 201]}, "classes: the label .* has 201 characters"),
        (
            {"classes": [str(n) for n in range(100_001)]},
            "classes lists 100,001 names, more than 100,000",
        ),
        ({"classes": ["a"] * 10**6}, "more than 100,000"),
        ({"classes": [*map(str, range(99_999)), "7"]}, "twice: 7"),
    ],
)
def test_it_refuses_a_bad_spec_by_name(change, named):
    with pytest.raises(ValueError, match=named) as caught:
        ModelSpec.from_dict(SPEC.to_dict() | change)
    assert len(str(caught.value).encode()) < 700


def test_the_longest_spec_is_taken():
    classes = [f"{n:0200}" for n in range(100_000)]
    spec = ModelSpec.from_dict(
        SPEC.to_dict() | {"classes": classes, "architecture": "a" * 100}
    )
    assert len(spec.classes) == 100_000


def test_a_spec_that_lacks_fields_is_refused():
    with pytest.raises(ValueError, match="lacks: format, preprocessing"):
        ModelSpec.from_dict({"classes": ["a", "b"]})


def test_settings_stored_before_there_were_more_still_load():
    stored = {
        "batch_size": 32,
        "near_miss_below": 0.6,
        "top_k": 5,
        "precision": "bfloat16",
        "device": "auto",
        "shard_size": 2000,
    }
    settings = ScanSettings.from_dict(stored)
    assert settings.batch_size == 32
    assert (settings.decode, settings.workers, settings.compile) == ("auto", 0, False)


def test_settings_survive_a_round_trip():
    settings = ScanSettings(batch_size=7, near_miss_below=0.3, precision="float32")
    assert ScanSettings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": -1},
        {"batch_size": 4097},
        {"batch_size": "32"},
        {"decode": "nvjpeg"},
        {"workers": -1},
        {"workers": 257},
        {"compile": 1},
        {"near_miss_below": 1.5},
        {"near_miss_below": math.nan},
        {"top_k": 0},
        {"precision": "int8"},
        {"device": "tpu"},
        {"shard_size": 0},
        {"batch": 3},
        {"batch_size": True},
        {"batch_size": 10**5000},
        {"batch_size": [32]},
        {"batch_size": math.nan},
        {"near_miss_below": []},
        {"near_miss_below": [0.5, 1]},
        {"near_miss_below": [0.5]},
        {"near_miss_below": 10**400},
        {"near_miss_below": 10**5000},
        {"near_miss_below": math.inf},
        {"near_miss_below": True},
        {"near_miss_below": None},
        {"near_miss_below": "0.5"},
        {"near_miss_below": {}},
        {"near_miss_below": [0.5] * 10**6},
        {"top_k": 10**400},
        {"top_k": None},
        {"shard_size": 2.0},
        {"precision": []},
        {"precision": None},
        {"device": {"cpu": 1}},
        {"device": "\ud800\0" * 10**6},
    ],
)
def test_it_refuses_bad_settings_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))) as caught:
        ScanSettings.from_dict(change)
    assert len(str(caught.value).encode()) < 700


@pytest.mark.parametrize(("digest", "kept"), [(None, ""), ("", ""), ("ab", "ab")])
def test_an_unreadable_outcome_keeps_the_digest_that_is_known(digest, kept):
    result = Outcome.unreadable(SampleRef(4, "a.png", "/a.png", 1, digest), "empty")
    assert result.digest == kept


def test_an_outcome_is_an_error_when_the_classes_differ():
    assert outcome(predicted=1).is_error
    assert not outcome(predicted=0).is_error


def test_a_near_miss_is_right_with_a_low_p_true():
    assert outcome(p_true=0.59).is_near_miss(0.6)
    assert not outcome(p_true=0.6).is_near_miss(0.6)
    assert not outcome(predicted=1, p_true=0.2).is_near_miss(0.6)


def test_an_unreadable_sample_is_neither_right_nor_wrong():
    result = Outcome.unreadable(SampleRef(4, "a.png", "/a.png", 1, "abc"), "empty")
    assert result.is_unreadable
    assert not result.is_error
    assert not result.is_near_miss(1.0)
    assert (result.id, result.true, result.digest, result.error) == (
        4,
        1,
        "abc",
        "empty",
    )
    assert math.isnan(result.p_true)
