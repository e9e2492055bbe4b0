"""Gather the close calls of several batches: sixteen at once take float32 less time each."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final

from mining.lanes import Lane, Late, Passed
from mining.reading import Reading
from mining.types import Outcome

_GATHERED: Final = 16  # files; their bytes are held meanwhile
_PATIENCE: Final = 16  # batches after which fewer do


def run_lanes(
    batches: Iterator[Reading], lane: Lane, *, threads: int, ahead: int
) -> Generator[list[Outcome], None, None]:
    """Yield the outcomes of each batch in order.

    Which files are computed again together depends on nothing but the batches, so neither
    do the bits of what comes out. Closing the generator stops the work that has not begun.

    Args:
        batches: Taken `ahead` at most before they are through their lane.
        lane: Run in threads; what it raises comes out here.
        threads: Number of threads, at least 1.
        ahead: At least 1.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lane")
    try:
        begun: deque[Future[Passed]] = deque(
            pool.submit(lane, batch) for batch in islice(batches, ahead)
        )
        gathering = _Gathering(lane, pool)
        while begun:
            passed = begun.popleft().result()
            begun.extend(pool.submit(lane, batch) for batch in islice(batches, 1))
            gathering.add(passed)
            yield from gathering.ready()
        yield from gathering.rest()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Gathering:
    """Batches with files that wait for others, in order."""

    def __init__(self, lane: Lane, pool: ThreadPoolExecutor) -> None:
        self._lane = lane
        self._pool = pool
        self._late: list[Late] = []
        self._batches: deque[list[Outcome]] = deque()
        self._jobs: deque[tuple[int, Future[None]]] = deque()
        self._taken = 0  # batches that came in
        self._given = 0  # and went out

    def add(self, passed: Passed) -> None:
        """Take the next batch, and have those settled for whom it is time."""
        self._batches.append(passed.outcomes)
        self._late += passed.late
        self._taken += 1
        while len(self._late) >= _GATHERED or self._is_time():
            self._settle()

    def ready(self) -> Iterator[list[Outcome]]:
        """Yield the batches, in order, of which no file waits any more."""
        while self._jobs and self._jobs[0][1].done():
            self._jobs.popleft()[1].result()
        yield from self._before(self._first_waiting())

    def rest(self) -> Iterator[list[Outcome]]:
        """Yield all other batches."""
        while self._late:
            self._settle()
        for _, job in self._jobs:
            job.result()
        yield from self._before(self._taken)

    def _is_time(self) -> bool:
        return bool(self._late) and self._taken - self._late[0].number > _PATIENCE

    def _settle(self) -> None:
        some, self._late = self._late[:_GATHERED], self._late[_GATHERED:]
        job = self._pool.submit(self._lane.settle, some)
        self._jobs.append((some[0].number, job))

    def _first_waiting(self) -> int:
        if self._jobs:
            return self._jobs[0][0]
        return self._late[0].number if self._late else self._taken

    def _before(self, number: int) -> Iterator[list[Outcome]]:
        while self._given < number:
            self._given += 1
            yield self._batches.popleft()
