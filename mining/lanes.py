"""Take files to outcomes: decode, run the model, check again, score, keep pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from mining.exceptions import UnreadableImage
from mining.images import decoded
from mining.loading import Pixels, load_pixels
from mining.pace import Pace
from mining.predictors import Predictor
from mining.reading import FileRead, Reading
from mining.recheck import Recheck, in_parts
from mining.scoring import score_batch
from mining.types import Outcome, Preprocessing, ScanSettings

Keep = Callable[[Outcome, bytes], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """Files with their pixels.

    Attributes:
        number: Counts the batches of a scan from 0.
        files: B files as they were read.
        errors: Why each cannot be used, "" where it can.
        pixels: uint8 (n, C, H, W) of the n usable ones, in their order.
    """

    number: int
    files: Sequence[FileRead]
    errors: Sequence[str]
    pixels: torch.Tensor

    @property
    def usable(self) -> list[FileRead]:
        """Return the n files that have pixels."""
        return [
            file
            for file, error in zip(self.files, self.errors, strict=True)
            if not error
        ]

    @property
    def true(self) -> torch.Tensor:
        """Return the labels int64 (n,) of the usable files."""
        return torch.tensor([file.sample.label for file in self.usable])


class Lane:
    """The way of a batch through one thread; any number of threads may run it.

    Args:
        predictor: The model.
        settings: Near-miss threshold and top k are used here.
        preprocessing: The model spec's.
        keep: Given the outcomes that people will look at.
        pace: Gets the seconds of each part.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        settings: ScanSettings,
        preprocessing: Preprocessing,
        keep: Keep | None,
        pace: Pace,
    ) -> None:
        self.predictor = predictor
        self.preprocessing = preprocessing
        self.pace = pace
        self._settings = settings
        self._keep = keep
        self._recheck = Recheck(
            predictor, near_miss_below=settings.near_miss_below, pace=pace
        )

    def __call__(self, reading: Reading) -> list[Outcome]:
        """Return one outcome per file, in their order."""
        with ExitStack() as failing:
            if reading.number == 0:
                failing.callback(self._recheck.give_up)
            with self.pace.measure("wait_s"):
                files = [future.result() for future in reading.files]
            with self.pace.measure("decode_s"):
                rows = self.empty(len(files))
                errors = self.decode(files, rows.numpy())
                batch = self.batch(reading.number, files, errors, rows)
            with self.pace.measure("model_s"):
                logits = self.checked(batch, self.logits(batch), batch.pixels)
        return self.finish(batch, logits)

    def empty(self, size: int, *, pinned: bool = False) -> torch.Tensor:
        """Return memory for pixels, uint8 (B, H, W, C): the layout that models are fast in."""
        height, width = self.preprocessing.crop
        shape = (size, height, width, self.preprocessing.channels)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)

    def decode(self, files: Sequence[FileRead], rows: Pixels) -> list[str]:
        """Write the pixels of each file into its row; return the errors.

        Args:
            files: B files.
            rows: uint8 (B, H, W, C); the row of a file with an error is not written.
        """
        return [self._decode(file, row) for file, row in zip(files, rows, strict=True)]

    def _decode(self, file: FileRead, row: Pixels) -> str:
        if file.error:
            return file.error
        try:
            row[:] = load_pixels(file.data, self.preprocessing)
        except UnreadableImage as error:
            return str(error)
        return ""

    def batch(
        self,
        number: int,
        files: Sequence[FileRead],
        errors: Sequence[str],
        rows: torch.Tensor,
    ) -> Batch:
        """Put number, files, errors and rows uint8 (B, H, W, C) together."""
        usable = [n for n, error in enumerate(errors) if not error]
        kept = rows if len(usable) == len(files) else rows[usable]
        return Batch(number, files, errors, kept.permute(0, 3, 1, 2))

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return what the model gives for the usable files, float32 (n, K)."""
        parts = in_parts(self.predictor, self.predictor, batch.pixels)
        return self.joined(parts)

    def joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Return logits of parts as one (n, K), also where nothing was usable."""
        return torch.cat([torch.empty(0, self.predictor.n_classes), *parts])

    def checked(
        self, batch: Batch, logits: torch.Tensor, exact: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the logits (n, K) with those near a tie computed again in float32.

        Args:
            batch: The files.
            logits: float32 (n, K).
            exact: Their pixels uint8 (n, C, H, W) as Pillow decodes them; None decodes the
                files that are needed.
        """

        def pixels(rows: list[int]) -> torch.Tensor:
            if exact is not None:
                return exact[rows]
            files = [batch.usable[row] for row in rows]
            again = self.empty(len(files))
            self.decode(files, again.numpy())
            return again.permute(0, 3, 1, 2)

        return self._recheck(logits, batch.true, first=batch.number == 0, pixels=pixels)

    def finish(self, batch: Batch, logits: torch.Tensor) -> list[Outcome]:
        """Return one outcome per file, and hand over those that people will look at."""
        scored = _outcomes(logits, batch, self._settings.top_k)
        outcomes = [
            Outcome.unreadable(file.sample, error) if error else next(scored)
            for file, error in zip(batch.files, batch.errors, strict=True)
        ]
        if self._keep is not None:
            with self.pace.measure("decode_s"):
                for outcome, file in zip(outcomes, batch.files, strict=True):
                    if self._is_looked_at(outcome, file):
                        self._keep(outcome, file.data)
        return outcomes

    def _is_looked_at(self, outcome: Outcome, file: FileRead) -> bool:
        if not outcome.is_unreadable:
            below = self._settings.near_miss_below
            return outcome.is_error or outcome.is_near_miss(below)
        return bool(file.data) and _can_be_seen(file.data)


def _can_be_seen(data: bytes) -> bool:
    try:
        with decoded(data, mode=None):
            return True
    except UnreadableImage:
        return False


def _outcomes(logits: torch.Tensor, batch: Batch, top_k: int) -> Iterator[Outcome]:
    """Yield the outcomes of the usable files."""
    if not len(logits):
        return
    scores = score_batch(logits, batch.true, top_k)
    columns = zip(
        batch.usable,
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
    for file, finite, predicted, sure, p_true, margin, loss, top, probs in columns:
        sample = file.sample
        if not finite:
            yield Outcome.unreadable(sample, "the model's output is not a number")
            continue
        yield Outcome(
            id=sample.id,
            key=sample.key,
            digest=file.digest,
            true=sample.label,
            predicted=predicted,
            confidence=sure,
            p_true=p_true,
            margin=margin,
            loss=loss,
            top_classes=tuple(top),
            top_probs=tuple(probs),
        )
