from __future__ import annotations

import math

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
    ],
)
def test_it_refuses_bad_preprocessing_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        Preprocessing.from_dict(COLOUR.to_dict() | change)


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
    ],
)
def test_it_refuses_a_bad_spec_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        ModelSpec.from_dict(SPEC.to_dict() | change)


def test_a_spec_that_lacks_fields_is_refused():
    with pytest.raises(ValueError, match="lacks: format, preprocessing"):
        ModelSpec.from_dict({"classes": ["a", "b"]})


def test_settings_survive_a_round_trip():
    settings = ScanSettings(batch_size=7, near_miss_below=0.3, precision="float32")
    assert ScanSettings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"batch_size": "32"},
        {"near_miss_below": 1.5},
        {"near_miss_below": math.nan},
        {"top_k": 0},
        {"precision": "int8"},
        {"device": "tpu"},
        {"shard_size": 0},
        {"batch": 3},
    ],
)
def test_it_refuses_bad_settings_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ScanSettings.from_dict(change)


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
