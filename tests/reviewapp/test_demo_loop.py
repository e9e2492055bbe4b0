"""The demo of the whole loop: its world, its reviewer, and that it ends at a report."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.core.management import call_command

from reviewapp.demo import fashion, loop
from reviewapp.demo.loop_reviewer import KnowingReviewer
from reviewapp.demo.loop_world import MISTAKEN_FOR, Sizes, draw_world, write_world
from reviewapp.management.commands import demo_loop
from reviewapp.models import Report, Review, TrainingRun
from tests import factories

SIZES = Sizes(train=60, pool=50, test=30, wrong=0.2)


@pytest.fixture(autouse=True)
def same_threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of Fashion-MNIST: 200 images to train on and 40 to test, no two alike."""
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 200), ("t10k", 40)):
        numbers = (np.arange(n) % 10).astype(np.uint8)
        pixels = rng.integers(0, 60, (n, 28, 28)) + 20 * numbers[:, None, None]
        for kind, header, data in (
            ("images-idx3", 16, pixels.astype(np.uint8)),
            ("labels-idx1", 8, numbers),
        ):
            with gzip.open(tmp_path / f"{prefix}-{kind}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + data.tobytes())
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path)


@pytest.mark.parametrize("noise", ["pair", "uniform"])
def test_only_train_labels_are_wrong_and_as_many_as_asked_for(clothing, noise):
    world = draw_world(seed=3, noise=noise, sizes=SIZES)
    wrong = {key for key in world.given if world.given[key] != world.true[key]}
    assert len(wrong) == 12
    assert all(key.startswith("train/") for key in wrong)
    counts = Counter(key.partition("/")[0] for key in world.images)
    assert counts == {"train": 60, "val": 50, "test": 30}
    if noise == "pair":
        assert {world.given[k] == MISTAKEN_FOR[world.true[k]] for k in wrong} == {True}


def test_a_seed_decides_all_draws(clothing):
    first, same, other = (
        draw_world(seed=seed, noise="uniform", sizes=SIZES) for seed in (1, 1, 2)
    )
    assert (first.given, first.true) == (same.given, same.true)
    assert first.given != other.given


def test_the_pool_comes_later(clothing, tmp_path):
    world = draw_world(seed=0, noise="pair", sizes=SIZES)

    def listed() -> list[str]:
        rows = csv.DictReader((tmp_path / "w/manifest.csv").read_text().splitlines())
        return [f"{row['split']} {row['label']}" for row in rows]

    write_world(world, tmp_path / "w", splits=("train", "test"))
    assert not (tmp_path / "w/val").exists()
    before = listed()
    assert len(before) == 90
    write_world(world, tmp_path / "w", splits=("train", "test", "val"))
    assert listed()[:90] == before
    assert len(list((tmp_path / "w/val").iterdir())) == 50


def test_a_reviewer_who_knows_mends_wrong_labels_alone(world, rita):
    dog = world.labels[1].name
    true = {f.sample.key: f.true_label.name for f in world.findings}
    true[world.findings[0].sample.key] = dog
    reviewer = KnowingReviewer(world.dataset, rita, true)
    assert reviewer.review({}, limit=2) + reviewer.review({}) == len(world.findings)
    verdicts = dict(Review.objects.values_list("finding", "verdict"))
    assert verdicts.pop(world.findings[0].pk) == "relabel"
    assert set(verdicts.values()) == {"confirm"}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_demo_ends_at_a_report_and_shows_it_again(
    clothing, data_root, model_root, tmp_path, settings, monkeypatch
):
    settings.VAR = tmp_path
    for name, number in (("TRAIN", 60), ("POOL", 50), ("TEST", 30), ("EPOCHS", 2)):
        monkeypatch.setattr(demo_loop, name, number)
    monkeypatch.setattr(loop, "FOLDS", 2)
    monkeypatch.setattr(loop, "FOLD_TRAINING", {**loop.FOLD_TRAINING, "epochs": 1})
    factories.DatasetFactory(name="Closed loop")  # of somebody else
    out = StringIO()
    call_command("demo_loop", "--exit", stdout=out)
    run = TrainingRun.objects.get(recipe__isnull=False)
    report = Report.objects.get(run=run)
    assert report.figures["claim"]["text"] in out.getvalue()
    assert f"/datasets/closed-loop-2/training/{run.pk}/report/" in out.getvalue()
    assert run.controls.get().state == "done"

    again = StringIO()
    call_command("demo_loop", "--exit", stdout=again)
    assert out.getvalue().endswith(again.getvalue())
    assert TrainingRun.objects.filter(recipe__isnull=False).get() == run
