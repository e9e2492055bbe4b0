"""Honest predictions for the samples that a model is trained on: each from a fold model.

A model that has seen an image with a wrong label may have learnt that label by heart. Of k
fold models each is trained without one k-th of the images, and judges these.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from mining.exceptions import MiningError
from mining.threads import available_cpus
from mining.training.settings import StateStore, TrainSample, TrainSettings
from mining.types import ModelSpec, SampleRef

Probabilities = npt.NDArray[np.float32]
OnFoldStep = Callable[[int, int, int, int], None]

MAX_FOLDS: Final = 20
_PIECE: Final = 16  # images that one thread reads at a time
_AHEAD: Final = 8
_DONE: Final = b""  # a training state that takes no room


@dataclass(frozen=True, slots=True)
class FoldSample:
    """One image of the training split.

    Attributes:
        key: Its key in the data set.
        url: What fsspec opens.
        label: Class name as the data set has it.
        digest: SHA-256 of its bytes in hex; it decides the fold.
    """

    key: str
    url: str
    label: str
    digest: str


class FoldStore(Protocol):
    """Keeps what a run over all folds can go on from."""

    def training(self, fold: int) -> StateStore:
        """Return where the state of a fold model's training goes."""
        ...

    def judged(self, fold: int) -> StateStore:
        """Return where a fold's probabilities go once they are there."""
        ...


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What the fold models say, in the order of the samples.

    Attributes:
        pred_probs: float32 (N, K), probabilities; NaN for an image that cannot be read.
        folds: int64 (N,), the fold of each, from 0.
        notes: What a person should know.
    """

    pred_probs: Probabilities
    folds: npt.NDArray[np.int64]
    notes: tuple[str, ...]


def fold_of(digest: str, folds: int) -> int:
    """Return the fold of an image, 0 to folds - 1; copies of an image are in one fold.

    It depends on nothing else, so an image stays in its fold whatever is added.

    >>> fold_of("ab" * 32, 5) == fold_of("ab" * 32, 5)
    True
    """
    lot = hashlib.sha256(digest.encode()).digest()
    return int.from_bytes(lot[:8], "big") % folds


def out_of_fold(
    *,
    parent: str,
    spec: ModelSpec,
    samples: Sequence[FoldSample],
    val: Sequence[TrainSample],
    folds: int,
    settings: TrainSettings,
    store: FoldStore,
    on_step: OnFoldStep | None = None,
) -> OutOfFold:
    """Train a model without each fold, from new weights, and let it judge that fold.

    A run that was killed goes on where it was and ends in the same numbers.

    Args:
        parent: Path or URL of the checkpoint whose architecture to take.
        spec: What `mining.specs.read_spec` gives for it.
        samples: The training split.
        val: Samples for early stopping; none of `samples`.
        folds: How many, 2-20.
        settings: How to train each; `start` must be "scratch", since the parent may have
            seen every sample.
        store: Where to keep what is done.
        on_step: Called with fold and epoch (from 1), samples done and samples in the epoch;
            may raise to stop.

    Raises:
        ValueError: `folds` or `start` is out of range.
        BadCheckpoint: The parent cannot be used.
        MiningError: The samples are too few, or a model cannot be trained on them.
        ConnectionError: The storage cannot be reached.
    """
    if not 2 <= folds <= MAX_FOLDS:
        raise ValueError(f"folds must be from 2 to {MAX_FOLDS}, not {folds}")
    if settings.start != "scratch":
        raise ValueError(
            'start must be "scratch": the parent may have seen the samples'
        )
    places = np.array([fold_of(item.digest, folds) for item in samples], np.int64)
    if len(set(places.tolist())) < folds:
        raise MiningError(
            f"{len(samples):,} samples are too few for {folds} folds: one would be empty."
            " Nothing was trained. Use fewer folds."
        )
    found = np.full((len(samples), len(spec.classes)), np.nan, np.float32)
    notes: list[str] = []
    for fold in range(folds):
        inside = np.flatnonzero(places == fold)
        one = _Fold(
            number=fold,
            parent=parent,
            spec=spec,
            held=[samples[n] for n in inside.tolist()],
            train=[
                TrainSample(item.key, item.url, item.label, item.digest)
                for item, place in zip(samples, places, strict=True)
                if place != fold
            ],
            val=val,
            settings=settings,
        )
        found[inside], told = _judged(one, store, on_step)
        notes += (f"Fold {fold + 1}: {note}" for note in told)
    return OutOfFold(found, places, tuple(notes))


@dataclass(frozen=True, slots=True)
class _Fold:
    """One fold: what it holds back and what its model is trained on."""

    number: int
    parent: str
    spec: ModelSpec
    held: Sequence[FoldSample]
    train: Sequence[TrainSample]
    val: Sequence[TrainSample]
    settings: TrainSettings

    @property
    def made_of(self) -> str:
        """Return a digest of all that decides its probabilities."""
        parts = [
            self.spec.to_dict(),
            replace(self.settings, workers=0).to_dict(),
            [[item.key, item.digest, item.label] for item in self.held],
            [[item.key, item.label, item.digest] for item in (*self.train, *self.val)],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _judged(
    fold: _Fold, store: FoldStore, on_step: OnFoldStep | None
) -> tuple[Probabilities, tuple[str, ...]]:
    """Return the probabilities of a fold, kept ones where there are."""
    judged = store.judged(fold.number)
    made_of = fold.made_of
    shape = (len(fold.held), len(fold.spec.classes))
    kept = _unpacked(judged.load(), made_of, shape)
    if kept is not None:
        return kept, ()
    # Here, as whoever asks for a fold number alone needs no torch.
    from mining.training.trainer import retrain  # noqa: PLC0415 (loads torch)

    def told(epoch: int, done: int, samples: int) -> None:
        if on_step is not None:
            on_step(fold.number + 1, epoch, done, samples)

    training = store.training(fold.number)
    with tempfile.TemporaryDirectory(prefix="fold-") as folder:
        out = Path(folder) / "fold.safetensors"
        trained = retrain(
            parent=fold.parent,
            spec=fold.spec,
            train=fold.train,
            val=fold.val,
            recipe=None,
            settings=fold.settings,
            out=out,
            state=_StateOf(training, made_of.encode()),
            on_step=told,
        )
        probabilities = _predicted(str(out), fold)
    judged.save(made_of.encode() + probabilities.tobytes())
    training.save(_DONE)
    return probabilities, trained.notes


class _StateOf:
    """The state of a fold's training; of a fold that was made of something else, none."""

    def __init__(self, store: StateStore, made_of: bytes) -> None:
        self._store = store
        self._made_of = made_of

    def load(self) -> bytes | None:
        data = self._store.load()
        if data is None or not data.startswith(self._made_of):
            return None
        return data[len(self._made_of) :]

    def save(self, data: bytes) -> None:
        self._store.save(self._made_of + data)


def _unpacked(
    data: bytes | None, made_of: str, shape: tuple[int, int]
) -> Probabilities | None:
    """Return kept probabilities; None when there are none of this fold."""
    size = len(made_of)
    if data is None or data[:size] != made_of.encode():
        return None
    if len(data) - size != shape[0] * shape[1] * np.dtype(np.float32).itemsize:
        return None
    return np.frombuffer(data, np.float32, offset=size).reshape(shape)


def _predicted(checkpoint: str, fold: _Fold) -> Probabilities:
    """Return float32 (n, K) for the samples held back, NaN where one is unreadable."""
    from mining.checkpoints import load_model  # noqa: PLC0415 (loads torch)
    from mining.loading import load_ahead  # noqa: PLC0415 (loads torch)
    from mining.training.pixels import Pixels  # noqa: PLC0415 (loads torch)

    spec = replace(fold.spec, format="safetensors")
    predictor = load_model(checkpoint, spec, device=fold.settings.device)
    samples = [
        SampleRef(n, item.key, item.url, 0, item.digest)
        for n, item in enumerate(fold.held)
    ]
    pixels = Pixels(samples, spec.preprocessing, n_classes=len(spec.classes), room=0)
    found = np.full((len(samples), len(spec.classes)), np.nan, np.float32)
    threads = fold.settings.workers or available_cpus()
    pieces = [
        range(n, min(n + _PIECE, len(samples))) for n in range(0, len(samples), _PIECE)
    ]
    loaded = load_ahead(pieces, pixels.rows, threads=threads, ahead=threads + _AHEAD)
    for piece, (rows, places) in zip(pieces, loaded, strict=True):
        if len(rows):
            logits = predictor(rows.permute(0, 3, 1, 2))
            found[piece.start + places.numpy()] = logits.double().softmax(1).numpy()
    return found
