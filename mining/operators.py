"""The operators that a graph from a file may call: a list of names, never a path."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any, Final

import torch

_ATEN_TARGET: Final = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
_INT64: Final = 2**63

# What vision classifiers export to, all of it arithmetic on tensors. Left out on purpose:
# whatever reads or writes files (aten.from_file, aten.save), gives unwritten memory
# (empty, resize_), reinterprets memory (as_strided, set_, the _unsafe ones) or is an
# internal kernel that trusts its caller to have checked shapes.
_ATEN: Final = frozenset(
    """
    abs acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d
    adaptive_max_pool2d add add_ addcdiv addcmul addmm alias all alpha_dropout amax amin
    any arange argmax argmin asin asinh atan atan2 atanh avg_pool1d avg_pool2d baddbmm
    batch_norm bitwise_and bitwise_not bitwise_or bitwise_xor bmm broadcast_tensors
    broadcast_to bucketize cat ceil celu celu_ channel_shuffle chunk clamp clamp_
    clamp_max clamp_min clone concat constant_pad_nd contiguous conv1d conv2d conv3d
    conv_transpose2d copy copy_ cos cosh cumsum detach detach_ diagonal div div_
    dropout dropout_ einsum elu elu_ embedding eq erf exp expand expand_as expm1
    feature_alpha_dropout feature_dropout fill fill_ flatten flip floor floor_divide
    fmod full full_like gather ge gelu glu grid_sampler group_norm gt hardshrink
    hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ im2col index
    index_add index_put index_select instance_norm isfinite isinf isnan item layer_norm
    le leaky_relu leaky_relu_ lerp lift_fresh lift_fresh_copy linalg_vector_norm linear
    log log10 log1p log2 log_sigmoid log_softmax logical_and logical_not logical_or
    logical_xor logsumexp lt masked_fill masked_fill_ matmul max max_pool1d max_pool2d
    max_pool2d_with_indices maximum mean meshgrid min minimum mish mish_ mm movedim mul
    mul_ mv narrow ne neg new_full new_ones new_zeros nonzero norm numpy_T ones ones_like
    pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal reflection_pad2d
    relu relu6 relu6_ relu_ remainder repeat repeat_interleave replication_pad2d reshape
    rms_norm roll round rrelu rsqrt rsub scalar_tensor scaled_dot_product_attention
    scatter scatter_add select selu selu_ sigmoid sigmoid_ sign silu silu_ sin sinh
    slice slice_scatter softmax softplus softshrink sort split split_with_sizes sqrt
    square squeeze stack std std_mean sub sub_ sum swapaxes swapdims sym_numel
    sym_size sym_stride t tan tanh tanh_ tensor_split threshold threshold_ tile to topk
    transpose tril triu trunc type_as unbind unflatten unfold unsqueeze
    upsample_bicubic2d upsample_bilinear2d upsample_nearest2d upsample_nearest_exact2d
    var var_mean view view_as where zeros zero_ zeros_like _assert_scalar
    _assert_tensor_metadata _softmax _log_softmax _to_copy
    sym_constrain_range sym_constrain_range_for_size
    """.split()  # noqa: SIM905 (a name a line would fill the file)
)

# Arithmetic on sizes. Powers and shifts are left out: they make numbers of any length.
_NUMERIC: Final[dict[str, Callable[..., Any]]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            "add", "and_", "eq", "floordiv", "ge", "gt", "le", "lt", "mod", "mul", "ne",
            "neg", "or_", "pos", "sub", "truediv",
        )
    },
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.trunc": math.trunc,
    "torch.sym_float": float,
    "torch.sym_int": int,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
}  # fmt: skip


def find_operator(target: str) -> tuple[Callable[..., Any], bool]:
    """Return what a node's target names, and whether it takes plain numbers by position.

    Raises:
        ValueError: It is not one of the listed operators; nothing was looked up.

    >>> find_operator("_operator.mul")[0](6, 7)
    42
    """
    if target in _NUMERIC:
        return _exact(_NUMERIC[target]), True
    match = _ATEN_TARGET.fullmatch(target)
    if match and match[1] in _ATEN:
        packet = getattr(torch.ops.aten, match[1])
        if match[2] in packet.overloads():
            found = getattr(packet, match[2])
            # A variant with `out` writes into a tensor of any other shape.
            if match[1].endswith("_") or not found._schema.is_mutable:  # noqa: SLF001 (no public name)
                return found, False
    raise ValueError(f"it calls {target!r}, which is not an operator that may be run")


def _exact(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*values: object) -> float:
        if not all(isinstance(value, int | float) for value in values):
            raise ValueError("arithmetic on sizes takes numbers only")
        result: float = function(*values)
        if abs(result) >= _INT64:
            raise ValueError("a size is too large")
        return result

    return run
