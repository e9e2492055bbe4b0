"""Tiny checkpoints in every format."""

from __future__ import annotations

from pathlib import Path

import onnx
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

from mining.architectures import SmallCnn
from mining.specs import write_spec
from mining.types import ModelSpec
from tests.mining.pictures import GREY, SPEC


def small_cnn(n_classes: int = 3) -> SmallCnn:
    """Return a network whose predictions differ from image to image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = SmallCnn(n_classes)
        model(torch.randn(64, 1, 8, 8))  # gives the norms statistics
        torch.nn.init.normal_(model.head.weight, std=3.0)
    return model.eval()


def save_small_cnn(path: Path, spec: ModelSpec = SPEC) -> Path:
    safetensors.torch.save_file(small_cnn(len(spec.classes)).state_dict(), path)
    write_spec(str(path), spec)
    return path


def linear_onnx(
    path: Path,
    *,
    batch: int | str = "n",
    softmax: bool = False,
    kind: int = TensorProto.FLOAT,
) -> torch.Tensor:
    """Write logits = weight @ pixels for 1 x 8 x 8 images; return the weight (3, 64)."""
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(2)) / 4
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    graph = helper.make_graph(
        nodes if softmax else nodes[:2],
        "linear",
        [helper.make_tensor_value_info("image", kind, [batch, 1, 8, 8])],
        [
            helper.make_tensor_value_info(
                "probs" if softmax else "logits", TensorProto.FLOAT, [batch, 3]
            )
        ],
        [numpy_helper.from_array(weight.numpy(), "weight")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    write_spec(str(path), ModelSpec("onnx", "", SPEC.classes, GREY))
    return weight
