"""Training runs at two sizes and in two schemes, and one that is watched to its end."""

from __future__ import annotations

import math

import pytest
from django.utils import timezone

from mining.training.settings import TrainSettings
from reviewapp import tasks
from reviewapp.models import TrainingRun
from tests import factories, schooling
from tests.browser.holding import problems_at_all_sizes


def figures(epoch: int) -> dict[str, object]:
    return {
        "epoch": epoch,
        "train_loss": 2.1 * math.exp(-0.3 * epoch) + 0.05,
        "val_loss": 1.9 * math.exp(-0.25 * epoch) + 0.1 + 0.02 * (epoch % 3),
        "val_accuracy": 1 - 0.5 * math.exp(-0.2 * epoch),
        "seconds": 64.0 + epoch,
    }


@pytest.fixture
def net(transactional_db, world, labels):
    factories.SampleFactory(label=labels[0], split="train", key="train/1.png")
    return factories.ModelVersionFactory(
        registered_model=world.model,
        format="safetensors",
        architecture="small_cnn",
        checkpoint="memory://models/1.safetensors",
    )


@pytest.fixture
def runs(net, world, alice) -> dict[str, TrainingRun]:
    recipe = schooling.add_recipe_row(world.dataset, alice)
    shared = {"parent": net, "requested_by": alice, "started_at": timezone.now()}
    done = factories.TrainingRunFactory(
        **shared,
        recipe=recipe,
        state="done",
        version=world.scan.model_version,
        verifying_scan=world.scan,
        finished_at=timezone.now(),
        epochs=[figures(epoch) for epoch in range(1, 21)],
        material="cd" * 32,
        outcome={
            "best_epoch": 17,
            "device": "cuda",
            "samples": 50_240,
            "val_samples": 5_000,
            "stopped_early": True,
            "notes": ["2 images were left out: train/cat/1.png: the file is cut off."],
        },
    )
    control = factories.TrainingRunFactory(
        **shared,
        control_of=done,
        state="failed",
        message="/srv/models/retrained/animals/2-1.safetensors cannot be written: the "
        "disk is full. Nothing was half-written.",
    )
    running = factories.TrainingRunFactory(
        **shared,
        recipe=recipe,
        state="running",
        worker="gpu-1:4711",
        heartbeat_at=timezone.now(),
        attempts=1,
        epochs=[figures(epoch) for epoch in range(1, 8)],
        progress={"epoch": 8, "done": 20_480, "all": 50_240, "rate": 812.4},
    )
    world.scan.model_version.lineage = {
        "run": done.pk,
        "parent": net.digest,
        "parent_version": net.number,
        "fix_set": recipe.fix_set.digest,
        "recipe": recipe.digest,
        "dataset": done.material,
        "settings": TrainSettings().to_dict(),
        "control": False,
    }
    world.scan.model_version.save()
    return {"done": done, "control": control, "running": running}


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_pages_of_training_hold_up(runs, alice, world, sign_in) -> None:
    base = "/datasets/animals"
    pages = {
        "training": f"{base}/training/",
        "training-new": f"{base}/training/new/",
        **{f"training-{n}": f"{base}/training/{run.pk}/" for n, run in runs.items()},
        "model-lineage": f"{base}/models/{world.model.pk}/",
    }
    wrong = problems_at_all_sizes(sign_in, alice, pages, axe=True, pictured=pages)
    assert wrong == []


@pytest.mark.browser
def test_a_running_page_draws_its_curve_and_shows_the_end_by_itself(
    runs, alice, sign_in, monkeypatch
) -> None:
    monkeypatch.setattr(tasks, "_send", lambda *args, **options: None)
    run = runs["running"]
    page = sign_in(alice)
    page.goto(f"/datasets/animals/training/{run.pk}/")
    page.wait_for_selector("text=Epoch 8 of 20 at most")
    drawn = "document.querySelector('.curve__line--2').points.length"
    assert page.evaluate(drawn) == 7
    TrainingRun.objects.filter(pk=run.pk).update(
        epochs=[figures(epoch) for epoch in range(1, 9)],
        progress={"epoch": 9, "done": 1, "all": 50_240, "rate": 812.4},
    )
    page.wait_for_selector("text=Epoch 9 of 20 at most")
    assert page.evaluate(drawn) == 8
    TrainingRun.objects.filter(pk=run.pk).update(
        state="failed", message="The disk is full."
    )
    page.click("button:text('Resume')")
    page.wait_for_selector("text=Waiting for a worker")
    assert page.problems == []
