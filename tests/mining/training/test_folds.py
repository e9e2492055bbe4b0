from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mining.exceptions import MiningError
from mining.specs import read_spec
from mining.training import folds
from mining.training.folds import FoldSample, fold_of, out_of_fold
from mining.training.settings import FileState
from tests.mining.pictures import encode
from tests.mining.training.farm import QUICK, make_farm

SETTINGS = replace(QUICK, epochs=6, lr=1e-2, patience=0, start="scratch")


class Folder:
    """A store of files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def training(self, fold: int) -> FileState:
        return FileState(self.root / f"{fold}.state")

    def judged(self, fold: int) -> FileState:
        return FileState(self.root / f"{fold}.probs")


def make(root: Path):
    farm = make_farm(root)
    farm.held = [
        FoldSample(
            item.key,
            item.url,
            item.label,
            hashlib.sha256(Path(item.url).read_bytes()).hexdigest(),
        )
        for item in farm.samples("train")
    ]
    return farm


def scan(farm, **given):
    chosen = {
        "parent": farm.model,
        "spec": read_spec(farm.model),
        "samples": farm.held,
        "val": farm.samples("val"),
        "folds": 3,
        "settings": SETTINGS,
        "store": Folder(farm.root),
    }
    return out_of_fold(**chosen | given)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A farm, what its fold models said and what each was trained on."""
    farm = make(tmp_path_factory.mktemp("folds"))
    steps = []
    farm.found = scan(farm, on_step=lambda *step: steps.append(step))
    farm.steps = steps
    return farm


@pytest.fixture
def farm(tmp_path):
    return make(tmp_path)


def test_the_fold_models_judge_what_they_have_not_seen(judged):
    found = judged.found
    assert found.pred_probs.shape == (21, 3)
    np.testing.assert_allclose(found.pred_probs.sum(1), 1, atol=1e-5)
    names = read_spec(judged.model).classes
    said = [names[n] for n in found.pred_probs.argmax(1)]
    right = sum(a == item.label for a, item in zip(said, judged.held, strict=True))
    assert right >= 19  # by chance it would be 7
    assert found.folds.tolist() == [fold_of(item.digest, 3) for item in judged.held]
    assert {fold for fold, *_ in judged.steps} == {1, 2, 3}


def test_no_model_is_trained_on_its_own_fold(farm, monkeypatch):
    trained = []

    def stop(*, train, **_):
        trained.append({item.key for item in train})
        raise InterruptedError

    monkeypatch.setattr("mining.training.trainer.retrain", stop)
    with pytest.raises(InterruptedError):
        scan(farm)
    held = {item.key for item in farm.held if fold_of(item.digest, 3) == 0}
    assert trained == [{item.key for item in farm.held} - held]
    assert held


def test_a_killed_run_keeps_its_folds_and_ends_in_the_same_numbers(judged, farm):
    class Killed(BaseException):
        pass

    def on_step(fold, epoch, *_):
        if (fold, epoch) == (2, 3):
            raise Killed

    with pytest.raises(Killed):
        scan(farm, on_step=on_step)
    steps = []
    found = scan(farm, on_step=lambda *step: steps.append(step))
    assert {step[0] for step in steps} == {2, 3}
    assert steps[0][:2] == (2, 3)
    np.testing.assert_array_equal(found.pred_probs, judged.found.pred_probs)
    assert not [path for path in farm.root.glob("*.state") if path.stat().st_size]


@pytest.mark.parametrize("cut", [10, -4])
def test_kept_probabilities_of_something_else_are_made_again(judged, farm, cut):
    path = judged.root / "0.probs"
    Folder(farm.root).judged(0).save(path.read_bytes()[:cut])
    steps = []
    found = scan(farm, on_step=lambda *step: steps.append(step))
    assert {step[0] for step in steps} == {1, 2, 3}
    np.testing.assert_array_equal(found.pred_probs, judged.found.pred_probs)


@pytest.mark.parametrize("what", ["image", "label"])
def test_folds_that_were_begun_with_something_else_are_begun_anew(farm, what):
    settings = replace(SETTINGS, epochs=2)

    def on_step(fold, epoch, *_):
        if (fold, epoch) == (2, 2):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        scan(farm, settings=settings, on_step=on_step)
    assert (farm.root / "1.state").stat().st_size
    place = [fold_of(item.digest, 3) for item in farm.held].index(2)
    old = farm.held[place]
    farm.held[place] = replace(old, label="owl" if old.label != "owl" else "cat")
    if what == "image":
        farm.held[place] = another_image(old)
    steps = []
    found = scan(farm, settings=settings, on_step=lambda *step: steps.append(step[:2]))
    assert steps[0] == (1, 1)
    assert found.notes == ()
    (farm.root / "new").mkdir()
    fresh = scan(farm, settings=settings, store=Folder(farm.root / "new"))
    np.testing.assert_array_equal(found.pred_probs, fresh.pred_probs)


def another_image(item: FoldSample) -> FoldSample:
    """Write another image there that is in the same fold."""
    path, changed = Path(item.url), item
    with Image.open(path) as image:
        image.load()
    while changed == item or fold_of(changed.digest, 3) != fold_of(item.digest, 3):
        image.putpixel((0, 0), (image.getpixel((0, 0)) + 1) % 256)
        path.write_bytes(encode(image))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        changed = replace(item, digest=digest)
    return changed


def test_an_unreadable_image_has_no_probabilities_and_is_told_of(farm):
    Path(farm.held[4].url).write_bytes(b"no image")
    found = scan(farm, settings=replace(SETTINGS, epochs=1))
    unread = np.isnan(found.pred_probs).any(1)
    assert np.flatnonzero(unread).tolist() == [4]
    # The two models that would have trained on it say so.
    assert len(found.notes) == 2
    assert all(farm.held[4].key in note for note in found.notes)


def test_copies_of_an_image_are_in_one_fold_and_folds_are_even():
    digests = [hashlib.sha256(bytes([n, n // 251])).hexdigest() for n in range(256)]
    counts = Counter(fold_of(digest, 4) for digest in digests)
    assert sorted(counts) == [0, 1, 2, 3]
    assert min(counts.values()) > 40
    assert len({fold_of(digests[0], 4) for _ in range(3)}) == 1


def test_what_cannot_be_honest_is_refused(farm):
    with pytest.raises(ValueError, match="scratch"):
        scan(farm, settings=replace(SETTINGS, start="version"))
    with pytest.raises(ValueError, match="folds must be from 2 to 20, not 1"):
        scan(farm, folds=1)
    with pytest.raises(MiningError, match="too few for 3 folds"):
        scan(farm, samples=farm.held[:2])


def test_asking_for_a_fold_needs_no_torch():
    assert folds.fold_of("", 2) in (0, 1)  # never read: as any other
