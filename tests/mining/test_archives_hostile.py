"""Archives that were made to harm: refused, and nothing in them is run."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from io import BytesIO

import pytest
import torch

from mining.operators import find_operator
from tests.mining.models import small_cnn
from tests.mining.test_archives import (
    CONSTANTS,
    MODEL,
    SAMPLES,
    WEIGHTS,
    agrees,
    archive,
    load,
    refusal,
    tamper,
)

__all__ = ["archive"]


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def pickle_bomb(tmp_path, *, torchs: bool) -> bytes:
    buffer = BytesIO()
    save = torch.save if torchs else pickle.dump
    save({"x": Bomb(str(tmp_path / "crater"))}, buffer)
    return buffer.getvalue()


def code_bomb(tmp_path) -> str:
    return f"__import__('os').mkdir({str(tmp_path / 'crater')!r})"


def use_pickle(config, *, path="weight_99"):
    payload = next(iter(config["config"].values()), {})
    config["config"]["head.bias"] = {**payload, "use_pickle": True, "path_name": path}


def assert_it_is_a_bomb(tmp_path):
    """Show that torch itself sets it off, so that the tests above it prove something."""
    assert not (tmp_path / "crater").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.export.load(tmp_path / "m.pt2").module()
        except Exception:  # noqa: BLE001 (whatever torch says after the explosion)
            assert (tmp_path / "crater").exists()
    assert (tmp_path / "crater").exists()


@pytest.mark.parametrize("torchs", [True, False])
def test_a_bomb_in_the_weights_does_not_go_off(tmp_path, archive, torchs):
    bomb = pickle_bomb(tmp_path, torchs=torchs)
    changes = {WEIGHTS: use_pickle, "data/weights/weight_99": bomb}
    text = refusal(tmp_path, tamper(archive, changes))
    assert "was not opened: the tensor 'head.bias' is stored as a pickle" in text
    assert_it_is_a_bomb(tmp_path)


def test_a_bomb_in_the_constants_does_not_go_off(tmp_path, archive):
    changes = {
        CONSTANTS: lambda config: use_pickle(config, path="tensor_0"),
        "data/constants/tensor_0": pickle_bomb(tmp_path, torchs=True),
    }
    assert "was not opened" in refusal(tmp_path, tamper(archive, changes))
    assert not (tmp_path / "crater").exists()


def test_sample_inputs_are_never_unpickled(tmp_path, archive):
    bomb = pickle_bomb(tmp_path, torchs=True)
    predictor = load(tmp_path, tamper(archive, {SAMPLES: bomb}))
    assert agrees(predictor, small_cnn())
    assert_it_is_a_bomb(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        "data/aotinductor/model/model.so",
        "data/aotinductor/model/kernel.cubin",
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/weights/model.pt",
        "data/executorch/model.pte",
        "models/other.json",
        "data/weights/../weight_0",
        "data.pkl",
    ],
)
def test_an_entry_that_may_hold_code_is_refused_by_name(tmp_path, archive, entry):
    text = refusal(tmp_path, tamper(archive, {entry: b"\x7fELF"}))
    assert "was not opened" in text
    assert entry in text


def test_files_of_the_users_own_are_left_alone(tmp_path, archive):
    data = tamper(archive, {"extra/notes.pkl": pickle_bomb(tmp_path, torchs=False)})
    assert agrees(load(tmp_path, data), small_cnn())
    assert not (tmp_path / "crater").exists()


def set_size(model, name, text):
    sizes = model["graph_module"]["graph"]["tensor_values"][name]["sizes"]
    sizes[0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 4}}}


def test_an_expression_as_input_size_is_refused(tmp_path, archive):
    bomb = code_bomb(tmp_path)
    data = tamper(archive, {MODEL: lambda model: set_size(model, "x", bomb)})
    assert "is the expression" in refusal(tmp_path, data)
    assert_it_is_a_bomb(tmp_path)


def test_other_expressions_are_never_evaluated(tmp_path, archive):
    def edit(model):
        set_size(model, "conv2d", code_bomb(tmp_path))
        model["range_constraints"][code_bomb(tmp_path)] = {"min_val": 0, "max_val": 9}

    assert agrees(load(tmp_path, tamper(archive, {MODEL: edit})), small_cnn())
    assert_it_is_a_bomb(tmp_path)


def test_names_and_guards_are_never_made_into_source(tmp_path, archive):
    def edit(model):
        text = json.dumps(model).replace(
            '{"name": "x"}', json.dumps({"name": f"x={code_bomb(tmp_path)}"})
        )
        model.update(json.loads(text))
        values = model["graph_module"]["graph"]["tensor_values"]
        values[f"x={code_bomb(tmp_path)}"] = values.pop("x")
        model["guards_code"] = [code_bomb(tmp_path)]

    assert agrees(load(tmp_path, tamper(archive, {MODEL: edit})), small_cnn())
    assert not (tmp_path / "crater").exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.mkdir",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.relu.__class__",
        "torch.ops.aten.__init__.default",
        "torch.ops.higher_order.cond",
        "torch.ops.mine.relu.default",
        "_operator.methodcaller",
        "_operator.pow",
        "torch.ops.aten.add.out",
        "#mine:relu",
    ],
)
def test_only_listed_operators_are_looked_up(tmp_path, archive, target):
    def edit(model):
        nodes = model["graph_module"]["graph"]["nodes"]
        next(n for n in nodes if "relu" in n["target"])["target"] = target

    text = refusal(tmp_path, tamper(archive, {MODEL: edit}))
    assert f"calls {target!r}, which is not an operator that may be run" in text


@pytest.mark.parametrize("values", [("ab", 3), ([1], 2), (2**62, 2**62)])
def test_arithmetic_on_sizes_stays_small(values):
    multiply, _ = find_operator("_operator.mul")
    with pytest.raises(ValueError, match=r"numbers only|too large"):
        multiply(*values)
