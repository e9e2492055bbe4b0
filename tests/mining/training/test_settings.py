from __future__ import annotations

import pytest

from mining.training.settings import FileState, TrainSettings, write_whole


def test_settings_come_back_from_their_dict():
    settings = TrainSettings(epochs=3, loss="focal", start="scratch", rest=False)
    assert TrainSettings.from_dict(settings.to_dict()) == settings
    assert TrainSettings.from_dict({}) == TrainSettings()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0), ("epochs", 1001), ("batch_size", 0), ("lr", 0), ("lr", "0.1"),
        ("weight_decay", -0.1), ("patience", -1), ("loss", "hinge"), ("start", "parent"),
        ("rest", 1), ("seed", -1), ("device", "tpu"), ("precision", "float16"), ("workers", 257),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        TrainSettings.from_dict({field: value})


def test_an_unknown_setting_is_named():
    with pytest.raises(ValueError, match="unknown fields: epoch"):
        TrainSettings.from_dict({"epoch": 3})


def test_a_state_is_replaced_whole(tmp_path):
    state = FileState(tmp_path / "s")
    assert state.load() is None
    state.save(b"one")
    state.save(b"two")
    assert state.load() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    state.forget()
    state.forget()
    assert state.load() is None


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(place, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
