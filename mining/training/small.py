"""Train the small network for 28 x 28 grey images from nothing."""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from mining.architectures import SmallCnn
from mining.predictors import Normaliser, resolve_precision
from mining.training.head import Progress, loss_weights
from mining.types import Precision, Preprocessing


def train_small_cnn(
    images: torch.Tensor,
    labels: torch.Tensor,
    n_classes: int,
    *,
    preprocessing: Preprocessing,
    seed: int = 0,
    epochs: int = 5,
    batch_size: int = 128,
    lr: float = 4e-3,
    weight_decay: float = 1e-2,
    class_weights: torch.Tensor | None = None,
    sample_weights: torch.Tensor | None = None,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> SmallCnn:
    """Train with AdamW on one cycle of learning rates; the same input, the same model.

    Args:
        images: uint8 (N, 1, 28, 28), N at least 2.
        labels: int64 (N,), 0 to n_classes - 1.
        n_classes: Number of classes K.
        preprocessing: Its mean and standard deviation are used.
        seed: Decides the initial weights and the order.
        epochs: Passes over the images.
        batch_size: Images in one step.
        lr: Highest learning rate.
        weight_decay: AdamW's, 0 or more.
        class_weights: float32 (K,), weight of each class in the loss, above 0.
        sample_weights: float32 (N,), weight of each sample, 0 or more.
        precision: What to compute in; "auto" takes bfloat16 where it is fast.
        progress: Called with the number of images of each step when it is done.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: Shapes do not fit or a label is out of range.
    """
    weights = len(labels) * loss_weights(
        images.flatten(1),
        labels,
        n_classes,
        class_weights=class_weights,
        sample_weights=sample_weights,
    )
    device = torch.device("cpu")
    dtype = resolve_precision(precision, device)
    normalise = Normaliser(preprocessing, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SmallCnn(n_classes).train().to(memory_format=torch.channels_last)
    shuffle = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    steps = -(-len(images) // batch_size)
    schedule = OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=shuffle)
        for chosen in order.tensor_split(steps):
            x = normalise(images[chosen]).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                logits = model(x)
            losses = functional.cross_entropy(
                logits.float(), labels[chosen], reduction="none"
            )
            optimizer.zero_grad()
            (losses * weights[chosen]).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if progress is not None:
                progress(len(chosen))
    return model.eval()
