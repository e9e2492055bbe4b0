"""Real image files and a linear model whose answers NumPy can compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mining.specs import write_spec
from mining.types import ModelSpec, Preprocessing

SIDE = 8
LEVELS = {"cat": 60, "dog": 130, "fox": 200}  # the brightness of each class


def write_image(path: Path, level: int, *, seed: int = 0, side: int = SIDE) -> Path:
    """Write a grey PNG of about this level, 0-255, with a little noise."""
    noise = np.random.default_rng(seed).integers(-3, 4, (side, side))
    pixels = np.clip(level + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_linear_model(
    path: Path, weights: np.ndarray, bias: np.ndarray, classes: Sequence[str]
) -> Path:
    """Write logits = weights (K, SIDE*SIDE) @ pixels (0-1, row by row) + bias as ONNX."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["x"]),
            helper.make_node("Gemm", ["x", "w", "b"], ["logits"], transB=1),
        ],
        "linear",
        [
            helper.make_tensor_value_info(
                "image", TensorProto.FLOAT, ["n", 1, SIDE, SIDE]
            )
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(bias)])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "w"),
            numpy_helper.from_array(bias.astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    preprocessing = Preprocessing(
        resize=None, crop=(SIDE, SIDE), mean=(0.0,), std=(1.0,), mode="L"
    )
    spec = ModelSpec(
        format="onnx",
        architecture="",
        classes=tuple(classes),
        preprocessing=preprocessing,
    )
    write_spec(str(path), spec)
    return path


def write_brightness_model(
    path: Path, levels: dict[str, int] | None = None, *, sharpness: float = 200.0
) -> Path:
    """Write a model that gives each image the class whose level is nearest."""
    levels = levels or LEVELS
    centres = np.array(list(levels.values())) / 255  # (K,)
    weights = np.repeat(centres[:, None], SIDE * SIDE, axis=1) / SIDE**2
    return write_linear_model(
        path, sharpness * weights, -sharpness * centres**2 / 2, list(levels)
    )


def write_animals(
    root: Path, *, right: int = 4, wrong: dict[tuple[str, str], int] | None = None
) -> dict[str, tuple[str, str]]:
    """Write test/<class>/*.png and return key -> (label, what the model will say).

    Args:
        root: The data set's folder.
        right: Images per class that look like their class.
        wrong: (label, looks like) -> how many.
    """
    truth: dict[str, tuple[str, str]] = {}
    plan = [(name, name) for name in LEVELS for _ in range(right)]
    for pair, n in (wrong or {}).items():
        plan += [pair] * n
    for i, (label, looks) in enumerate(plan):
        key = f"test/{label}/{i:03d}.png"
        write_image(root / key, LEVELS[looks], seed=i)
        truth[key] = (label, looks)
    return truth
