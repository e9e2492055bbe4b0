"""The code of docs/retraining.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from torchvision.transforms import v2

from mining.recipe import Hint, recipe_schema
from mining.recipe_making import HINTS
from tests.mining.training.farm import make_farm
from tests.mining.training.recipes import recipe, sample, write_images

PAGE = Path(__file__).parents[3] / "docs/retraining.md"
TEXT = PAGE.read_text(encoding="utf-8")
LINES, IMPORTS = re.findall(r"```python\n(.+?)```", TEXT, re.DOTALL)


def test_the_three_lines_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos")
    fixes = recipe(
        sample("cat/1.png", "dog", role="corrected"),
        sample("cat/2.png", weight=0.75, repeat=2, hints=get_args(Hint)),
    )
    Path("recipe.json").write_text(fixes.to_json())
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    space = {"transform": transform}
    exec(IMPORTS + LINES, space)
    assert len(LINES.splitlines()) == 3
    space["loader"].sampler.set_epoch(1)
    [(images, labels)] = space["loader"]
    assert images.shape == (7, 3, 12, 16)
    assert sorted(labels.tolist())[-4:] == [1, 1, 1, 1]


def test_every_field_and_hint_is_documented_and_under_120_lines():
    schema = recipe_schema()
    sample_fields = schema["properties"]["samples"]["items"]["properties"]
    named = set(re.findall(r"`([a-z_]+)`", TEXT))
    assert set(schema["properties"]) | set(sample_fields) <= named
    assert set(get_args(Hint)) <= named
    assert len(TEXT.splitlines()) < 120


@pytest.mark.parametrize("cause", HINTS)
def test_every_cause_is_in_the_table_with_its_hints(cause):
    [line] = re.findall(rf"^\| {cause.replace('_', ' ')} \|(.+?)\|", TEXT, re.M)
    assert tuple(re.findall(r"`(\w+)`", line)) == HINTS[cause]


def test_the_trainers_page_trains(tmp_path, monkeypatch):
    page = PAGE.with_name("trainer.md").read_text(encoding="utf-8")
    call, imports = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    farm = make_farm(tmp_path)
    fixes = recipe(farm.line(farm.samples("train")[0].key, hints=("erase",)))
    (tmp_path / "recipe.json").write_text(fixes.to_json())
    for name in ("m.safetensors", "m.safetensors.json"):
        (tmp_path / name).rename(tmp_path / name.replace("m.", "model.", 1))
    monkeypatch.chdir(tmp_path)
    space = {"samples": farm.samples("train"), "held_out": farm.samples("val")}
    exec(imports + call.replace("epochs=30", "epochs=1"), space)
    assert space["trained"].samples == 21
    assert (tmp_path / "new.safetensors").exists()
    assert len(page.splitlines()) < 120
