"""What a retraining is told and what it tells; read without loading torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from mining.checks import flag, number, one_of, reject_unknown, whole
from mining.types import MAX_WORKERS, Device

Loss = Literal["cross_entropy", "hard_examples", "focal"]
Start = Literal["version", "scratch"]
TrainPrecision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a model is retrained; fixed for the whole run.

    Attributes:
        epochs: Passes over the samples at most, 1-1000.
        batch_size: Samples in one step, 1-4096. When memory runs out, a step goes through
            the model in halves whose gradients are summed, so that its size stays.
        lr: Highest learning rate of AdamW, above 0 up to 10; it rises over the first
            twentieth of the steps and falls along a cosine to nearly nothing.
        weight_decay: AdamW's, 0-10.
        patience: Epochs without a better loss on the val split before it stops; the best
            epoch's weights are kept. 0 never stops early and keeps the last one's, so
            that the val split decides nothing.
        loss: "cross_entropy"; "hard_examples", that of each batch's hardest quarter; or
            "focal". All weigh classes as the recipe says.
        start: "version" goes on from the parent's weights, "scratch" from new ones of its
            architecture.
        rest: Whether samples that the recipe does not name are trained on too.
        seed: Decides new weights, the order and every augmentation.
        device: "auto" takes cuda where there is one.
        precision: "auto" takes bfloat16 where the hardware is fast with it; weights are
            float32 in any case.
        workers: Threads that read and decode images; 0 takes one per CPU. The weights do
            not depend on it.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-2
    patience: int = 5
    loss: Loss = "cross_entropy"
    start: Start = "version"
    rest: bool = True
    seed: int = 0
    device: Device = "auto"
    precision: TrainPrecision = "auto"
    workers: int = 0

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1, 1000)
        whole("batch_size", self.batch_size, 1, 4096)
        if not 0 < number("lr", self.lr) <= 10:
            raise ValueError(f"lr must be above 0 up to 10, not {self.lr}")
        if not 0 <= number("weight_decay", self.weight_decay) <= 10:
            raise ValueError(
                f"weight_decay must be from 0 to 10, not {self.weight_decay}"
            )
        whole("patience", self.patience, 0, 1000)
        one_of("loss", self.loss, get_args(Loss))
        one_of("start", self.start, get_args(Start))
        flag("rest", self.rest)
        whole("seed", self.seed, 0, 2**31 - 1)
        one_of("device", self.device, get_args(Device))
        one_of("precision", self.precision, get_args(TrainPrecision))
        whole("workers", self.workers, 0, MAX_WORKERS)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> TrainSettings:
        """Build from JSON-like data; missing fields take their defaults.

        Raises:
            ValueError: A field is unknown or out of range; the message names it.
        """
        reject_unknown("training settings", data, tuple(cls.__slots__))
        return cls(**data)  # type: ignore[arg-type]  # checked in __post_init__

    def to_dict(self) -> dict[str, object]:
        """Return JSON-like data that `from_dict` takes back."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class TrainSample:
    """One labelled image to train or to validate with.

    Attributes:
        key: Its key in the data set; a recipe names samples by it.
        url: What fsspec opens.
        label: Class name as the data set has it now, before the recipe.
        digest: SHA-256 of its bytes in hex, as registered: an image that has another one is
            left out. None takes any bytes, or those that the recipe names.
    """

    key: str
    url: str
    label: str
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """How one pass went.

    Attributes:
        epoch: From 1.
        train_loss: Mean over the steps, 0 or more; lower is better. Augmentations and class
            weights are in it.
        val_loss: Mean cross entropy on the val split in nats; None without one.
        val_accuracy: Share of the val split that is right, 0-1; None without one.
        seconds: Time it took.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """Return JSON-like data; the names are the fields'."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a retraining.

    Attributes:
        epochs: One for each pass.
        best_epoch: The one whose weights were kept: the lowest val_loss, or the last.
        batch_size: Samples that went through the model at once, as memory allowed.
        device: Where it ran, such as "cpu" or "cuda".
        samples: Different images trained on.
        val_samples: Images validated with.
        stopped_early: Whether patience ended it.
        unreadable: Images that were left out since they could not be read.
        notes: What a person should know, each a sentence or two.
    """

    epochs: tuple[EpochFigures, ...]
    best_epoch: int
    batch_size: int
    device: str
    samples: int
    val_samples: int
    stopped_early: bool
    unreadable: int = 0
    notes: tuple[str, ...] = ()


OnStep = Callable[[int, int, int], None]
OnEpoch = Callable[[EpochFigures], None]


class StateStore(Protocol):
    """Keeps what a retraining can go on from: safetensors, never a pickle."""

    def load(self) -> bytes | None:
        """Return what was saved last, None when there is nothing."""
        ...

    def save(self, data: bytes) -> None:
        """Keep the bytes in place of the ones before: whole or not at all."""
        ...


class FileState:
    """A state in a file of this machine."""

    def __init__(self, path: Path) -> None:
        """Take the path; its folder must be there when something is saved."""
        self._path = path

    def load(self) -> bytes | None:
        """Return the file, None when there is none.

        Raises:
            OSError: It is there and cannot be read.
        """
        with suppress(FileNotFoundError):
            return self._path.read_bytes()
        return None

    def save(self, data: bytes) -> None:
        """Replace the file by these bytes, even if the machine stops meanwhile.

        Raises:
            OSError: It cannot be written; the old one is kept.
        """
        write_whole(self._path, data)

    def forget(self) -> None:
        """Delete the file if there is one.

        Raises:
            OSError: It cannot be deleted.
        """
        self._path.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: It cannot be written; what was there is kept.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
