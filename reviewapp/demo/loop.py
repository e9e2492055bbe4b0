"""The whole loop in this process: train, look, review, restore, mine, retrain, prove.

Loads torch: import it where it is needed only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings as conf

from reviewapp.actions.aids import make_aids
from reviewapp.actions.datasets import (
    register_again,
    register_dataset,
    run_registration,
)
from reviewapp.actions.finishing import finish_scan
from reviewapp.actions.folds import start_folds
from reviewapp.actions.recipes import run_recipe
from reviewapp.actions.registry import register_version
from reviewapp.actions.reports import report_new_runs, run_report
from reviewapp.actions.runs import claim_run
from reviewapp.actions.scans import start_scan
from reviewapp.actions.shards import claim_shard
from reviewapp.actions.training import start_training
from reviewapp.actions.verifying import start_due_scans
from reviewapp.demo.loop_world import MANIFEST, World, write_blank_model, write_world
from reviewapp.exceptions import HardmineError
from reviewapp.folding import scan_out_of_fold
from reviewapp.models import (
    Dataset,
    FoldRun,
    ModelVersion,
    Recipe,
    Registration,
    Report,
    Scan,
    TrainingRun,
    User,
)
from reviewapp.retraining import train_run
from reviewapp.scanning import scan_shard

MODEL: Final = "Small CNN"
FOLDS: Final = 5
# From new weights each time: weights that have learnt wrong labels by heart keep them.
TRAINING: Final[Mapping[str, Any]] = {
    "start": "scratch",
    "epochs": 30,
    "lr": 4e-3,
    "patience": 0,
    "device": "cpu",
    "workers": 1,
}
# Fold models need less: what they learn by heart is of no use for judging other images.
FOLD_TRAINING: Final[Mapping[str, Any]] = {**TRAINING, "epochs": 10}


class LoopError(HardmineError):
    """A step of the loop did not come to its end; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What a training came to.

    Attributes:
        run: The training run, done.
        version: The version it made.
        accuracy: Of that version on the test split, 0-1.
    """

    run: TrainingRun
    version: ModelVersion
    accuracy: float

    @classmethod
    def by_run(cls, pk: int) -> Taught:
        """Return what a run came to whose verifying scan is done."""
        run = TrainingRun.objects.with_names().get(pk=pk)
        accuracy = run.verifying_scan.accuracy if run.verifying_scan else None
        if run.version is None or accuracy is None:
            raise LoopError(f"{run} came to no version that was scanned. {run.message}")
        return cls(run, run.version, accuracy)


@dataclass(frozen=True, slots=True)
class Loop:
    """Takes one data set through the loop; every step is the product's own.

    Attributes:
        world: Images, labels and the truth.
        dataset: Registered, at first without the pool.
        by: An administrator, who asks for everything.
        seed: Of every training.
        epochs: Of every training but the folds'; None: the usual number.
        tell: Called with what begins, in words.
    """

    world: World
    dataset: Dataset
    by: User
    seed: int
    epochs: int | None = None
    tell: Callable[[str], None] = lambda text: None

    @classmethod
    def begin(
        cls, *, world: World, name: str, folder: Path, by: User, seed: int, **more: Any
    ) -> Loop:
        """Write the images of train and test and register them.

        Args:
            world: Images and labels.
            name: Of the data set.
            folder: For the images, under a data root.
            by: Who asks; a member of staff.
            seed: Of every training.
            more: `epochs` and `tell`.
        """
        write_world(world, folder, splits=("train", "test"))
        registration = register_dataset(
            name=name, root=str(folder), manifest=MANIFEST, by=by
        )
        _register(registration)
        return cls(world, registration.dataset, by, seed, **more)

    def train_first(self, models: Path) -> Taught:
        """Train the first version on the train split as it is, wrong labels and all."""
        self.tell("Training the first model on labels that are partly wrong")
        path = models / f"{self.dataset.slug}-blank.safetensors"
        write_blank_model(path, self.dataset.class_names(), seed=self.seed)
        blank = register_version(
            dataset=self.dataset,
            name=MODEL,
            checkpoint=str(path),
            note="Has learned nothing yet",
            by=self.by,
        )
        return self.train(blank, None)

    def train(
        self,
        parent: ModelVersion,
        recipe: Recipe | None,
        *,
        with_control: bool = False,
    ) -> Taught:
        """Train a version and its control, and scan the test split with what came of it."""
        chosen = {**TRAINING, "seed": self.seed}
        run = start_training(
            dataset=self.dataset,
            parent=parent,
            recipe=recipe,
            settings=chosen | ({"epochs": self.epochs} if self.epochs else {}),
            with_control=with_control,
            by=self.by,
        )
        for one in (run, *run.controls.all()):
            claimed = claim_run(kind=TrainingRun, run_id=one.pk, worker=_worker())
            if claimed is None or not train_run(claimed):
                raise LoopError(f"{one} was taken by another worker.")
        start_due_scans()
        for scan in Scan.objects.for_dataset(self.dataset).active().with_names():
            self._run(scan)
        return Taught.by_run(run.pk)

    def doubt_labels(self, version: ModelVersion) -> Scan:
        """Have models judge the train split that have not seen what they judge."""
        self.tell(f"Judging the train split with {FOLDS} models that have not seen it")
        run = start_folds(
            dataset=self.dataset,
            parent=version,
            folds=FOLDS,
            settings={**FOLD_TRAINING, "seed": self.seed},
            by=self.by,
        )
        claimed = claim_run(kind=FoldRun, run_id=run.pk, worker=_worker())
        if claimed is None or not scan_out_of_fold(claimed):
            raise LoopError(f"{run} was taken by another worker.")
        run.refresh_from_db()
        if run.scan is None:
            raise LoopError(f"{run}: {run.message}")
        return self._prepared(Scan.objects.with_names().get(pk=run.scan.pk))

    def add_pool(self) -> None:
        """Bring the pool: new images whose labels are right."""
        write_world(
            self.world, Path(self.dataset.root), splits=("train", "test", "val")
        )
        _register(register_again(dataset=self.dataset, by=self.by))

    def scan_pool(self, version: ModelVersion) -> Scan:
        """Scan the pool."""
        self.tell("Looking for the model's errors among new images")
        scan = start_scan(
            dataset=self.dataset,
            version=version,
            split="val",
            trigger=Scan.Trigger.COMMAND,
            by=self.by,
        )
        return self._prepared(self._run(scan))

    def make_recipe(self, recipe: Recipe) -> Recipe:
        """Make a recipe that is queued."""
        run_recipe(recipe=recipe)
        recipe.refresh_from_db()
        if not recipe.is_done:
            raise LoopError(f"{recipe}: {recipe.message}")
        return recipe

    def prove(self, run: TrainingRun) -> Report:
        """Make the report of a run whose scans are done."""
        self.tell("Writing the report")
        report_new_runs()
        report = Report.objects.select_related("run__dataset").get(run=run)
        run_report(report=report)
        report.refresh_from_db()
        if report.state != Report.State.DONE:
            raise LoopError(f"{report}: {report.message}")
        return report

    def _run(self, scan: Scan) -> Scan:
        for shard_id in scan.shards.unfinished().values_list("pk", flat=True):
            shard = claim_shard(shard_id=shard_id, worker=_worker())
            if shard is None or not scan_shard(shard):
                raise LoopError(f"{scan} was taken by another worker.")
        finish_scan(scan=Scan.objects.with_names().get(pk=scan.pk))
        done = Scan.objects.with_names().get(pk=scan.pk)
        if not done.is_done:
            raise LoopError(f"{scan} is {done.state}: {done.message}")
        return done

    def _prepared(self, scan: Scan) -> Scan:
        make_aids(scan=scan)
        return scan


def models_folder() -> Path:
    """Return the first model root, where retrained versions go too."""
    return Path(conf.MODEL_ROOTS[0])


def _worker() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _register(registration: Registration) -> None:
    run_registration(registration=registration)
    if registration.state != Registration.State.DONE:
        raise LoopError(f"{registration.dataset}: {registration.message}")
