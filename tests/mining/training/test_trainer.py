from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
import safetensors.torch
import torch

from mining.checkpoints import load_model, load_state_dict
from mining.exceptions import BadCheckpoint, MiningError
from mining.specs import read_spec, write_spec
from mining.training import trainer
from mining.training.loop import Loop
from mining.training.pixels import Pixels
from mining.training.settings import TrainSample, TrainSettings
from mining.types import SampleRef
from tests.mining.models import linear_onnx
from tests.mining.pictures import GREY, SPEC
from tests.mining.training.farm import QUICK, make_farm, recipe

LEARNING = TrainSettings(
    epochs=6, batch_size=8, lr=1e-2, patience=6, start="scratch", device="cpu"
)


@pytest.fixture
def farm(tmp_path):
    return make_farm(tmp_path)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A farm whose model was trained from new weights, and what was told of it."""
    farm = make_farm(tmp_path_factory.mktemp("farm"))
    steps, epochs = [], []
    farm.trained = farm.retrain(
        LEARNING, on_step=lambda *step: steps.append(step), on_epoch=epochs.append
    )
    farm.steps, farm.epochs = steps, epochs
    return farm


def stopping(at: int):
    """Return an `on_step` that stops the run at its n-th step."""
    count = 0

    def on_step(*_step):
        nonlocal count
        count += 1
        if count == at:
            raise InterruptedError

    return on_step


def test_it_learns_what_the_images_show(learnt):
    figures = learnt.trained.epochs
    assert [figure.epoch for figure in figures] == [1, 2, 3, 4, 5, 6]
    assert figures[-1].val_accuracy == 1.0
    assert figures[-1].train_loss < figures[0].train_loss / 5
    best = min(figures, key=lambda figure: figure.val_loss)
    assert learnt.trained.best_epoch == best.epoch
    assert (learnt.trained.samples, learnt.trained.val_samples) == (21, 9)


def test_it_tells_every_step_and_epoch(learnt):
    assert learnt.epochs == list(learnt.trained.epochs)
    assert learnt.steps[:4] == [(1, 7, 21), (1, 14, 21), (1, 21, 21), (2, 7, 21)]
    assert len(learnt.steps) == 18


def test_what_it_writes_is_a_checkpoint_like_any_other(learnt):
    spec = read_spec(str(learnt.out))
    assert spec == SPEC
    predictor = load_model(str(learnt.out), spec, device="cpu", precision="float32")
    assert predictor(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).shape == (1, 3)


def test_the_weights_kept_are_those_of_the_best_epoch(learnt, farm):
    best = learnt.trained.best_epoch
    with pytest.raises(InterruptedError):
        farm.retrain(LEARNING, on_step=stopping(3 * best + 1))
    kept = safetensors.torch.load(farm.state.load())
    for name, value in load_state_dict(str(learnt.out), SPEC).items():
        torch.testing.assert_close(value, kept[f"best.{name}"], rtol=0, atol=0)


def test_the_same_input_gives_the_same_bytes(learnt, farm):
    farm.retrain(replace(LEARNING, workers=3))
    assert farm.out.read_bytes() == learnt.out.read_bytes()
    farm.state.forget()
    farm.retrain(replace(LEARNING, seed=1))
    assert farm.out.read_bytes() != learnt.out.read_bytes()


@pytest.mark.parametrize("step", [1, 4, 17, 18])
def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(
    learnt, farm, monkeypatch, step
):
    monkeypatch.setattr("mining.training.loop._SAVE_EVERY_S", 0.0)  # within epochs too
    with pytest.raises(InterruptedError):
        farm.retrain(LEARNING, on_step=stopping(step))
    assert not farm.out.exists()
    steps = []
    trained = farm.retrain(LEARNING, on_step=lambda *step: steps.append(step))
    assert len(steps) == 18 - step
    assert farm.out.read_bytes() == learnt.out.read_bytes()
    for before, after in zip(learnt.trained.epochs, trained.epochs, strict=True):
        assert replace(before, seconds=0) == replace(after, seconds=0)


def test_a_run_that_was_done_is_only_written_again(learnt, farm):
    farm.state.save(learnt.state.load())
    trained = farm.retrain(LEARNING, on_step=stopping(1))
    assert trained.epochs == learnt.trained.epochs
    assert farm.out.read_bytes() == learnt.out.read_bytes()


@pytest.mark.parametrize("size", [0, 7, 300, -1])
def test_a_truncated_state_is_told_of_and_the_run_begins_again(learnt, farm, size):
    farm.state.save(learnt.state.load()[:size])
    trained = farm.retrain(LEARNING)
    assert "damaged" in trained.notes[0]
    assert farm.out.read_bytes() == learnt.out.read_bytes()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"settings": replace(LEARNING, epochs=7)}, "another choice of settings"),
        ({"val": []}, "another val split"),
        ({"recipe": recipe()}, "another recipe"),
    ],
)
def test_it_refuses_the_state_of_another_run(learnt, farm, given, named):
    state = learnt.state.load()
    farm.state.save(state)
    with pytest.raises(MiningError, match=named):
        farm.retrain(**{"settings": LEARNING} | given)
    assert farm.state.load() == state
    assert not farm.out.exists()


def test_it_refuses_a_state_that_was_learnt_from_other_images(learnt, farm):
    farm.state.save(learnt.state.load())
    first, *rest = farm.samples("train")
    with pytest.raises(MiningError, match="another list of samples"):
        farm.retrain(LEARNING, train=[replace(first, digest="0" * 64), *rest])


def test_going_on_from_the_version_stays_near_it(farm):
    farm.retrain(replace(QUICK, epochs=1, lr=1e-6, weight_decay=0))
    before = load_state_dict(farm.model, SPEC)
    after = load_state_dict(str(farm.out), SPEC)
    name = "head.weight"
    assert not torch.equal(before[name], after[name])
    torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-4)


def test_a_state_dict_can_be_retrained(farm):
    weights = load_state_dict(farm.model, SPEC)
    torch.save(weights, farm.root / "m.pt")
    spec = replace(SPEC, format="state_dict")
    write_spec(str(farm.root / "m.pt"), spec)
    farm.retrain(replace(QUICK, epochs=1), parent=str(farm.root / "m.pt"), spec=spec)
    assert read_spec(str(farm.out)) == SPEC


def test_the_recipes_labels_are_learnt(farm):
    cats = [item.key for item in farm.samples("train") if item.label == "cat"]
    asked = recipe(*(farm.line(key, "corrected", "dog") for key in cats))
    trained = farm.retrain(LEARNING, recipe=asked, val=[])
    predictor = load_model(str(farm.out), SPEC, device="cpu", precision="float32")
    assert trained.best_epoch == 6
    assert trained.epochs[0].val_loss is None
    assert {name_of(predictor, item) for item in farm.samples("val")} == {
        ("cat", "dog"),
        ("dog", "dog"),
        ("owl", "owl"),
    }


def name_of(predictor, item: TrainSample) -> tuple[str, str]:
    """Return the label of a sample and what the model says."""
    pixels = Pixels([SampleRef(0, item.key, item.url, 0)], GREY, n_classes=3)
    row = pixels.one(0).permute(2, 0, 1)[None]
    return item.label, SPEC.classes[int(predictor(row).argmax())]


def test_without_the_rest_only_the_recipe_is_trained_on(farm):
    keys = [item.key for item in farm.samples("train")]
    asked = recipe(
        *(farm.line(key, repeat=2) for key in keys[:4]), farm.line(keys[5], "drop")
    )
    steps = []
    trained = farm.retrain(
        replace(QUICK, epochs=1, rest=False),
        recipe=asked,
        on_step=lambda *step: steps.append(step),
    )
    assert trained.samples == 4
    assert steps == [(1, 8, 8)]
    farm.state.forget()
    with pytest.raises(MiningError, match="nothing to train on"):
        farm.retrain(replace(QUICK, rest=False))


@pytest.mark.parametrize("loss", ["hard_examples", "focal"])
def test_hints_weights_and_losses_leave_it_reproducible(farm, monkeypatch, loss):
    keys = [item.key for item in farm.samples("train")]
    hints = ("erase", "rotate", "crop", "mix", "blur", "light")
    asked = recipe(
        *(farm.line(key, hints=hints, weight=1.4, repeat=2) for key in keys[:6]),
        class_weights={"cat": 0.5, "dog": 1.5, "owl": 1.0},
        ignore={keys[7]: "ambiguous"},
    )
    settings = replace(QUICK, epochs=2, loss=loss)
    farm.retrain(settings, recipe=asked)
    whole = farm.out.read_bytes()
    farm.state.forget()
    monkeypatch.setattr(trainer, "Pixels", partial(Pixels, room=500))  # keeps seven
    with pytest.raises(InterruptedError):
        farm.retrain(settings, recipe=asked, on_step=stopping(5))
    farm.retrain(settings, recipe=asked)
    assert farm.out.read_bytes() == whole
    farm.state.forget()
    farm.retrain(replace(settings, loss="cross_entropy"), recipe=asked)
    assert farm.out.read_bytes() != whole


def test_a_file_is_read_once_however_many_epochs_there_are(farm):
    reads = []

    def read(url):
        reads.append(url)
        return (farm.root / url).read_bytes()

    items = farm.samples("train")
    samples = [SampleRef(n, item.key, item.key, 0) for n, item in enumerate(items)]
    pixels = Pixels(samples, GREY, n_classes=3, read=read, room=20 * 64)
    for _ in range(3):
        rows, kept = pixels.rows(range(21))
        assert rows.shape == (21, 8, 8, 1)
        assert kept.tolist() == list(range(21))
    assert len(reads) == 21 + 2  # there is room for all but the last


def test_early_stopping_keeps_the_best_epoch(farm):
    turned = {"cat": "dog", "dog": "owl", "owl": "cat"}
    val = [replace(item, label=turned[item.label]) for item in farm.samples("val")]
    trained = farm.retrain(replace(LEARNING, epochs=9, patience=2), val=val)
    assert trained.stopped_early
    assert len(trained.epochs) == trained.best_epoch + 2
    steps = []
    again = farm.retrain(
        replace(LEARNING, epochs=9, patience=2),
        val=val,
        on_step=lambda *step: steps.append(step),
    )
    assert (steps, again.stopped_early) == ([], True)


def test_without_patience_the_val_split_decides_nothing(farm):
    turned = {"cat": "dog", "dog": "owl", "owl": "cat"}
    val = [replace(item, label=turned[item.label]) for item in farm.samples("val")]
    trained = farm.retrain(replace(LEARNING, patience=0), val=val)
    assert (len(trained.epochs), trained.best_epoch) == (6, 6)
    losses = [figure.val_loss for figure in trained.epochs]
    assert min(losses) < losses[-1]
    with_val = farm.out.read_bytes()
    farm.state.forget()
    farm.retrain(replace(LEARNING, patience=0), val=[])
    assert farm.out.read_bytes() == with_val


def test_unreadable_images_are_left_out_and_told_of(farm):
    keys = [item.key for item in farm.samples("train")]
    asked = recipe(farm.line(keys[3]))
    (farm.root / keys[0]).write_bytes(b"")
    whole = (farm.root / keys[1]).read_bytes()
    (farm.root / keys[1]).write_bytes(whole[:60])
    (farm.root / keys[3]).write_bytes((farm.root / keys[2]).read_bytes())
    val = [*farm.samples("val"), TrainSample("val/gone.png", "/nowhere.png", "cat")]
    settings = replace(QUICK, batch_size=1, epochs=2)
    trained = farm.retrain(settings, recipe=asked, val=val)
    assert (trained.samples, trained.val_samples, trained.unreadable) == (18, 9, 4)
    (note,) = trained.notes
    assert note.startswith(
        "4 images were left out: train/cat/00.png: the file is empty"
    )
    assert "truncated" in note
    assert "changed" in note
    assert "val/gone.png: the file does not exist" in note
    again = farm.retrain(settings, recipe=asked, val=val)  # only from the state
    assert again.notes == trained.notes


def test_it_refuses_when_no_image_can_be_read(farm):
    for item in farm.samples("train"):
        (farm.root / item.key).write_bytes(b"")
    with pytest.raises(MiningError, match=r"None of the images.*the file is empty"):
        farm.retrain()
    assert not farm.out.exists()


def test_an_unreadable_val_split_is_none(farm):
    for item in farm.samples("val"):
        (farm.root / item.key).write_bytes(b"")
    trained = farm.retrain(replace(QUICK, epochs=1))
    assert trained.epochs[0].val_loss is None
    assert (trained.best_epoch, trained.val_samples) == (1, 0)


def test_a_torchvision_network_trains_on_single_images(farm):
    """Its norms see one value each, and its dropout is drawn again when it goes on."""
    spec = replace(
        SPEC,
        architecture="torchvision:mobilenet_v3_small",
        preprocessing=replace(GREY, mode="RGB", mean=(0.5,) * 3, std=(0.5,) * 3),
    )
    # In bfloat16 oneDNN's depthwise gradient over a single pixel, less than half of the
    # kernel, differs from run to run; from 32 pixels on this network has no such layer.
    settings = replace(
        QUICK, epochs=1, batch_size=1, start="scratch", precision="float32"
    )
    given = {"spec": spec, "train": farm.samples("train")[::7], "val": []}
    trained = farm.retrain(settings, **given)
    assert trained.samples == 3
    whole = farm.out.read_bytes()
    farm.state.forget()
    with pytest.raises(InterruptedError):
        farm.retrain(settings, on_step=stopping(2), **given)
    farm.retrain(settings, **given)
    assert farm.out.read_bytes() == whole


def test_a_loss_that_is_no_number_ends_it(farm):
    weights = load_state_dict(farm.model, SPEC)
    weights["head.bias"][0] = float("nan")
    (farm.root / "m.safetensors").write_bytes(safetensors.torch.save(weights))
    with pytest.raises(MiningError, match=r"became nan in epoch 1.*smaller lr"):
        farm.retrain()
    assert not farm.out.exists()


def test_a_val_loss_that_is_no_number_ends_it(farm, monkeypatch):
    monkeypatch.setattr(Loop, "_judged", lambda *_: (float("nan"), 0))
    with pytest.raises(MiningError, match=r"val loss became nan in epoch 1"):
        farm.retrain()
    assert not farm.out.exists()


def test_a_graph_cannot_be_trained(farm):
    linear_onnx(farm.root / "m.onnx")
    parent = str(farm.root / "m.onnx")
    with pytest.raises(BadCheckpoint, match=r"m\.onnx is a graph in the format onnx"):
        farm.retrain(parent=parent, spec=read_spec(parent))


def test_what_does_not_fit_is_refused_before_anything_is_read(farm):
    train, val = farm.samples("train"), farm.samples("val")
    key = train[0].key
    cases = {
        r"no output.* classes of the recipe: wolf": {
            "recipe": recipe(farm.line(key, "corrected", "wolf"))
        },
        r"no output.* classes of the samples: wolf": {
            "train": [replace(train[0], label="wolf"), *train[1:]]
        },
        "1 samples would be trained on and validated": {"val": [*val, train[3]]},
        "not in the data set: 1 of 1": {"train": train[1:], "recipe": recipe(farm.line(key))},
        "is no folder": {"out": farm.root / "none/new.safetensors"},
    }  # fmt: skip
    for reason, given in cases.items():
        with pytest.raises(MiningError, match=reason):
            farm.retrain(**given)
    assert farm.state.load() is None


def test_a_class_that_the_recipe_takes_away_need_not_be_the_models(farm):
    train = farm.samples("train")
    strange = [replace(item, label="wolf") for item in train[:2]]
    asked = recipe(
        farm.line(train[0].key, "drop", "wolf"), farm.line(train[1].key, "corrected")
    )
    trained = farm.retrain(
        replace(QUICK, epochs=1), train=strange + train[2:], recipe=asked
    )
    assert trained.samples == 20


def test_it_leaves_no_spec_without_its_weights(farm, monkeypatch):
    def full(path, data):
        if path == farm.out:
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr(trainer, "write_whole", full)
    with pytest.raises(OSError, match="No space"):
        farm.retrain(replace(QUICK, epochs=1))
    assert not list(farm.root.glob("new.*"))


def test_the_callers_luck_stays_its_own(farm):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    farm.retrain(replace(QUICK, epochs=1))
    assert torch.equal(torch.rand(3), wanted)


def test_a_state_holds_no_pickle(learnt):
    data = learnt.state.load()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert {name.partition(".")[0] for name in header if name != "__metadata__"} == {
        "model",
        "best",
        "adam",
    }
