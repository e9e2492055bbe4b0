"""Feed a GPU: threads decode into pinned memory, one thread keeps two batches running."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, Literal, TypeVar

import torch

from mining.gpu_decoding import decode_mixed
from mining.lanes import Batch, Decoded, Lane
from mining.predictors import Pending, Predictor
from mining.reading import FileRead, Reading
from mining.types import Decode, Outcome, Preprocessing

_CPU_BATCH: Final = 16  # measured: a larger one leaves the caches
_MAX_GPU_BATCH: Final = 512
_PROBE_BATCH: Final = 32
_SHARE: Final = 0.6  # of the free memory; the rest is for two batches and cuDNN
_CHUNK: Final = 16  # files that one thread decodes at a time
_GPU_CHUNK: Final = 128  # nvJPEG takes one list at a time, and long ones best
_MEASURED: Final = 64  # images to compare the decoders on
_STAGED: Final = 2
_LAUNCHED: Final = 1
_FINISHING: Final = 2

T = TypeVar("T")
Where = Literal["cpu", "gpu"]


def fitting_batch(predictor: Predictor, preprocessing: Preprocessing) -> int:
    """Return a good batch size: 16 on a CPU; what 60 % of a GPU's free memory holds.

    It is a power of two of up to 512, measured once for a predictor.
    """
    if predictor.device.type != "cuda":
        return _CPU_BATCH
    if predictor.found.batch_size is None:
        predictor.found.batch_size = _measured_batch(predictor, preprocessing)
    return min(
        predictor.found.batch_size, predictor.found.batch_limit or _MAX_GPU_BATCH
    )


def _measured_batch(predictor: Predictor, preprocessing: Preprocessing) -> int:
    device = predictor.device
    size = min(_PROBE_BATCH, predictor.found.batch_limit or _PROBE_BATCH)
    shape = (size, preprocessing.channels, *preprocessing.crop)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        predictor(torch.randint(0, 256, shape, dtype=torch.uint8))
    except torch.OutOfMemoryError:
        return max(1, size // 2)
    used = max(1, torch.cuda.max_memory_allocated(device) - before) / size
    free, _ = torch.cuda.mem_get_info(device)
    most = min(max(_SHARE * free / used, 1), _MAX_GPU_BATCH)
    return int(2 ** math.floor(math.log2(most)))


@dataclass(frozen=True, slots=True)
class _Staged:
    """A batch that is being decoded: its rows (B, H, W, C) and the chunks at work."""

    number: int
    rows: torch.Tensor
    chunks: Sequence[Future[tuple[Sequence[FileRead], list[Decoded]]]]


@dataclass(frozen=True, slots=True)
class _Launched:
    """A batch that the GPU is working on, in parts that fitted; None: float32 comes."""

    batch: Batch
    parts: Sequence[Pending] | None


def feed(
    batches: Iterator[Reading], lane: Lane, *, threads: int, decode: Decode
) -> Generator[list[Outcome], None, None]:
    """Yield the outcomes of each batch, in order.

    Args:
        batches: Files being read.
        lane: The steps of a batch.
        threads: Those that decode, score and keep pictures.
        decode: Where JPEGs are decoded; on the GPU only where rounding is checked again,
            since its pixels differ by a level here and there.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        where, batches = _choose(decode, batches, lane, pool)
        feeder = _Feeder(lane, pool, on_gpu=where == "gpu")
        lane.pace.describe(decode=where)
        staged = _held(map(feeder.stage, batches), _STAGED)
        launched = _held(map(feeder.launch, staged), _LAUNCHED)
        finishing = _held(map(feeder.settle, launched), _FINISHING)
        for future in finishing:
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _held(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield items in order, each once `depth` later ones have been begun."""
    queue: deque[T] = deque()
    for item in items:
        queue.append(item)
        if len(queue) > depth:
            yield queue.popleft()
    yield from queue


class _Feeder:
    """The steps of a batch around the GPU."""

    def __init__(self, lane: Lane, pool: ThreadPoolExecutor, *, on_gpu: bool) -> None:
        self._lane = lane
        self._pool = pool
        self._on_gpu = on_gpu

    def stage(self, reading: Reading) -> _Staged:
        """Have a batch decoded by the threads."""
        pinned = self._lane.predictor.device.type == "cuda"
        rows = self._lane.empty(len(reading.files), pinned=pinned and not self._on_gpu)
        if self._on_gpu:
            rows = torch.empty_like(rows, device=self._lane.predictor.device)
        step = _GPU_CHUNK if self._on_gpu else _CHUNK
        chunks = [
            self._pool.submit(
                self._decode, reading.files[n : n + step], rows[n : n + step]
            )
            for n in range(0, len(reading.files), step)
        ]
        return _Staged(reading.number, rows, chunks)

    def _decode(
        self, reading: Sequence[Callable[[], FileRead]], rows: torch.Tensor
    ) -> tuple[Sequence[FileRead], list[Decoded]]:
        files = [read() for read in reading]
        with self._lane.pace.measure("decode_s"):
            if self._on_gpu:
                return files, decode_mixed(files, rows, self._lane)
            return files, self._lane.decode(files, rows.numpy())

    def launch(self, staged: _Staged) -> _Launched:
        """Wait for the pixels of a batch and give it to the GPU."""
        lane = self._lane
        with lane.pace.measure("wait_s"):
            done = [chunk.result() for chunk in staged.chunks]
        files = [file for part, _ in done for file in part]
        found = [one for _, part in done for one in part]
        batch = lane.batch(staged.number, files, found, staged.rows)
        return _Launched(batch, lane.launched(batch, lane.predictor.start))

    def settle(self, launched: _Launched) -> Future[list[Outcome]]:
        """Take the logits of a batch; have it scored by the threads."""
        lane, batch = self._lane, launched.batch
        with lane.pace.measure("model_s"):
            waits = launched.parts
            parts = None if waits is None else [wait() for wait in waits]
            exact = None if self._on_gpu else batch.pixels
            logits = lane.checked(batch, parts, exact)
        return self._pool.submit(lane.finish, batch, logits)


def _choose(
    decode: Decode, batches: Iterator[Reading], lane: Lane, pool: ThreadPoolExecutor
) -> tuple[Where, Iterator[Reading]]:
    """Return where to decode, and the batches, of which the first may have been waited for.

    Pixels that differ by a level are only taken where the model rounds anyway.
    """
    predictor = lane.predictor
    if decode == "cpu" or not predictor.rounding or lane.preprocessing.mode != "RGB":
        return "cpu", batches
    if decode == "gpu":
        return "gpu", batches
    if predictor.found.decode is None:
        first = list(islice(batches, 1))
        batches = chain(first, batches)
        files = [read() for one in first for read in one.files[:_MEASURED]]
        predictor.found.decode = _faster(files, lane, pool)
    return predictor.found.decode, batches


def _faster(files: Sequence[FileRead], lane: Lane, pool: ThreadPoolExecutor) -> Where:
    """Decode some files on the CPUs and on the GPU; return which was faster."""
    rows = lane.empty(len(files))
    on_gpu = rows.to(lane.predictor.device)
    steps = range(0, len(files), _CHUNK)

    def by_cpus() -> None:
        work = [
            pool.submit(
                lane.decode, files[n : n + _CHUNK], rows[n : n + _CHUNK].numpy()
            )
            for n in steps
        ]
        for chunk in work:
            chunk.result()

    def by_gpu() -> None:
        decode_mixed(files, on_gpu, lane)
        if on_gpu.is_cuda:
            torch.cuda.synchronize(on_gpu.device)

    by_cpus()
    by_gpu()  # the first time loads libraries
    cpus, gpu = _seconds(by_cpus), _seconds(by_gpu)
    return "gpu" if gpu < cpus else "cpu"


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
