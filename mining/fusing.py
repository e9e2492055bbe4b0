"""Make the fast copy of a network: batch norms folded into convolutions, a short type."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CLOSE = 1e-3  # of the range of the outputs


class _Tracer(fx.Tracer):
    """Sees every convolution as one step, also one that computes its own padding."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(
            m, module_qualified_name
        )


@torch.inference_mode()
def fused(model: nn.Module, probe: torch.Tensor) -> nn.Module:
    """Return a copy in which each convolution does the work of the batch norm after it.

    A network that cannot be traced, or that gives other outputs when fused, comes back as
    a plain copy.

    Args:
        model: In evaluation mode, float32.
        probe: Normalised images (B, C, H, W) to compare the outputs on.
    """
    plain = copy.deepcopy(model)
    try:
        graph = _Tracer().trace(plain)
        found = _fold(fx.GraphModule(plain, graph))
        same = _is_close(found(probe), model(probe))
    # Tracing runs the network's own Python on stand-ins for tensors.
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError):
        same = False
    return found if same else copy.deepcopy(model)


def _fold(traced: fx.GraphModule) -> nn.Module:
    modules = dict(traced.named_modules())
    for node in traced.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        conv, norm = modules[str(before.target)], modules[str(node.target)]
        alone = len(before.users) == 1
        if alone and isinstance(conv, nn.Conv2d) and type(norm) is nn.BatchNorm2d:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.graph.lint()
    traced.recompile()
    traced.delete_all_unused_submodules()
    return traced


def _is_close(found: Any, wanted: Any) -> bool:
    if not isinstance(found, torch.Tensor) or found.shape != wanted.shape:
        return False
    spread = float(wanted.max() - wanted.min())
    return bool((found - wanted).abs().max() <= _CLOSE * spread)


@torch.inference_mode()
def lowered(
    model: nn.Module, dtype: torch.dtype, probe: torch.Tensor
) -> nn.Module | None:
    """Return a fused copy with weights of a shorter type, or None when it cannot run.

    Args:
        model: In evaluation mode, float32.
        dtype: bfloat16 or float16.
        probe: Normalised images (B, C, H, W) float32 to try it on.
    """
    try:
        low = fused(model, probe).to(dtype)
        output = low(probe.to(dtype))
    except RuntimeError:  # a constant of another type, or an operator without this one
        return None
    if not isinstance(output, torch.Tensor) or not bool(output.isfinite().all()):
        return None
    return low
