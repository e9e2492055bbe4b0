"""The value types of mining: what goes into a scan and what comes out of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast, get_args

from mining.checks import flag, number, numbers, one_of, reject_unknown, whole
from mining.text import check_label, is_storable, shown

Split = Literal["", "train", "val", "test"]
ModelFormat = Literal["safetensors", "state_dict", "onnx", "torch_export"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]
ImageMode = Literal["RGB", "L"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]
Decode = Literal["auto", "cpu", "gpu"]
Knowledge = Literal["exact", "bound"]

SPLITS: Final[tuple[Split, ...]] = get_args(Split)
MAX_SIDE: Final = 4096
MAX_WORKERS: Final = 256
MAX_CLASSES: Final = 100_000
MAX_ARCHITECTURE: Final = 100  # characters


def _check_class(name: str) -> None:
    try:
        check_label(name)
    except ValueError as error:
        raise ValueError(f"classes: {error}") from error


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One labelled image as its source lists it.

    Attributes:
        key: Path relative to the root; always text (see `mining.sources.keys`).
        url: What fsspec opens.
        label: Class name.
        split: The part of the data set, or "" when the source does not say.
        attributes: The manifest's other columns.
        line: Line (or Parquet row) of the manifest, from 1; None for a folder.
    """

    key: str
    url: str
    label: str
    split: Split = ""
    attributes: dict[str, object] = field(default_factory=dict)
    line: int | None = None


@dataclass(frozen=True, slots=True)
class SampleRef:
    """One sample given to a scan.

    Attributes:
        id: The caller's identity of the sample; comes back in the outcome.
        key: Path relative to the data set's root.
        url: What fsspec opens.
        label: Class index in the order of the model spec's classes.
        digest: SHA-256 of the bytes as registered, in hex; "" when they could not be read
            then, and so must not be read now either; None when the sample was never
            registered, to accept any bytes.
    """

    id: int
    key: str
    url: str
    label: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes a model's input.

    Attributes:
        resize: Length of the shorter side in pixels after resizing (the aspect is kept), or
            None to leave the size alone.
        crop: Height and width in pixels of the centre crop, the model's input size.
        mean: Per-channel mean on the 0-1 scale.
        std: Per-channel standard deviation on the 0-1 scale, above 0.
        interpolation: Filter of the resize; always antialiased except "nearest".
        mode: "RGB" gives three channels, "L" one.
    """

    resize: int | None
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    mode: ImageMode = "RGB"

    def __post_init__(self) -> None:
        if self.resize is not None:
            whole("resize", self.resize, 1, MAX_SIDE)
        if len(self.crop) != 2:
            raise ValueError(f"crop must be [height, width], not {shown(self.crop)}")
        for side in self.crop:
            whole("crop", side, 1, MAX_SIDE)
        one_of("interpolation", self.interpolation, get_args(Interpolation))
        one_of("mode", self.mode, get_args(ImageMode))
        for name, given in (("mean", self.mean), ("std", self.std)):
            values = numbers(name, given)
            if len(values) != self.channels:
                raise ValueError(
                    f"{name} must have {self.channels} numbers for mode {self.mode},"
                    f" not {len(values)}"
                )
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {list(self.std)}")

    @property
    def channels(self) -> int:
        """Return the number of input channels: 3 for RGB, 1 for L."""
        return 3 if self.mode == "RGB" else 1

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Preprocessing:
        """Build from JSON-like data; `crop` may be one number for a square.

        Raises:
            ValueError: A field is missing, unknown or out of range; the message names it.
        """
        reject_unknown("preprocessing", data, tuple(cls.__slots__))
        missing = [name for name in ("crop", "mean", "std") if name not in data]
        if missing:
            raise ValueError(f"preprocessing lacks: {', '.join(missing)}")
        crop = data["crop"]
        sides = tuple(crop) if isinstance(crop, list | tuple) else (crop, crop)
        return cls(
            resize=cast("int | None", data.get("resize")),
            crop=cast("tuple[int, int]", sides),
            mean=numbers("mean", data["mean"]),
            std=numbers("std", data["std"]),
            interpolation=cast("Interpolation", data.get("interpolation", "bilinear")),
            mode=cast("ImageMode", data.get("mode", "RGB")),
        )

    def to_dict(self) -> dict[str, object]:
        """Return JSON-like data that `from_dict` takes back."""
        return {
            "resize": self.resize,
            "crop": list(self.crop),
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "mode": self.mode,
        }


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What has to be known to run a checkpoint file.

    Attributes:
        format: The kind of file.
        architecture: `torchvision:<name>` or a name from `mining.architectures`; "" for onnx
            and torch_export, whose files carry the graph.
        classes: Names in the order of the model's outputs; unique, at least 2, valid labels.
        preprocessing: How an image becomes the input.
    """

    format: ModelFormat
    architecture: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        one_of("format", self.format, get_args(ModelFormat))
        if len(self.classes) < 2:
            raise ValueError("classes must list at least two names")
        if len(self.classes) > MAX_CLASSES:
            raise ValueError(
                f"classes lists {len(self.classes):,} names, more than {MAX_CLASSES:,}"
            )
        if not all(self.classes):
            raise ValueError("classes must be non-empty text")
        for name in self.classes:
            _check_class(name)
        twice = sorted(name for name, n in Counter(self.classes).items() if n > 1)
        if twice:
            raise ValueError(f"classes lists a name twice: {', '.join(twice[:5])}")
        name = self.architecture
        if len(name) > MAX_ARCHITECTURE or not is_storable(name):
            raise ValueError(
                f"architecture must be at most {MAX_ARCHITECTURE} characters without NUL"
                f" or half of a surrogate pair, not {shown(name)}"
            )
        if self.format in ("safetensors", "state_dict") and not self.architecture:
            raise ValueError(f"architecture must be given for the format {self.format}")

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> ModelSpec:
        """Build from JSON-like data.

        Raises:
            ValueError: A field is missing, unknown or wrong; the message names it.
        """
        reject_unknown("the model spec", data, tuple(cls.__slots__))
        missing = [
            name for name in ("format", "classes", "preprocessing") if name not in data
        ]
        if missing:
            raise ValueError(f"the model spec lacks: {', '.join(missing)}")
        classes, preprocessing = data["classes"], data["preprocessing"]
        architecture = data.get("architecture", "")
        if not isinstance(classes, list | tuple) or not all(
            isinstance(name, str) for name in classes
        ):
            raise ValueError(f"classes must be a list of text, not {shown(classes)}")
        if not isinstance(architecture, str):
            raise ValueError(f"architecture must be text, not {shown(architecture)}")  # noqa: TRY004
        return cls(
            format=cast("ModelFormat", data["format"]),
            architecture=architecture,
            classes=tuple(classes),
            preprocessing=Preprocessing.from_dict(
                cast("Mapping[str, object]", preprocessing)
            ),
        )

    def to_dict(self) -> dict[str, object]:
        """Return JSON-like data that `from_dict` takes back."""
        return {
            "format": self.format,
            "architecture": self.architecture,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """How a scan runs; fixed for the whole scan.

    Attributes:
        batch_size: Images in one forward pass, halved when memory runs out; 0 finds it.
        near_miss_below: A right prediction with p_true below this is a near miss (0-1).
        top_k: How many of the most probable classes an outcome keeps.
        precision: "auto" takes bfloat16 where the hardware is fast with it, else float32.
            Probabilities are computed in float32 in any case, and what a lower precision
            leaves near a tie is computed again in float32.
        device: "auto" takes cuda where there is one.
        shard_size: Samples in one shard.
        decode: Where JPEGs are decoded when the model runs on a GPU; "auto" measures both.
        workers: Threads that decode and, on a CPU, run the model; 0 takes one per CPU.
        compile: Whether to optimise the model with torch.compile, which takes minutes.
        p_true: "bound" where imported predictions are a top-k: of a true label that is not
            among them, p_true is the highest that the row allows.
    """

    batch_size: int = 0
    near_miss_below: float = 0.6
    top_k: int = 5
    precision: Precision = "auto"
    device: Device = "auto"
    shard_size: int = 2000
    decode: Decode = "auto"
    workers: int = 0
    compile: bool = False
    p_true: Knowledge = "exact"

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size, 0, 4096)
        whole("workers", self.workers, 0, MAX_WORKERS)
        flag("compile", self.compile)
        one_of("decode", self.decode, get_args(Decode))
        one_of("p_true", self.p_true, get_args(Knowledge))
        whole("top_k", self.top_k, 1, 100)
        whole("shard_size", self.shard_size, 1, 1_000_000)
        one_of("precision", self.precision, get_args(Precision))
        one_of("device", self.device, get_args(Device))
        below = number("near_miss_below", self.near_miss_below)
        if not 0.0 <= below <= 1.0:
            raise ValueError(f"near_miss_below must be from 0 to 1, not {below}")

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> ScanSettings:
        """Build from JSON-like data; missing fields take their defaults.

        Raises:
            ValueError: A field is unknown or out of range; the message names it.
        """
        reject_unknown("scan settings", data, tuple(cls.__slots__))
        return cls(**data)  # type: ignore[arg-type]  # checked in __post_init__

    def to_dict(self) -> dict[str, object]:
        """Return JSON-like data that `from_dict` takes back."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Look:
    """How an image looks, whatever the model; see `mining.looks`.

    Attributes:
        phash: Perceptual hash, 64 bits as a signed number: images that look alike differ in
            few of them. None for an image without any structure.
        brightness: Mean grey, 0-1; higher is brighter.
        contrast: Standard deviation of grey, 0-0.5; higher is more.
        sharpness: Variance of the Laplacian of grey, 0 or more; lower is more blurred.
        width: In pixels, upright.
        height: In pixels, upright.
        file_type: "JPEG", "PNG", ...; "" when the first bytes do not tell.
        size: Of the file, in bytes.
    """

    phash: int | None
    brightness: float
    contrast: float
    sharpness: float
    width: int
    height: int
    file_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scan saw for one sample, right or wrong.

    Attributes:
        id: Identity of the sample, as given in `SampleRef`.
        key: Path relative to the data set's root.
        digest: SHA-256 of the bytes that were read; the registered one when unreadable.
        true: Index of the true label.
        predicted: Index of the predicted class; None when the image could not be read.
        confidence: Probability of the predicted class, 0-1.
        p_true: Probability of the true label, 0-1; lower is harder.
        margin: p(top 1) - p(top 2), 0-1; higher is surer.
        loss: Cross entropy in nats, 0 or more; higher is harder.
        top_classes: Indices of the most probable classes, most probable first.
        top_probs: Their probabilities.
        error: Why the image could not be read; "" when it was.
        look: How the image looks; None where nothing has decoded it on a CPU, as in an
            import.
        fold: Which of the fold models said it, from 0: one that was not trained on this
            image. None where the scan is not out-of-fold.
    """

    id: int
    key: str
    digest: str
    true: int
    predicted: int | None
    confidence: float
    p_true: float
    margin: float
    loss: float
    top_classes: tuple[int, ...]
    top_probs: tuple[float, ...]
    error: str = ""
    look: Look | None = None
    fold: int | None = None

    @classmethod
    def unreadable(cls, sample: SampleRef, error: str) -> Outcome:
        """Return the outcome of a sample whose image could not be read, and why."""
        nan = math.nan
        return cls(
            sample.id,
            sample.key,
            sample.digest or "",
            sample.label,
            None,
            nan,
            nan,
            nan,
            nan,
            (),
            (),
            error,
        )

    @property
    def is_unreadable(self) -> bool:
        """Tell whether the image could not be read."""
        return self.predicted is None

    @property
    def is_error(self) -> bool:
        """Tell whether the model predicted another class; False when unreadable."""
        return self.predicted is not None and self.predicted != self.true

    def is_near_miss(self, below: float) -> bool:
        """Tell whether the prediction is right with p_true under `below` (0-1)."""
        return self.predicted == self.true and self.p_true < below
