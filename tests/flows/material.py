"""What the fault tests scan: a few hundred tiny images, and a quick and a slow model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.images import LEVELS, SIDE, write_brightness_model, write_image

N_TEST = 240
N_VAL = 40
BROKEN = (17, 101, 160, 203)  # of the test split: half a file each


def write_dataset(root: Path) -> None:
    """Write both splits: right ones, errors, near misses and unreadable ones."""
    for split, n in (("test", N_TEST), ("val", N_VAL)):
        for i in range(n):
            label = list(LEVELS)[i % 3]
            path = root / split / label / f"{i:03d}.png"
            write_image(path, _level(i, label), seed=i)
            if split == "test" and i in BROKEN:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _level(i: int, label: str) -> int:
    if i % 4 == 0:  # between cat and dog: errors and near misses
        return 92 + i % 7
    if i % 5 == 0:  # looks like another class
        return LEVELS[list(LEVELS)[(i + 1) % 3]]
    return LEVELS[label]


def write_models(folder: Path) -> None:
    """Write quick.onnx, and slow.onnx that says the same after a twentieth of a second."""
    write_brightness_model(folder / "quick.onnx")
    slow = write_brightness_model(folder / "slow.onnx")
    model = onnx.load(str(slow))
    _add_ballast(model.graph)
    onnx.save(model, str(slow))


def _add_ballast(
    graph: onnx.GraphProto, *, width: int = 768, rounds: int = 400
) -> None:
    """Add a long computation to the logits, times nought."""
    random = np.random.default_rng(0)
    pixels = SIDE * SIDE
    widen = random.normal(0, pixels**-0.5, (pixels, width)).astype(np.float32)
    mix = random.normal(0, width**-0.5, (width, width)).astype(np.float32)
    nought = np.zeros(1, np.float32)
    for name, values in (("widen", widen), ("mix", mix), ("nought", nought)):
        graph.initializer.append(numpy_helper.from_array(values, name))
    last = graph.output[0].name
    for node in graph.node:
        if node.output[0] == last:
            node.output[0] = "plain"
    nodes = [helper.make_node("MatMul", ["x", "widen"], ["h0"])]
    for i in range(rounds):
        nodes.append(helper.make_node("MatMul", [f"h{i}", "mix"], [f"m{i}"]))
        nodes.append(helper.make_node("Tanh", [f"m{i}"], [f"h{i + 1}"]))
    nodes += [
        helper.make_node("ReduceMean", [f"h{rounds}"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "nought"], ["ballast"]),
        helper.make_node("Add", ["plain", "ballast"], [last]),
    ]
    graph.node.extend(nodes)
