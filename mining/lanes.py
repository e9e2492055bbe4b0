"""Take files to outcomes: decode, run the model, check again, score, keep pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch

from mining.exceptions import UnreadableImage
from mining.images import decoded
from mining.loading import Pixels, load_pixels
from mining.looks import look_at
from mining.pace import Pace
from mining.predictors import Predictor
from mining.reading import FileRead, Reading
from mining.recheck import Recheck, in_parts
from mining.scoring import score_batch
from mining.types import Look, Outcome, Preprocessing, ScanSettings

Keep = Callable[[Outcome, bytes], None]

T = TypeVar("T")


class Decoded(NamedTuple):
    """What decoding a file gave besides its pixels.

    Attributes:
        error: Why the file cannot be used, "" where it can.
        look: How the image looks; None where it cannot be used, or a GPU decoded it.
    """

    error: str = ""
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Files with their pixels.

    Attributes:
        number: Counts the batches of a scan from 0.
        files: B files as they were read.
        decoded: What each of them gave.
        pixels: uint8 (n, C, H, W) of the n usable ones, in their order.
    """

    number: int
    files: Sequence[FileRead]
    decoded: Sequence[Decoded]
    pixels: torch.Tensor

    @property
    def usable(self) -> list[tuple[FileRead, Look | None]]:
        """Return the n files that have pixels, each with its look."""
        return [
            (file, look)
            for file, (error, look) in zip(self.files, self.decoded, strict=True)
            if not error
        ]

    @property
    def true(self) -> torch.Tensor:
        """Return the labels int64 (n,) of the usable files."""
        return torch.tensor([file.sample.label for file, _ in self.usable])


@dataclass(frozen=True, slots=True)
class Late:
    """A file whose outcome float32 has to decide, with others of later batches.

    Attributes:
        number: Of its batch.
        outcomes: Of its batch; what they say of this file does not count yet.
        place: Of its outcome there.
        file: As it was read.
        decoded: What it gave.
        pixels: uint8 (C, H, W).
    """

    number: int
    outcomes: list[Outcome]
    place: int
    file: FileRead
    decoded: Decoded
    pixels: torch.Tensor


class Passed(NamedTuple):
    """A batch that went through a lane.

    Attributes:
        outcomes: One per file, in their order.
        late: Files whose outcomes `Lane.settle` still has to replace.
    """

    outcomes: list[Outcome]
    late: list[Late]


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
            predictor,
            near_miss_below=settings.near_miss_below,
            pace=pace,
            is_needed=settings.precision != "auto",
        )

    def __call__(self, reading: Reading) -> Passed:
        """Return one outcome per file, some of which may not count yet."""
        with ExitStack() as failing:
            failing.callback(self._recheck.give_up, reading.number)
            with self.pace.measure("wait_s"):
                files = [read() for read in reading.files]
            with self.pace.measure("decode_s"):
                rows = self.empty(len(files))
                found = self.decode(files, rows.numpy())
                batch = self.batch(reading.number, files, found, rows)
            with self.pace.measure("model_s"):
                parts = self.launched(batch, self.predictor)
                logits = None if parts is None else self.joined(parts)
                late = self._recheck.later(logits, batch.true, number=batch.number)
                if logits is None or late is None:
                    logits = self.checked(batch, parts, batch.pixels)
            failing.pop_all()
        return self._passed(batch, logits, late or [])

    def _passed(
        self, batch: Batch, logits: torch.Tensor, rows: Sequence[int]
    ) -> Passed:
        """Finish a batch but for these of its n rows of pixels."""
        usable = [n for n, (error, _) in enumerate(batch.decoded) if not error]
        places = [usable[row] for row in rows]
        outcomes = self.finish(batch, logits, but=places)
        late = [
            Late(
                number=batch.number,
                outcomes=outcomes,
                place=place,
                file=batch.files[place],
                decoded=batch.decoded[place],
                pixels=batch.pixels[row].clone(),
            )
            for row, place in zip(rows, places, strict=True)
        ]
        return Passed(outcomes, late)

    def settle(self, late: Sequence[Late]) -> None:
        """Put the outcomes that float32 gives where those that do not count yet are."""
        batch = Batch(
            number=late[0].number,
            files=[one.file for one in late],
            decoded=[one.decoded for one in late],
            pixels=torch.stack([one.pixels for one in late]),
        )
        with self.pace.measure("model_s"):
            logits = self._recheck.exact(batch.pixels)
        changed = 0
        for one, outcome in zip(late, self.finish(batch, logits), strict=True):
            changed += one.outcomes[one.place].predicted != outcome.predicted
            one.outcomes[one.place] = outcome
        self.pace.count(rechecked=len(late), changed=changed)

    def empty(self, size: int, *, pinned: bool = False) -> torch.Tensor:
        """Return memory for pixels, uint8 (B, H, W, C): the layout that models are fast in."""
        height, width = self.preprocessing.crop
        shape = (size, height, width, self.preprocessing.channels)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)

    def decode(self, files: Sequence[FileRead], rows: Pixels) -> list[Decoded]:
        """Write the pixels of each file into its row; return what else it gave.

        Args:
            files: B files.
            rows: uint8 (B, H, W, C); the row of a file with an error is not written.
        """
        return [self._decode(file, row) for file, row in zip(files, rows, strict=True)]

    def _decode(self, file: FileRead, row: Pixels) -> Decoded:
        if file.error:
            return Decoded(file.error)
        try:
            row[:], look = load_pixels(file.data, self.preprocessing)
        except UnreadableImage as error:
            return Decoded(str(error))
        return Decoded(look=look)

    def batch(
        self,
        number: int,
        files: Sequence[FileRead],
        found: Sequence[Decoded],
        rows: torch.Tensor,
    ) -> Batch:
        """Put number, files, what they gave and rows uint8 (B, H, W, C) together."""
        usable = [n for n, (error, _) in enumerate(found) if not error]
        kept = rows if len(usable) == len(files) else rows[usable]
        return Batch(number, files, found, kept.permute(0, 3, 1, 2))

    def launched(
        self, batch: Batch, run: Callable[[torch.Tensor], T]
    ) -> list[T] | None:
        """Return what `run` gives for the usable files, in parts that fit in the memory.

        None: float32 computes them all, in `checked`.
        """
        if self._recheck.is_too_coarse:
            return None
        return in_parts(self.predictor, run, batch.pixels)

    def joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Return logits of parts as one (n, K), also where nothing was usable."""
        return torch.cat([torch.empty(0, self.predictor.n_classes), *parts])

    def checked(
        self,
        batch: Batch,
        parts: list[torch.Tensor] | None,
        exact: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the logits (n, K) with those near a tie computed again in float32.

        Args:
            batch: The files.
            parts: Their logits, float32 (n, K) in all; None: float32 computes them all.
            exact: Their pixels uint8 (n, C, H, W) as Pillow decodes them; None decodes the
                files that are needed.
        """

        def pixels(rows: list[int]) -> torch.Tensor:
            if exact is not None:
                return exact[rows]
            usable = batch.usable
            files = [usable[row][0] for row in rows]
            again = self.empty(len(files))
            self.decode(files, again.numpy())
            return again.permute(0, 3, 1, 2)

        logits = None if parts is None else self.joined(parts)
        return self._recheck(logits, batch.true, number=batch.number, pixels=pixels)

    def finish(
        self, batch: Batch, logits: torch.Tensor, *, but: Collection[int] = ()
    ) -> list[Outcome]:
        """Return one outcome per file, and hand over those that people will look at.

        Args:
            batch: The files.
            logits: float32 (n, K) of the usable ones.
            but: Places of files that are not handed over yet.
        """
        scored = _outcomes(logits, batch, self._settings.top_k)
        outcomes = [
            Outcome.unreadable(file.sample, error) if error else next(scored)
            for file, (error, _) in zip(batch.files, batch.decoded, strict=True)
        ]
        with self.pace.measure("decode_s"):
            return [
                self._kept(outcome, file)
                if place not in but and self._is_looked_at(outcome, file)
                else outcome
                for place, (outcome, file) in enumerate(
                    zip(outcomes, batch.files, strict=True)
                )
            ]

    def _kept(self, outcome: Outcome, file: FileRead) -> Outcome:
        """Return an outcome that people will look at, and hand it over."""
        if outcome.look is None and not outcome.is_unreadable:  # a GPU decoded it
            with suppress(UnreadableImage):
                outcome = replace(outcome, look=look_at(file.data))
        if self._keep is not None:
            self._keep(outcome, file.data)
        return outcome

    def _is_looked_at(self, outcome: Outcome, file: FileRead) -> bool:
        if not outcome.is_unreadable:
            below = self._settings.near_miss_below
            return outcome.is_error or outcome.is_near_miss(below)
        return self._keep is not None and bool(file.data) and _can_be_seen(file.data)


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
    for used, finite, predicted, sure, p_true, margin, loss, top, probs in columns:
        file, look = used
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
            look=look,
        )
