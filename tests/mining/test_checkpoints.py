from __future__ import annotations

import os
import pickle

import pytest
import safetensors.torch
import torch

from mining.checkpoints import load_model
from mining.exceptions import BadCheckpoint
from mining.types import ModelSpec, Preprocessing
from tests.mining.models import linear_onnx, save_small_cnn, small_cnn
from tests.mining.pictures import GREY, SPEC

BATCH = torch.randint(
    0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
NORMALISED = (BATCH.float() / 255 - 0.5) / 0.25
STATE_DICT = ModelSpec("state_dict", "small_cnn", SPEC.classes, GREY)
ONNX = ModelSpec("onnx", "", SPEC.classes, GREY)
EXPORTED = ModelSpec("torch_export", "", SPEC.classes, GREY)


def load(path, spec):
    return load_model(str(path), spec, device="cpu", precision="float32")


def refusal(path, spec) -> str:
    with pytest.raises(BadCheckpoint) as caught:
        load(path, spec)
    assert str(path) in str(caught.value)
    return str(caught.value)


@torch.inference_mode()
def expected_logits() -> torch.Tensor:
    return small_cnn()(NORMALISED)


def test_safetensors_give_the_networks_logits(tmp_path):
    predictor = load(save_small_cnn(tmp_path / "m.safetensors"), SPEC)
    assert predictor.n_classes == 3
    assert torch.allclose(predictor(BATCH), expected_logits(), atol=1e-4)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_load_wrapped_and_prefixed(tmp_path, wrapper, prefix):
    state = {
        f"{prefix}{name}": value for name, value in small_cnn().state_dict().items()
    }
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "m.pt")
    found = load(tmp_path / "m.pt", STATE_DICT)(BATCH)
    assert torch.allclose(found, expected_logits(), atol=1e-4)


def test_it_loads_from_a_url(tmp_path):
    import fsspec

    data = safetensors.torch.save(small_cnn().state_dict())
    fsspec.filesystem("memory").pipe_file("/models/m.safetensors", data)
    found = load("memory://models/m.safetensors", SPEC)(BATCH)
    assert torch.allclose(found, expected_logits(), atol=1e-4)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("save", [pickle.dump, torch.save])
def test_a_pickle_bomb_does_not_go_off(tmp_path, save):
    with (tmp_path / "m.pt").open("wb") as file:
        save({"weight": Bomb(str(tmp_path / "crater"))}, file)
    text = refusal(tmp_path / "m.pt", STATE_DICT)
    assert "was not opened" in text
    assert "safetensors" in text
    assert not (tmp_path / "crater").exists()
    with (tmp_path / "m.pt").open("rb") as file:  # the bomb is a real one
        if save is pickle.dump:
            pickle.load(file)
        else:
            torch.load(file, weights_only=False)
    assert (tmp_path / "crater").exists()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (SPEC, "not a whole safetensors file"),
        (STATE_DICT, ""),
        (ONNX, "not a usable ONNX file"),
        (EXPORTED, "is damaged or not a torch.export archive"),
    ],
)
@pytest.mark.parametrize("data", [b"", b"nonsense" * 40])
def test_damaged_files_are_refused(tmp_path, spec, reason, data):
    (tmp_path / "m").write_bytes(data)
    assert reason in refusal(tmp_path / "m", spec)


@pytest.mark.parametrize("spec", [SPEC, STATE_DICT])
def test_a_truncated_file_is_refused(tmp_path, spec):
    if spec is SPEC:
        save_small_cnn(tmp_path / "m")
    else:
        torch.save(small_cnn().state_dict(), tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(data[: len(data) // 2])
    refusal(tmp_path / "m", spec)


@pytest.mark.parametrize("spec", [SPEC, STATE_DICT, ONNX, EXPORTED])
def test_a_missing_file_says_that_the_worker_cannot_see_it(tmp_path, spec):
    assert "The worker cannot see" in refusal(tmp_path / "m", spec)


@pytest.mark.parametrize("content", [[1, 2], {"weight": 3}, torch.zeros(3)])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "m.pt")
    assert "not a state dict" in refusal(tmp_path / "m.pt", STATE_DICT)


def test_names_that_do_not_fit_are_listed(tmp_path):
    state = small_cnn().state_dict()
    state["tail.weight"] = state.pop("head.weight")
    torch.save(state, tmp_path / "m.pt")
    text = refusal(tmp_path / "m.pt", STATE_DICT)
    assert "1 missing: head.weight" in text
    assert "1 unexpected: tail.weight" in text


def test_another_architecture_shows_five_names(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "m.pt")
    missing = refusal(tmp_path / "m.pt", STATE_DICT).splitlines()[1]
    assert missing.count(", ") == 5
    assert missing.endswith(", …")


def test_another_number_of_classes_shows_the_shapes(tmp_path):
    torch.save(small_cnn(10).state_dict(), tmp_path / "m.pt")
    text = refusal(tmp_path / "m.pt", STATE_DICT)
    assert "2 of another shape: head.weight is (10, 128), wanted (3, 128)" in text


def test_older_files_without_batch_counters_load(tmp_path):
    state = small_cnn().state_dict()
    kept = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save(kept, tmp_path / "m.pt")
    found = load(tmp_path / "m.pt", STATE_DICT)(BATCH)
    assert torch.allclose(found, expected_logits(), atol=1e-4)


@pytest.mark.parametrize("batch", ["n", 1, 3, 8])
def test_onnx_gives_the_graphs_logits(tmp_path, batch):
    weight = linear_onnx(tmp_path / "m.onnx", batch=batch)
    found = load(tmp_path / "m.onnx", ONNX)(BATCH)
    assert torch.allclose(found, NORMALISED.flatten(1) @ weight.T, atol=1e-4)


def test_onnx_with_another_input_is_refused(tmp_path):
    linear_onnx(tmp_path / "m.onnx", kind=11)
    reason = refusal(tmp_path / "m.onnx", ONNX)
    assert "float32 input" in reason or "not a usable ONNX" in reason


def test_a_model_that_gives_probabilities_is_refused(tmp_path):
    linear_onnx(tmp_path / "m.onnx", softmax=True)
    predictor = load(tmp_path / "m.onnx", ONNX)
    with pytest.raises(BadCheckpoint, match="probabilities, not logits"):
        predictor(BATCH)


def test_onnx_with_another_width_is_refused(tmp_path):
    linear_onnx(tmp_path / "m.onnx")
    spec = ModelSpec("onnx", "", ("a", "b"), GREY)
    with pytest.raises(BadCheckpoint, match=r"\(5, 3\) for 5 images; its spec lists 2"):
        load(tmp_path / "m.onnx", spec)(BATCH)


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_images_of_another_shape_are_refused(tmp_path, kind):
    colour = Preprocessing(None, (8, 8), (0.5,) * 3, (0.5,) * 3)
    architecture = "" if kind == "onnx" else "small_cnn"
    spec = ModelSpec(kind, architecture, SPEC.classes, colour)
    if kind == "onnx":
        linear_onnx(tmp_path / "m")
    else:
        save_small_cnn(tmp_path / "m")
    with pytest.raises(BadCheckpoint, match=r"cannot take images of shape \(3, 8, 8\)"):
        load(tmp_path / "m", spec)(BATCH.expand(-1, 3, -1, -1))
