"""Run a model over samples: every sample given comes out once, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

import torch

from mining.exceptions import UnreadableImage
from mining.images import decoded
from mining.loading import load_ahead, preprocess
from mining.predictors import Predictor
from mining.scoring import score_batch
from mining.sources.files import read_bytes
from mining.text import storable
from mining.threads import plan_threads
from mining.types import Outcome, Preprocessing, SampleRef, ScanSettings

Read = Callable[[str], bytes]
Keep = Callable[[Outcome, bytes], None]
_NEVER_READ: Final = (
    "could not be read when the data set was registered; register the data set again"
)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A sample with its pixels, or with the reason why there are none."""

    sample: SampleRef
    digest: str = ""
    data: bytes = b""
    pixels: torch.Tensor | None = None  # uint8 (C, H, W)
    error: str = ""


def scan_samples(
    predictor: Predictor,
    samples: Iterable[SampleRef],
    *,
    settings: ScanSettings,
    preprocessing: Preprocessing,
    on_batch: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    read: Read = read_bytes,
    keep: Keep | None = None,
) -> Iterator[list[Outcome]]:
    """Yield the outcomes of each batch; images are decoded ahead of the model.

    A sample that cannot be used (unreadable now or when it was registered, changed since,
    label out of range) comes out as an outcome with the reason. A batch that does not fit in
    the GPU's memory is halved.

    Args:
        predictor: The model.
        samples: Read lazily, a few batches ahead.
        settings: Batch size, near-miss threshold and top k are used here.
        preprocessing: The model spec's.
        on_batch: Called with the number of samples of each batch when it is done.
        should_stop: Asked before each batch; True ends the scan early.
        read: Returns the bytes of a URL.
        keep: Given each error and near miss with the bytes of its image, in this thread.

    Raises:
        BadCheckpoint: The model cannot take the images.
        ConnectionError: The storage cannot be reached; this says nothing of a sample.
        TimeoutError: Likewise.
    """
    plan = plan_threads(
        device=str(getattr(predictor, "device", "cpu")).partition(":")[0]
    )
    torch.set_num_threads(min(torch.get_num_threads(), plan.intra_op))
    load = partial(
        _load, n_classes=predictor.n_classes, preprocessing=preprocessing, read=read
    )
    loaded = load_ahead(
        samples, load, threads=plan.decode, ahead=2 * settings.batch_size + plan.decode
    )
    forward = _Forward(predictor, settings.batch_size)
    try:
        while not (should_stop and should_stop()):
            batch = list(islice(loaded, settings.batch_size))
            if not batch:
                return
            outcomes = _score(forward, batch, settings.top_k)
            if keep is not None:
                _hand_over(keep, outcomes, batch, below=settings.near_miss_below)
            if on_batch is not None:
                on_batch(len(batch))
            yield outcomes
    finally:
        loaded.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator


def _load(
    sample: SampleRef, *, n_classes: int, preprocessing: Preprocessing, read: Read
) -> _Loaded:
    if not 0 <= sample.label < n_classes:
        reason = f"label {sample.label} is not one of the model's {n_classes} classes"
        return _Loaded(sample, error=reason)
    if sample.digest == "":  # what lies there now was never checked: it is not opened
        return _Loaded(sample, error=_NEVER_READ)
    try:
        data = read(sample.url)
        digest = hashlib.sha256(data).hexdigest()
        if sample.digest and digest != sample.digest:
            raise UnreadableImage(  # noqa: TRY301 (one way out for every reason)
                "the file changed since it was registered; register the data set again"
            )
        with decoded(data, mode=preprocessing.mode) as image:
            pixels = preprocess(image, preprocessing)
    except UnreadableImage as error:
        return _Loaded(sample, error=str(error))
    except (ConnectionError, TimeoutError):
        raise
    except FileNotFoundError:
        return _Loaded(sample, error="the file does not exist")
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        return _Loaded(sample, error=storable(reason))
    return _Loaded(sample, digest=digest, data=data, pixels=pixels)


class _Forward:
    """Runs batches, and smaller ones from the moment that memory did not suffice."""

    def __init__(self, predictor: Predictor, limit: int) -> None:
        self._predictor = predictor
        self._limit = limit

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K) of images uint8 (B, C, H, W)."""
        parts: list[torch.Tensor] = []
        done = 0
        while done < len(batch):
            part = batch[done : done + self._limit]
            try:
                parts.append(self._predictor(part))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._limit = len(part) // 2
                torch.cuda.empty_cache()
            else:
                done += len(part)
        return torch.cat(parts)


def _score(forward: _Forward, batch: list[_Loaded], top_k: int) -> list[Outcome]:
    """Return one outcome per sample of the batch, in its order."""
    readable = [item for item in batch if item.pixels is not None]
    scored: Iterator[Outcome] = iter(())
    if readable:
        pixels = torch.stack(
            [item.pixels for item in readable if item.pixels is not None]
        )
        scored = _outcomes(forward(pixels), readable, top_k)
    return [
        next(scored)
        if item.pixels is not None
        else Outcome.unreadable(item.sample, item.error)
        for item in batch
    ]


def _outcomes(
    logits: torch.Tensor, items: list[_Loaded], top_k: int
) -> Iterator[Outcome]:
    true = torch.tensor([item.sample.label for item in items])
    scores = score_batch(logits, true, top_k)
    columns = zip(
        items,
        torch.isfinite(logits).all(1).tolist(),
        scores.predicted.tolist(),
        scores.confidence.tolist(),
        scores.p_true.tolist(),
        scores.margin.tolist(),
        scores.loss.tolist(),
        scores.top_classes.tolist(),
        scores.top_probs.tolist(),
        strict=True,
    )
    for (
        item,
        finite,
        predicted,
        confidence,
        p_true,
        margin,
        loss,
        top,
        probs,
    ) in columns:
        sample = item.sample
        if not finite:
            yield Outcome.unreadable(sample, "the model's output is not a number")
            continue
        yield Outcome(
            id=sample.id,
            key=sample.key,
            digest=item.digest,
            true=sample.label,
            predicted=predicted,
            confidence=confidence,
            p_true=p_true,
            margin=margin,
            loss=loss,
            top_classes=tuple(top),
            top_probs=tuple(probs),
        )


def _hand_over(
    keep: Keep, outcomes: list[Outcome], batch: list[_Loaded], *, below: float
) -> None:
    for outcome, item in zip(outcomes, batch, strict=True):
        if outcome.is_error or outcome.is_near_miss(below):
            keep(outcome, item.data)
