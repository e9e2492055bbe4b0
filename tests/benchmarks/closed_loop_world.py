"""One seed of the closed loop, through the product, as JSON.

python -m tests.benchmarks.closed_loop_world SEED FILE [--small]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from tests.benchmarks.inside import run_inside

if TYPE_CHECKING:
    from reviewapp.demo.loop import Loop, Taught
    from reviewapp.models import Recipe, Scan, User

REVIEWS = 400


def run(seed: int, *, is_small: bool) -> dict[str, Any]:
    """Take one seed through the loop and return what was measured.

    Args:
        seed: Of every draw and every training.
        is_small: A tenth of everything, to see that it works; it measures nothing.
    """
    from django.conf import settings

    from reviewapp.demo.loop import Loop, models_folder
    from reviewapp.demo.loop_world import Sizes, draw_world
    from reviewapp.models import User

    clock = time.perf_counter()
    admin = User.objects.create_superuser("admin", password=None)
    measured: dict[str, Any] = {"seed": seed}
    sizes = Sizes(200, 400, 245) if is_small else Sizes()
    for noise in ("pair", "uniform"):
        name = f"{noise}-{seed}"
        loop = Loop.begin(
            world=draw_world(seed=seed, noise=noise, sizes=sizes),
            name=name,
            folder=Path(settings.DATA_ROOTS[0]) / name,
            by=admin,
            seed=seed,
            epochs=6 if is_small else None,
            tell=lambda text, at=f"{seed} {noise}": told(f"{at}: {text}"),
        )
        first = loop.train_first(models_folder())
        scan, orders = doubted(loop, first)
        measured[noise] = {"start": first.accuracy, "orders": orders}
        if noise == "pair":
            measured["pair"] |= story(loop, first, scan, admin)
        measured["seconds"] = time.perf_counter() - clock
    return measured


def told(text: str) -> None:
    """Say what begins, to whoever watches."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def doubted(loop: Loop, first: Taught) -> tuple[Scan, dict[str, Any]]:
    """Scan out of fold; return the scan and how well each order finds wrong labels."""
    from reviewapp import folding
    from reviewapp.actions.orders import next_ids
    from reviewapp.models import Finding
    from reviewapp.queues import read_queue
    from tests.benchmarks.closed_loop_orders import (
        PRODUCT,
        found,
        orders,
        score_of_queue,
    )

    judged: dict[str, np.ndarray] = {}
    real = folding.out_of_fold

    def watched(**given: Any) -> Any:
        result = real(**given)
        keys = [sample.key for sample in given["samples"]]
        judged.update(zip(keys, result.pred_probs, strict=True))
        return result

    with mock.patch.object(folding, "out_of_fold", watched):
        scan = loop.doubt_labels(first.version)
    keys = sorted(judged)
    classes = {name: n for n, name in enumerate(first.version.classes)}
    given = np.array([classes[loop.world.given[key]] for key in keys])
    wrong = np.array([loop.world.given[k] != loop.world.true[k] for k in keys])
    ids = []
    for lane in ({}, {"lane": "near_miss", "order": "hardest"}):
        queue = read_queue(loop.dataset, queue_of(scan) | lane)
        ids += next_ids(queue, loop.by, len(keys))
    by_id = Finding.objects.select_related("sample").in_bulk(ids)
    scores = {PRODUCT: score_of_queue([by_id[i].sample.key for i in ids], keys)}
    probs = np.stack([judged[key] for key in keys]).astype(np.float64)
    scores |= orders(probs, given, seed=loop.seed)
    return scan, {name: found(score, wrong) for name, score in scores.items()}


def queue_of(scan: Scan) -> dict[str, str]:
    """Return what names the queue of wrong labels that a scan doubts."""
    model = scan.model_version.registered_model_id
    return {"registered_model": str(model), "order": "doubted"}


def story(loop: Loop, first: Taught, doubts: Scan, by: User) -> dict[str, Any]:
    """Restore labels, mine the pool, retrain and prove; return accuracies and counts."""
    from reviewapp.demo.loop import Taught
    from tests.benchmarks.closed_loop_reviewer import Reviewer

    reviewer = Reviewer(loop.dataset, by, loop.world.true, seed=loop.seed)
    loop.tell(f"Reviewing {REVIEWS}")
    reviewer.review(queue_of(doubts), limit=REVIEWS)
    measured = {
        "wrong_before": wrong_share(loop, loop.world.given),
        "wrong_after": wrong_share(loop, labels_now(loop)),
        "restored_random": restored_at_random(loop, first),
    }
    restored = loop.train(first.version, None)
    measured["restored"] = restored.accuracy
    loop.add_pool()
    pool = loop.scan_pool(restored.version)
    measured["pool_errors"] = pool.errors
    mine = {"registered_model": str(restored.version.registered_model_id)}
    mine["split"] = "val"
    measured["mined"] = [
        reviewer.review(mine | lane) for lane in ({}, {"lane": "near_miss"})
    ]
    recipe = recipe_of(loop, reviewer)
    measured["samples"] = recipe.summary["samples"]
    loop.tell("Training with what was mined, and its control")
    mined = loop.train(restored.version, recipe, with_control=True)
    control = Taught.by_run(mined.run.controls.get().pk)
    report = loop.prove(mined.run)
    return measured | {
        "after": mined.accuracy,
        "after_random": control.accuracy,
        "claim": report.figures["claim"],
    }


def labels_now(loop: Loop) -> dict[str, str]:
    """Return key -> label as the data set has it now."""
    from reviewapp.models import Sample

    samples = Sample.objects.filter(dataset=loop.dataset)
    return dict(samples.values_list("key", "label__name"))


def wrong_share(loop: Loop, labels: dict[str, str]) -> float:
    """Return the share of the train labels that are wrong, 0-1."""
    keys = loop.world.keys_of("train")
    return float(np.mean([labels[key] != loop.world.true[key] for key in keys]))


def restored_at_random(loop: Loop, first: Taught) -> float:
    """Return the accuracy after as many reviews of samples in random order.

    Outside the product, which has no such thing: its training alone, then its predictor.
    """
    from mining.checkpoints import load_model
    from mining.scan import scan_samples
    from mining.training.settings import FileState, TrainSample, TrainSettings
    from mining.training.trainer import retrain
    from mining.types import SampleRef, ScanSettings
    from reviewapp.storage import scratch_folder
    from tests.benchmarks.closed_loop_reviewer import MISTAKES

    loop.tell("Training with as many reviews in random order")
    spec = first.version.spec()
    root, world = Path(loop.dataset.root), loop.world
    rng = np.random.default_rng(7000 + loop.seed)
    keys = world.keys_of("train")
    labels = dict(world.given)
    for n in rng.permutation(len(keys))[:REVIEWS]:
        key = keys[n]
        if rng.random() >= MISTAKES:
            labels[key] = world.true[key]
        elif labels[key] == world.true[key]:  # a right one made wrong
            others = [name for name in spec.classes if name != labels[key]]
            labels[key] = others[int(rng.integers(len(others)))]
    with scratch_folder() as folder:
        out = folder / "random.safetensors"
        retrain(
            parent=first.version.checkpoint,
            spec=spec,
            train=[TrainSample(k, str(root / k), labels[k]) for k in keys],
            val=[],
            recipe=None,
            settings=TrainSettings.from_dict(first.run.settings),
            out=out,
            state=FileState(folder / "state"),
        )
        settings = ScanSettings(device="cpu")
        samples = [
            SampleRef(n, key, str(root / key), spec.classes.index(world.true[key]))
            for n, key in enumerate(world.keys_of("test"))
        ]
        batches = scan_samples(
            load_model(str(out), spec, device="cpu"),
            samples,
            settings=settings,
            preprocessing=spec.preprocessing,
        )
        return float(np.mean([not one.is_error for batch in batches for one in batch]))


def recipe_of(loop: Loop, reviewer: Any) -> Recipe:
    """Freeze what was reviewed of the pool and return its recipe."""
    from reviewapp.models import Recipe

    made = reviewer.post(
        "fix-sets/",
        {
            "name": "pool",
            "filter": {"split": ["val"]},
            # Every one was looked at, and the pool's labels are known to be right.
            "include": ["label_suspect", "outlier"],
        },
        201,
    )
    recipe = Recipe.objects.lean().get(fix_set=made["id"])
    return loop.make_recipe(recipe)


def main() -> int:
    """Run one seed in a scratch folder and write what was measured to a file."""
    status = run_inside("tests.benchmarks.closed_loop_world")
    if status is not None:
        return status
    seed, file, *more = sys.argv[1:]
    measured = run(int(seed), is_small="--small" in more)
    Path(file).write_text(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
