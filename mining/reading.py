"""Read the files of a scan for those who decode them, ahead of them where it is slow."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from math import ceil
from threading import Event
from typing import Final

from mining.exceptions import UnreadableImage
from mining.pace import Pace
from mining.sources.files import is_local
from mining.text import storable
from mining.types import SampleRef

ReadBytes = Callable[[str], bytes]

_SLOW: Final = 5e-4  # seconds for a file: from here on it pays to wait in threads
_WEIGHT: Final = 1 / 64  # of the newest file in the mean

_NEVER_READ: Final = (
    "could not be read when the data set was registered; register the data set again"
)
_CHANGED: Final = (
    "the file changed since it was registered; register the data set again"
)


@dataclass(frozen=True, slots=True)
class FileRead:
    """A sample with the bytes of its file.

    Attributes:
        sample: As given.
        digest: SHA-256 of the bytes in hex, "" when there are none.
        data: The bytes, b"" when they could not be read.
        error: Why the sample cannot be used, "" when it can as far as is known. A file that
            changed has bytes and an error.
    """

    sample: SampleRef
    digest: str = ""
    data: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A batch of files.

    Attributes:
        number: Counts the batches from 0.
        files: Each gives the file when it is called: it waits for the thread that reads it,
            or reads it.
    """

    number: int
    files: Sequence[Callable[[], FileRead]]


class Reader:
    """Reads samples until it is told to stop.

    Who asks for a local file reads it, which takes less than to hand it over from another
    thread: with 16 of them, all taking turns at the interpreter, a scan of small JPEGs took
    8 % longer. Threads read ahead what lies elsewhere, and all files once reading them
    turns out to be slow.

    Args:
        n_classes: Labels are below it.
        read: Returns the bytes of a URL.
        pace: Gets the seconds that the reading takes.
    """

    def __init__(self, *, n_classes: int, read: ReadBytes, pace: Pace) -> None:
        self._n_classes = n_classes
        self._read = read
        self._pace = pace
        self._stopped = Event()
        self._mean = 0.0  # seconds for a file; what threads lose of it does no harm
        self._is_slow = False

    def __call__(self, sample: SampleRef) -> FileRead:
        """Return the sample with its bytes, or with the reason why it has none.

        Raises:
            ConnectionError: The storage cannot be reached; this says nothing of a sample.
            TimeoutError: Likewise.
        """
        if self._stopped.is_set():
            return FileRead(sample, error="the scan was stopped")
        if not 0 <= sample.label < self._n_classes:
            reason = f"label {sample.label} is not one of the model's {self._n_classes} classes"
            return FileRead(sample, error=reason)
        if sample.digest == "":  # what lies there now was never checked
            return FileRead(sample, error=_NEVER_READ)
        try:
            with self._pace.measure("read_s"):
                data = self._timed(sample.url)
                digest = hashlib.sha256(data).hexdigest()
        except UnreadableImage as error:
            return FileRead(sample, error=str(error))
        except (ConnectionError, TimeoutError):
            raise
        except FileNotFoundError:
            return FileRead(sample, error="the file does not exist")
        except OSError as error:
            reason = f"the file cannot be read: {error.strerror or error}"
            return FileRead(sample, error=storable(reason))
        changed = sample.digest is not None and digest != sample.digest
        return FileRead(sample, digest, data, error=_CHANGED if changed else "")

    def _timed(self, url: str) -> bytes:
        started = time.monotonic()
        data = self._read(url)
        self._mean += _WEIGHT * (time.monotonic() - started - self._mean)
        self._is_slow = self._is_slow or self._mean > _SLOW
        return data

    def _begun(
        self, sample: SampleRef, pool: ThreadPoolExecutor
    ) -> Callable[[], FileRead]:
        if self._is_slow or not is_local(sample.url):
            return pool.submit(self, sample).result
        return partial(self, sample)

    def batches(
        self, samples: Iterable[SampleRef], *, size: int, threads: int, keep_ahead: int
    ) -> Generator[Reading, None, None]:
        """Yield the files of `size` samples each, in order.

        Which samples form a batch depends on nothing but `samples` and `size`. Closing the
        generator stops the reading.

        Args:
            samples: Read lazily, in the thread that takes the batches.
            size: Samples in a batch; the last may have fewer.
            threads: How many files are read at once by threads.
            keep_ahead: Batches begun in advance at least; more where `threads` need them.
        """
        iterator = iter(samples)
        pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        ahead = keep_ahead + ceil(threads / size)
        queue: deque[Reading] = deque()
        numbers = count()
        try:
            while True:
                while len(queue) < ahead:
                    batch = list(islice(iterator, size))
                    if not batch:
                        break
                    files = [self._begun(sample, pool) for sample in batch]
                    queue.append(Reading(next(numbers), files))
                if not queue:
                    break
                yield queue.popleft()
        except BaseException:  # closed before its end: nobody waits for the rest
            self._stopped.set()
            raise
        finally:
            # At its end the last batches were taken, but are still being read.
            given_up = self._stopped.is_set()
            pool.shutdown(wait=given_up, cancel_futures=given_up)
