"""Train the last layer of a network on features that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import nn
from torch.nn import functional

from mining.architectures import Embedder
from mining.predictors import Normaliser, resolve_precision
from mining.types import Precision, Preprocessing

Progress = Callable[[int], None]


def extract_features(
    model: Embedder,
    images: Iterable[torch.Tensor],
    *,
    preprocessing: Preprocessing,
    batch_size: int = 32,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> torch.Tensor:
    """Return the features of images, in their order.

    Args:
        model: On the device to use; set to evaluation mode.
        images: uint8 (C, H, W) each, from `mining.loading.preprocess`; read lazily.
        preprocessing: Its mean and standard deviation are used.
        batch_size: Images in one forward pass.
        precision: What to compute in; "auto" takes bfloat16 where it is fast.
        progress: Called with the number of images of each batch when it is done.

    Returns:
        float32 (N, D) on the CPU, D the model's `feature_size`.
    """
    device = next(model.parameters()).device
    dtype = resolve_precision(precision, device)
    normalise = Normaliser(preprocessing, device)
    model.eval()
    parts: list[torch.Tensor] = [torch.empty(0, model.feature_size)]
    for batch in _batches(images, batch_size):
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        ):
            x = normalise(torch.stack(batch))
            features = model.embed(x.contiguous(memory_format=torch.channels_last))
        parts.append(features.float().cpu())
        if progress is not None:
            progress(len(batch))
    # Cloned, because tensors of inference mode cannot be trained on.
    return torch.cat(parts).clone()


def train_head(
    features: torch.Tensor,
    labels: torch.Tensor,
    n_classes: int,
    *,
    seed: int = 0,
    epochs: int = 100,
    lr: float = 1.0,
    weight_decay: float = 1e-2,
    class_weights: torch.Tensor | None = None,
    sample_weights: torch.Tensor | None = None,
) -> nn.Linear:
    """Fit a linear classifier to the whole set with L-BFGS; the same input, the same head.

    Features are standardised for the fit and the standardisation is folded into the layer
    that comes back, which so takes raw features.

    Args:
        features: float32 (N, D).
        labels: int64 (N,), 0 to n_classes - 1.
        n_classes: Number of classes K.
        seed: Decides the initial weights.
        epochs: Iterations of L-BFGS at most; it stops when nothing improves.
        lr: Step size of L-BFGS.
        weight_decay: L2 penalty on the standardised weights, 0 or more.
        class_weights: float32 (K,), weight of each class in the loss, above 0.
        sample_weights: float32 (N,), weight of each sample, 0 or more.

    Raises:
        ValueError: Shapes do not fit or a label is out of range.
    """
    weights = loss_weights(
        features,
        labels,
        n_classes,
        class_weights=class_weights,
        sample_weights=sample_weights,
    )
    mean, std = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
    x = (features - mean) / std  # (N, D)
    head = _seeded_linear(features.shape[1], n_classes, seed)
    optimizer = torch.optim.LBFGS(
        head.parameters(), lr=lr, max_iter=epochs, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        losses = functional.cross_entropy(head(x), labels, reduction="none")
        penalty = weight_decay / 2 * head.weight.square().sum()
        loss = (losses * weights).sum() + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.div_(std)
        head.bias.sub_(head.weight @ mean)
    return head.requires_grad_(requires_grad=False)


def _batches(images: Iterable[torch.Tensor], size: int) -> Iterator[list[torch.Tensor]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch


def _seeded_linear(inputs: int, outputs: int, seed: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(inputs, outputs)


def loss_weights(
    features: torch.Tensor,
    labels: torch.Tensor,
    n_classes: int,
    *,
    class_weights: torch.Tensor | None,
    sample_weights: torch.Tensor | None,
) -> torch.Tensor:
    """Return the weight (N,) of each sample in the loss; they sum to 1.

    Raises:
        ValueError: Shapes do not fit or a label is out of range.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise ValueError(
            f"features must be (N, D) and labels (N,), N above 0, not"
            f" {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"labels must be from 0 to {n_classes - 1}")
    weights = torch.ones(len(labels))
    if class_weights is not None:
        weights = weights * class_weights[labels]
    if sample_weights is not None:
        weights = weights * sample_weights
    return weights / weights.sum()
