"""What there is to see of a scan: speed, time left, workers, parts and what limits it.

Everything is summed by PostgreSQL: a scan of 50,000 shards costs the same three queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings as conf
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import (
    Case,
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    FloatField,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Sum,
    When,
)
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.utils import timezone

from mining.pace import bottleneck, combine
from reviewapp.models import Sample, Scan, Shard

# Shards that ended this lately still count for the speed of now.
WINDOW = timedelta(seconds=60)
# A worker beats every second; without one for this long it adds nothing to the speed.
QUIET = timedelta(seconds=30)
WORKERS_SHOWN = 50
REASONS_SHOWN = 20
KEYS_SHOWN = 3
SUMMED = ("images", "seconds", "read_s", "decode_s", "model_s", "wait_s")
LARGEST = ("lanes", "readers", "batch_size", "memory_mb", "gpu_memory_mb")
NAMED = ("device", "precision", "decode")


@dataclass(frozen=True, slots=True)
class Worker:
    """What one worker did for a scan.

    Attributes:
        name: Host and process, as the worker calls itself.
        device: Such as "cpu" or "cuda: NVIDIA H200"; "" while it is not known.
        precision: Such as "bfloat16"; "" while it is not known.
        part: Number of a shard that it runs now, None when it runs none.
        running: Shards that it runs now.
        done: Shards that it finished.
        rate: Images per second of its last minute; None when nothing is known.
        memory_mb: Its peak memory in MiB.
        heard_at: When it last wrote.
        state: "running", "lost" (it has a shard and was silent for a lease) or "idle".
    """

    name: str
    device: str
    precision: str
    part: int | None
    running: int
    done: int
    rate: float | None
    memory_mb: float | None
    heard_at: datetime | None
    state: str


@dataclass(frozen=True, slots=True)
class Watch:
    """How a scan goes.

    Attributes:
        done: Samples done.
        states: State -> number of shards.
        elapsed: From its start to now, or to its end.
        rate: Images per second: of the last seconds while it runs, of all of it after.
        left: Time left at that rate.
        workers: Those that run something first.
        pace: What the workers measured, combined (`mining.pace.combine`); while the scan
            runs of the last minute only.
    """

    done: int
    states: dict[str, int]
    elapsed: timedelta | None
    rate: float | None
    left: timedelta | None
    workers: list[Worker] = field(default_factory=list)
    pace: dict[str, object] = field(default_factory=dict)

    @property
    def limit(self) -> str:
        """Return the sentence on what limits the speed, "" when nothing is known."""
        return bottleneck(self.pace)

    @property
    def shards(self) -> int:
        """Return how many shards there are."""
        return sum(self.states.values())

    @property
    def running(self) -> int:
        """Return how many workers run a shard."""
        return sum(worker.state == "running" for worker in self.workers)

    @property
    def poll_seconds(self) -> int:
        """Return how often a page should ask: the sums of many shards take a while."""
        return 1 if self.shards <= 5000 else 5


def watch(scan: Scan) -> Watch:
    """Measure a scan now."""
    now = timezone.now()
    by_state = list(
        scan.shards.order_by()
        .values_list("state")
        .annotate(n=Count("pk"), done=Sum("samples_done"))
        .order_by("state")
    )
    done = sum(samples for _, _, samples in by_state)
    workers = _workers(scan, now)
    elapsed = (scan.finished_at or now) - scan.started_at if scan.started_at else None
    rate = left = None
    if scan.is_active:
        rate = _rate_of(workers, now)
        if rate:
            left = timedelta(seconds=max(0, scan.samples - done) / rate)
    elif elapsed and done:
        rate = done / elapsed.total_seconds()
    return Watch(
        done=done,
        states={state: n for state, n, _ in by_state},
        elapsed=elapsed,
        rate=rate,
        left=left,
        workers=workers,
        pace=combine(_paces(scan, now)),
    )


def _lately(now: datetime) -> Q:
    """Return what keeps the shards that tell the speed of now."""
    return Q(state=Shard.State.RUNNING) | Q(
        state=Shard.State.DONE, finished_at__gte=now - WINDOW
    )


def _workers(scan: Scan, now: datetime) -> list[Worker]:
    running = Q(state=Shard.State.RUNNING)
    lease = timedelta(seconds=conf.SHARD_LEASE_SECONDS)
    told = running | Q(state=Shard.State.DONE)
    last = Case(When(running, then=F("heartbeat_at")), default=F("finished_at"))
    spent = ExpressionWrapper(last - F("started_at"), output_field=DurationField())
    rows = (
        scan.shards.exclude(worker="")
        .order_by()
        .values("worker")
        .annotate(
            device=Max(KT("pace__device"), filter=told),
            precision=Max(KT("pace__precision"), filter=told),
            memory=Max(_number("memory_mb"), filter=told),
            part=Min("number", filter=running),
            running=Count("pk", filter=running),
            silent=Count("pk", filter=running & Q(heartbeat_at__lt=now - lease)),
            done=Count("pk", filter=Q(state=Shard.State.DONE)),
            samples=Sum("samples_done", filter=_lately(now)),
            spent=Sum(spent, filter=_lately(now)),
            heard_at=Max("heartbeat_at"),
        )
        .order_by("-running", "-heard_at", "worker")
    )
    return [_worker(row) for row in rows]


def _worker(row: Mapping[str, Any]) -> Worker:
    seconds = row["spent"].total_seconds() if row["spent"] else 0.0
    state = "running" if row["running"] else "idle"
    return Worker(
        name=row["worker"],
        device=row["device"] or "",
        precision=row["precision"] or "",
        part=row["part"],
        running=row["running"],
        done=row["done"],
        rate=row["samples"] / seconds if row["samples"] and seconds > 0 else None,
        memory_mb=row["memory"],
        heard_at=row["heard_at"],
        state="lost" if row["silent"] else state,
    )


def _rate_of(workers: Sequence[Worker], now: datetime) -> float | None:
    """Return the images per second of those that work now, None when nobody does."""
    rates = [
        worker.rate * max(1, worker.running)
        for worker in workers
        if worker.rate and worker.heard_at and worker.heard_at >= now - QUIET
    ]
    return sum(rates) if rates else None


def _paces(scan: Scan, now: datetime) -> list[dict[str, object]]:
    """Sum the paces of the shards, one for each kind of device."""
    shards = scan.shards.exclude(pace={})
    if scan.is_active:
        shards = shards.filter(_lately(now))
    named = {name: KT(f"pace__{name}") for name in NAMED}
    sums = {f"{name}_sum": Sum(_number(name)) for name in SUMMED}
    peaks = {f"{name}_max": Max(_number(name)) for name in LARGEST}
    rows = shards.values(**named).annotate(**sums, **peaks).order_by(*named)
    return [
        {name.removesuffix("_sum").removesuffix("_max"): n for name, n in row.items()}
        for row in rows
    ]


def _number(name: str) -> Cast:
    return Cast(KT(f"pace__{name}"), FloatField())


def recheck_line(scan: Scan) -> str:
    """Say what the float32 re-run of close calls found; "" when there was none."""
    if not scan.rechecked or not scan.readable:
        return ""
    changed = scan.changed or 0
    calls = "close call was" if scan.rechecked == 1 else "close calls were"
    predictions = "prediction" if changed == 1 else "predictions"
    percent = 100 * changed / scan.readable
    share = "< 0.01" if 0 < percent < 0.005 else f"{percent:.2f}"
    return (
        f"{scan.rechecked:,} {calls} computed again in float32; {changed:,} "
        f"{predictions} changed ({share} %)"
    )


def unreadable_by_reason(scan: Scan) -> list[tuple[str, int]]:
    """Return (reason, unreadable samples) of a scan, the most frequent first, 20 at most."""
    rows = scan.unreadable_samples.order_by().values_list("reason")
    return list(rows.annotate(n=Count("pk")).order_by("-n", "reason")[:REASONS_SHOWN])


def with_first_keys(shards: QuerySet[Shard], scan: Scan) -> QuerySet[Shard]:
    """Annotate `first_keys`: the keys of the first samples of each shard, 3 at most."""
    samples = _samples(scan).filter(
        pk__gte=OuterRef("first_sample"), pk__lte=OuterRef("last_sample")
    )
    keys = samples.order_by("pk").values("key")[:KEYS_SHOWN]
    return shards.annotate(first_keys=ArraySubquery(keys))


def samples_of(shard: Shard) -> QuerySet[Sample]:
    """Return the samples of a shard with their labels."""
    ids = (shard.first_sample, shard.last_sample)
    return _samples(shard.scan).filter(pk__range=ids).select_related("label")


def _samples(scan: Scan) -> QuerySet[Sample]:
    present = Sample.objects.present().in_split(scan.split)
    return present.filter(dataset=scan.dataset_id)
