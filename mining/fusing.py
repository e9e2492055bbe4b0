"""Make a network fast: batch norms folded into convolutions, a copy in a short type."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CLOSE = 1e-5  # of the range of the outputs; folding was seen to move them by 4e-6


class _Tracer(fx.Tracer):
    """Sees every convolution as one step, also one that computes its own padding."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(
            m, module_qualified_name
        )


@torch.inference_mode()
def fused(model: nn.Module, probe: torch.Tensor) -> nn.Module:
    """Return a network in which each convolution does the work of the batch norm after it.

    Its float32 outputs are as far from those in float64 as the network's own are. One that
    has nothing to fold, cannot be traced, or gives other outputs comes back itself.

    Args:
        model: In evaluation mode, float32; not changed.
        probe: Normalised images (B, C, H, W) to compare the outputs on.
    """
    if not any(type(part) is nn.BatchNorm2d for part in model.modules()):
        return model
    try:
        plain = copy.deepcopy(model)
        traced = fx.GraphModule(plain, _Tracer().trace(plain))
        return traced if _fold(traced) and _is_close(traced, model, probe) else model
    # Tracing runs the network's own Python on stand-ins for tensors.
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError):
        return model


def _fold(traced: fx.GraphModule) -> bool:
    """Fold all norms that can be; tell whether there were any."""
    modules = dict(traced.named_modules())
    found = False
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
            found = True
    traced.graph.lint()
    traced.recompile()
    traced.delete_all_unused_submodules()
    return found


def _is_close(found: nn.Module, model: nn.Module, probe: torch.Tensor) -> bool:
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        outputs, wanted = found(probe), model(probe)
    if not isinstance(outputs, torch.Tensor) or outputs.shape != wanted.shape:
        return False
    spread = float(wanted.max() - wanted.min())
    return bool((outputs - wanted).abs().max() <= _CLOSE * spread)


@torch.inference_mode()
def lowered(
    model: nn.Module, dtype: torch.dtype, probe: torch.Tensor
) -> nn.Module | None:
    """Return a copy with weights of a shorter type, or None when it cannot run.

    Args:
        model: In evaluation mode, float32.
        dtype: bfloat16 or float16.
        probe: Normalised images (B, C, H, W) float32 to try it on.
    """
    try:
        low = copy.deepcopy(model).to(dtype)
        output = low(probe.to(dtype))
    except RuntimeError:  # a constant of another type, or an operator without this one
        return None
    if not isinstance(output, torch.Tensor) or not bool(output.isfinite().all()):
        return None
    return low
