"""Run a model over samples: every sample given comes out once, in order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Final, TypeVar

import torch

from mining.feeder import feed, fitting_batch
from mining.lanes import Keep, Lane
from mining.late import run_lanes
from mining.pace import Pace
from mining.predictors import Predictor
from mining.reading import ReadBytes, Reader
from mining.sources.files import read_bytes
from mining.threads import ThreadPlan, limit_arenas, plan_threads
from mining.types import Outcome, Preprocessing, SampleRef, ScanSettings

T = TypeVar("T")

_AHEAD: Final = 2  # batches that wait for a lane, read already


def scan_samples(
    predictor: Predictor,
    samples: Iterable[SampleRef],
    *,
    settings: ScanSettings,
    preprocessing: Preprocessing,
    on_batch: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    read: ReadBytes = read_bytes,
    keep: Keep | None = None,
    pace: Pace | None = None,
) -> Generator[list[Outcome], None, None]:
    """Yield the outcomes of each batch; batches are worked on side by side, in threads.

    On a CPU each thread takes a batch, decodes it and runs the model on it alone; for a GPU
    threads decode and the calling one feeds. The batches are made of the same samples in
    every run, so a CPU gives the same outcomes to the last bit. On a GPU, name `batch_size`
    and `decode` for that: what "auto" finds depends on the free memory and on time.

    A sample that cannot be used (unreadable now or when it was registered, changed since,
    label out of range) comes out as an outcome with the reason. A batch that does not fit in
    the GPU's memory is halved. Below float32, outcomes that rounding could turn are computed
    again in float32 (see `mining.recheck`).

    Args:
        predictor: The model.
        samples: Read lazily, a few batches ahead, in the calling thread.
        settings: How to run; precision, device and compile are the predictor's.
        preprocessing: The model spec's.
        on_batch: Called with the number of samples of each batch when it is done.
        should_stop: Asked before a batch is begun and before one is yielded; True ends the
            scan early. What is being computed then, one batch per thread, is waited for.
        read: Returns the bytes of a URL; called by several threads at once.
        keep: Given each error and near miss with the bytes of its image, and each
            unreadable sample whose bytes do show a picture. Called by several threads at
            once, before the batch is yielded.
        pace: Measures the scan.

    Raises:
        BadCheckpoint: The model cannot take the images.
        ConnectionError: The storage cannot be reached; this says nothing of a sample.
        TimeoutError: Likewise.
    """
    pace = pace or Pace()
    stop = should_stop or bool  # bool() is False
    lane = Lane(
        predictor, settings=settings, preprocessing=preprocessing, keep=keep, pace=pace
    )
    reader = Reader(n_classes=predictor.n_classes, read=read, pace=pace)
    plan = plan_threads(workers=settings.workers)
    limit_arenas(plan.lanes)
    with _threads_of_lanes(plan):
        size = settings.batch_size or fitting_batch(predictor, preprocessing)
        _describe(pace, predictor, plan, batch_size=size)
        batches = reader.batches(
            samples, size=size, threads=plan.readers, keep_ahead=_AHEAD
        )
        until = _until(stop, batches)
        if predictor.device.type == "cuda":
            results = feed(until, lane, threads=plan.lanes, decode=settings.decode)
        else:
            ahead = plan.lanes + _AHEAD
            results = run_lanes(until, lane, threads=plan.lanes, ahead=ahead)
        # The lanes end before the readers: they wait for files.
        with closing(batches), closing(results):
            for outcomes in results:
                if stop():
                    return
                pace.count(images=len(outcomes))
                _note_gpu_memory(pace, predictor)
                if on_batch is not None:
                    on_batch(len(outcomes))
                yield outcomes


def _until(stop: Callable[[], bool], batches: Iterator[T]) -> Iterator[T]:
    """Yield batches for as long as nobody says stop."""
    while not stop():
        try:
            yield next(batches)
        except StopIteration:
            return


@contextmanager
def _threads_of_lanes(plan: ThreadPlan) -> Iterator[None]:
    """Let an operation in any thread use as many threads as planned, whatever OMP says."""
    before = torch.get_num_threads()
    torch.set_num_threads(plan.intra_op)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _describe(
    pace: Pace, predictor: Predictor, plan: ThreadPlan, *, batch_size: int
) -> None:
    device = predictor.device.type
    if device == "cuda":
        device += f": {torch.cuda.get_device_name(predictor.device)}"
    pace.describe(
        device=device,
        precision=predictor.precision,
        lanes=plan.lanes,
        readers=plan.readers,
        decode="cpu",
        batch_size=batch_size,
    )


def _note_gpu_memory(pace: Pace, predictor: Predictor) -> None:
    if predictor.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(predictor.device)
        pace.describe(gpu_memory_mb=round(peak / 2**20))
