"""Training workers die and freeze; the weights are those of an undisturbed run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reviewapp import tasks
from reviewapp.models import Dataset, ModelVersion, Recipe, Scan, TrainingRun
from tests import schooling
from tests.flows.plant import Plant
from tests.flows.saboteur import order
from tests.flows.worker import wait_for

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]

State = TrainingRun.State


@pytest.fixture
def pupil(plant: Plant) -> ModelVersion:
    version = ModelVersion.objects.filter(registered_model__name="net").first()
    return version or schooling.school(
        plant.var / "data", plant.var / "models", plant.staff
    )


def until(plant: Plant, holds: Callable[[], bool]) -> None:
    """Sweep for lost work until something holds."""

    def look() -> bool:
        plant._sweep()
        return holds()

    wait_for(look)


def send(version: ModelVersion, recipe: Recipe) -> TrainingRun:
    run = schooling.start(version, recipe)
    tasks.enqueue_training(run)
    return run


def ended(run: TrainingRun) -> bool:
    run.refresh_from_db()
    return not run.is_active


def test_kill_9_and_a_frozen_worker_end_in_the_weights_of_an_undisturbed_run(
    plant, pupil
):
    dataset = Dataset.objects.get(pk=pupil.registered_model.dataset_id)
    recipe = schooling.add_recipe(dataset, plant.staff)
    plant.man(1)
    reference = send(pupil, recipe)
    with plant.no_sweeps():
        until(plant, lambda: ended(reference))
    assert (reference.state, reference.attempts) == (State.DONE, 1), reference.message

    struck = f"training/{reference.pk + 1:06d}"
    # The first epoch is kept; what was saved after the second nobody heard of.
    order(plant.orders, "kill", "saved", f"{struck}/1-2.")
    order(plant.orders, "freeze", "save", f"{struck}/2-2.")
    run = send(pupil, recipe)
    until(plant, lambda: bool(plant.man(1)) and plant.workers[0].is_frozen)
    (frozen,) = plant.workers
    run.refresh_from_db()
    assert (run.state, run.attempts) == (State.RUNNING, 2)
    assert run.saved == f"{struck}/2-1.safetensors"
    other = plant.hire()
    until(plant, lambda: ended(run))
    assert (run.state, run.attempts) == (State.DONE, 3), run.message
    assert run.version == reference.version  # the digest of the weights says so
    assert run.outcome == reference.outcome

    after = TrainingRun.objects.filter(pk=run.pk).values().get()
    other.kill()
    frozen.thaw()
    plant.check_it_works_on()
    assert plant.man(1) == [frozen]
    until(plant, lambda: not Scan.objects.active().exists())
    assert TrainingRun.objects.filter(pk=run.pk).values().get() == after | {
        "verifying_scan_id": run.version.scans.order_by("-id")[0].pk
    }
    assert not list((plant.var / "media" / struck).glob("*"))
    kept = [
        path.name for path in (plant.var / "models/retrained").rglob("*.safetensors")
    ]
    assert kept == [f"{reference.pk}-1.safetensors"]
