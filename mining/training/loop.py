"""The training loop: steps, epochs, early stopping, and going on where a run was killed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Final, TypeVar

import torch
from torch import nn
from torch.nn import functional

from mining.exceptions import MiningError
from mining.predictors import Normaliser, resolve_device, resolve_precision
from mining.training.batches import Batch, Batches, seed_of
from mining.training.losses import SHARE, focal_loss, hard_example_loss, hardest
from mining.training.settings import (
    EpochFigures,
    OnEpoch,
    OnStep,
    StateStore,
    TrainSettings,
)
from mining.training.state import RunState, pack, unpack
from mining.types import Preprocessing

T = TypeVar("T")

_SAVE_EVERY_S: Final = 60.0
_WARM_SHARE: Final = 0.05
_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_RESTARTED: Final = (
    "The saved state was damaged and could not be read, so the training began again."
)


class Loop:
    """Trains one network.

    Attributes:
        model: The network, on its device.
        run: Where it is.
        notes: What a person should know.
        device: Where it runs.
        stopped_early: Whether patience ended it.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        *,
        class_weights: torch.Tensor,
        preprocessing: Preprocessing,
        settings: TrainSettings,
        made_of: dict[str, str],
        state: StateStore,
        has_val: bool,
        samples: int,
    ) -> None:
        """Put the network on its device.

        Args:
            model: In float32; it is changed.
            batches: What to train on and to validate with.
            class_weights: float32 (K,).
            preprocessing: Its mean and standard deviation are used.
            settings: How.
            made_of: What the run was given, as digests by name.
            state: Where to save to.
            has_val: Whether there is anything to validate with.
            samples: Items in an epoch.

        Raises:
            BadCheckpoint: cuda was asked for and this machine has none.
        """
        self.device = resolve_device(settings.device)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks memory_format with a device
        self._norms = [part for part in model.modules() if isinstance(part, _NORMS)]
        self._batches = batches
        self._class_weights = class_weights
        self._dtype = resolve_precision(settings.precision, self.device)
        self._normalise = Normaliser(preprocessing, self.device)
        self._settings = settings
        self._made_of = made_of
        self._state = state
        self._has_val = has_val
        self._samples = samples
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.run = RunState(micro=settings.batch_size)
        self.notes: list[str] = []

    @property
    def stopped_early(self) -> bool:
        """Tell whether the val loss has not improved for as long as patience allows."""
        patience, done = self._settings.patience, len(self.run.figures)
        late = self.run.best_epoch and done - self.run.best_epoch >= patience > 0
        return bool(late) and done < self._settings.epochs

    def resume(self) -> None:
        """Go on from the saved state when there is one.

        Raises:
            MiningError: It is of another run.
        """
        data = self._state.load()
        if data is None:
            return
        found = unpack(data, self.model, self._optimizer, made_of=self._made_of)
        if found is None:
            self.notes.append(_RESTARTED)
        else:
            self.run = found

    def go(self, *, on_step: OnStep | None, on_epoch: OnEpoch | None) -> None:
        """Train to the end; the network then has the best epoch's weights.

        Args:
            on_step: Called after each step; what it raises ends the run, which can be
                resumed.
            on_epoch: Called with the figures of each epoch, once they are saved.

        Raises:
            MiningError: Memory is too small, or the loss is no number any more.
        """
        while self.run.epoch < self._settings.epochs and not self.stopped_early:
            self._train_epoch(on_step)
            self._end_epoch()
            if on_epoch is not None:
                on_epoch(self.run.figures[-1])
        if self.run.best:
            self.model.load_state_dict(self.run.best)

    def _train_epoch(self, on_step: OnStep | None) -> None:
        run, started = self.run, time.monotonic()
        before, saved = run.seconds, started
        self.model.train()
        with closing(self._batches.train(run.epoch, first=run.step)) as batches:
            for batch in batches:
                self._step(batch)
                run.step += 1
                run.seconds = before + time.monotonic() - started
                if time.monotonic() - saved >= _SAVE_EVERY_S:
                    saved = time.monotonic()
                    self._save()
                if on_step is not None:
                    done = min(
                        run.step * self._samples // self._batches.steps, self._samples
                    )
                    on_step(run.epoch + 1, done, self._samples)

    def _step(self, batch: Batch) -> None:
        run = self.run
        if not len(batch):
            return
        number = run.epoch * self._batches.steps + run.step
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.lr * _share_of_lr(
                number, self._settings.epochs * self._batches.steps
            )
        loss = self._fitting(lambda: self._gradients(batch, number))
        self._require_number("loss", loss)
        self._optimizer.step()
        run.loss_sum += loss * len(batch)
        run.seen += len(batch)

    def _require_number(self, name: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise MiningError(
                f"The {name} became {loss} in epoch {self.run.epoch + 1}. No model was"
                f" written. Try a smaller lr than {self._settings.lr:g}."
            )

    def _gradients(self, batch: Batch, number: int) -> float:
        """Fill in the gradients of a batch; return its loss."""
        seed = seed_of(self._settings.seed, f"step {number}")
        weights = self._class_weights[batch.labels].double()
        if self._settings.loss == "hard_examples":
            if len(batch) > self.run.micro:
                torch.manual_seed(seed)
                batch = self._hardest_alone(batch)
            weights = weights * ~batch.ignored
        torch.manual_seed(seed)
        self._optimizer.zero_grad()
        total, start, summed = float(weights.sum()), 0, 0.0
        for part in batch.split(self.run.micro):
            share = float(weights[start : start + len(part)].sum()) / (total or 1.0)
            start += len(part)
            is_whole = len(part) == len(batch)
            loss = self._loss(self._logits(part), part, is_whole=is_whole) * share
            loss.backward()  # type: ignore[no-untyped-call]
            summed += float(loss.detach())
        return summed

    @torch.no_grad()
    def _hardest_alone(self, batch: Batch) -> Batch:
        """Return a batch of several parts with all ignored but its hardest samples.

        What is hard is known only when all parts went through the network once.
        """
        before = [buffer.clone() for buffer in self.model.buffers()]
        losses = [
            functional.cross_entropy(
                self._logits(part), part.labels.to(self.device), reduction="none"
            ).cpu()
            for part in batch.split(self.run.micro)
        ]
        # The statistics of norms, which the same parts are about to change.
        for buffer, value in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(value)
        ignored = torch.ones_like(batch.ignored)
        ignored[hardest(torch.cat(losses), ignore=batch.ignored)] = False
        return replace(batch, ignored=ignored)

    def _logits(self, part: Batch) -> torch.Tensor:
        pixels = part.pixels
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        x = self._normalise(pixels).contiguous(memory_format=torch.channels_last)
        if self.model.training:
            for norm in self._norms:  # one sample has no spread of its own
                norm.train(len(part) > 1)
        enabled = self._dtype != torch.float32
        with torch.autocast(self.device.type, self._dtype, enabled=enabled):
            output = self.model(x)
        # GoogLeNet and Inception give more while they train.
        logits: torch.Tensor = getattr(output, "logits", output)
        return logits.float()

    def _loss(
        self, logits: torch.Tensor, part: Batch, *, is_whole: bool
    ) -> torch.Tensor:
        labels = part.labels.to(self.device)
        weights = self._class_weights.to(self.device)
        if self._settings.loss == "focal":
            return focal_loss(logits, labels, class_weights=weights)
        if self._settings.loss == "hard_examples":
            # Of a part of a batch, all but the hardest are ignored by now.
            return hard_example_loss(
                logits,
                labels,
                share=SHARE if is_whole else 1.0,
                ignore=part.ignored,
                class_weights=weights,
            )
        return functional.cross_entropy(logits, labels, weight=weights)

    def _end_epoch(self) -> None:
        run = self.run
        if not run.seen:
            reasons = "; ".join(list(run.unreadable.values())[:1])
            raise MiningError(
                f"None of the images to train on can be read ({reasons}). No model was"
                " written. Check that this machine sees the data set."
            )
        started = time.monotonic()
        loss, accuracy = self._validated() if self._has_val else (None, None)
        seconds = run.seconds + time.monotonic() - started
        mean = run.loss_sum / run.seen
        run.figures.append(
            EpochFigures(run.epoch + 1, mean, loss, accuracy, round(seconds, 3))
        )
        self._keep_best(loss)
        run.epoch, run.step = run.epoch + 1, 0
        run.loss_sum, run.seen, run.seconds = 0.0, 0, 0.0
        self._save()

    def _keep_best(self, loss: float | None) -> None:
        run = self.run
        if loss is None or not self._settings.patience:
            return
        best = run.figures[run.best_epoch - 1].val_loss if run.best_epoch else None
        if best is None or loss < best:
            run.best_epoch = run.epoch + 1
            run.best = {
                name: value.detach().cpu().clone()
                for name, value in self.model.state_dict().items()
            }

    @torch.no_grad()
    def _validated(self) -> tuple[float | None, float | None]:
        """Return mean cross entropy and accuracy; None when no image can be read."""
        self.model.eval()
        summed, right, seen = 0.0, 0, 0
        with closing(self._batches.val()) as batches:
            for batch in batches:
                if len(batch):
                    loss, correct = self._fitting(lambda: self._judged(batch))  # noqa: B023
                    summed, right, seen = (
                        summed + loss,
                        right + correct,
                        seen + len(batch),
                    )
        if not seen:
            return None, None
        # Nothing is below a nan: no later epoch would be the best one.
        self._require_number("val loss", summed)
        return summed / seen, right / seen

    def _judged(self, batch: Batch) -> tuple[float, int]:
        summed, right = 0.0, 0
        for part in batch.split(self.run.micro):
            logits, labels = self._logits(part), part.labels.to(self.device)
            summed += float(functional.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
        return summed, right

    def _fitting(self, work: Callable[[], T]) -> T:
        """Return what `work` does, in smaller parts when memory runs out.

        Raises:
            MiningError: Not even one sample fits.
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError as error:
                if self.run.micro == 1:
                    raise MiningError(
                        "The memory does not hold the model and one image to train it"
                        " with. No model was written. Use a device with more memory."
                    ) from error
            # Outside, where the error no longer holds the tensors of the attempt.
            self.run.micro = -(-self.run.micro // 2)
            self._optimizer.zero_grad()
            torch.cuda.empty_cache()

    def _save(self) -> None:
        data = pack(self.run, self.model, self._optimizer, made_of=self._made_of)
        self._state.save(data)


def _share_of_lr(step: int, steps: int) -> float:
    """Return the share of the highest learning rate, above 0 up to 1."""
    rise = max(1, round(_WARM_SHARE * steps))
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / rise) * fall
