from __future__ import annotations

import pytest

from mining.cli import main
from mining.specs import read_spec
from mining.training import trainer
from tests.mining.pictures import SPEC
from tests.mining.training.farm import make_farm, recipe

QUICK = ("--epochs", "2", "--batch-size", "8", "--device", "cpu")


@pytest.fixture
def farm(tmp_path):
    farm = make_farm(tmp_path / "data")
    keys = [item.key for item in farm.samples("train")]
    val = farm.samples("val")[0].key
    lines = farm.line(keys[0], "corrected", "owl"), farm.line(val), farm.line(keys[1])
    (tmp_path / "recipe.json").write_text(recipe(*lines).to_json())
    farm.model_file = tmp_path / "m.safetensors"
    for name in ("m.safetensors", "m.safetensors.json"):
        (farm.root / name).rename(tmp_path / name)
    return farm


def train(farm, *options: str, asked: str = "recipe.json") -> int:
    folder = farm.root.parent
    named = [str(folder / asked)] if asked else []
    place = ["--out", str(folder / "new.safetensors")]
    return main(
        ["train", str(farm.root), str(farm.model_file), *named, *place, *options]
    )


def test_it_retrains_with_a_recipe(farm, capsys):
    assert train(farm, *QUICK) == 0
    shown = capsys.readouterr().out
    # One of the val split is in the recipe, and so is trained on.
    assert "Trained on 22 images (cpu), validated with 8." in shown
    assert shown.count("val accuracy") == 2
    out = farm.root.parent / "new.safetensors"
    assert f"to {out}." in shown.replace("\n", "")
    assert read_spec(str(out)) == SPEC
    assert sorted(path.name for path in farm.root.parent.glob("new*")) == [
        "new.safetensors",
        "new.safetensors.json",
    ]


def test_only_the_recipes_samples(farm, capsys):
    assert train(farm, *QUICK, "--only-recipe") == 0
    assert "Trained on 3 images" in capsys.readouterr().out


def test_without_a_recipe_it_trains_as_the_data_set_is(farm, capsys):
    assert train(farm, *QUICK, "--loss", "focal", asked="") == 0
    assert "Trained on 21 images (cpu), validated with 9." in capsys.readouterr().out


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ConnectionError("no answer")])
def test_what_was_learnt_is_kept_when_it_is_stopped(farm, capsys, monkeypatch, stop):
    whole = trainer.Loop._end_epoch

    def end_epoch(self):
        whole(self)
        raise stop

    monkeypatch.setattr(trainer.Loop, "_end_epoch", end_epoch)
    assert train(farm, *QUICK) == 2
    assert "is kept in" in capsys.readouterr().err
    monkeypatch.setattr(trainer.Loop, "_end_epoch", whole)
    assert train(farm, *QUICK) == 0
    shown = capsys.readouterr().out
    assert "Epoch 1:" not in shown
    assert "Epoch 2:" in shown


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--epochs", "0"), "epochs must be"),
        (("--manifest", "none.csv"), "cannot be read"),
        (("--lr", "nan"), "lr must be"),
    ],
)
def test_a_refusal_is_one_clear_message_and_status_2(farm, capsys, options, reason):
    assert train(farm, *options) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("mining: ")
    assert reason in shown.err


def test_a_data_set_without_a_train_split_is_refused(farm, capsys):
    (farm.root / "train").rename(farm.root / "test")
    assert train(farm, *QUICK, asked="") == 2
    assert (
        "no train split. The data set has test: 21, val: 9" in capsys.readouterr().err
    )


def test_a_recipe_that_is_none_is_refused(farm, capsys):
    assert train(farm, asked="m.safetensors.json") == 2
    assert "is not a recipe" in capsys.readouterr().err
