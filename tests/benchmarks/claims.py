"""Let 100 workers without a model share scans, and show what the servers make of it.

    python -m tests.benchmarks.claims --check

Each worker is a process with a connection of its own to a real PostgreSQL and a real
Valkey, started here in a scratch folder with their durable settings. It takes the
messages of shards, claims, beats once a second and records prepared outcomes by the
actions that production uses. Only the samples that are wrong have rows: the others are
never looked at by these actions.

For each shard size there are two runs. *Flat out*: workers pretend no work, so the
servers are the limit. *Paced*: each shard takes as long as a GPU needs for it, with the
share of errors of a good model. With --check: the 99th percentile of a claim is under a
tenth of the shard's own time in paced runs whose shards take a second or more, nobody
fails, and every shard is counted exactly once. The 100 workers share the cores with the
servers: what they show is what a host this small carries, not what a claim costs.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from tests.benchmarks.meters import Meters, Watch
from tests.benchmarks.scratch import ROOT, scratch

CLASSES = 10
TARGET = 0.1  # of a shard's time, for the 99th percentile of a claim


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: so many workers, so many shards of so many samples."""

    name: str
    workers: int
    shard: int  # samples
    shards: int
    errors: float  # share of the samples
    pace: float  # images per second and worker; 0: flat out

    @property
    def wrong(self) -> int:
        return round(self.shard * self.errors)

    @property
    def seconds(self) -> float:
        return self.shard / self.pace if self.pace else 0.0


@dataclass
class Tally:
    """What the workers of a run measured, in seconds."""

    claim: list[float] = field(default_factory=list)
    beat: list[float] = field(default_factory=list)
    record: list[float] = field(default_factory=list)
    lost: int = 0
    cpu: float = 0.0
    first: float = float("inf")
    last: float = 0.0

    def add(self, path: Path) -> None:
        found = json.loads(path.read_text())
        for name in ("claim", "beat", "record"):
            getattr(self, name).extend(found[name])
        self.lost += found["lost"]
        self.cpu += found["cpu"]
        self.first = min(self.first, found["first"])
        self.last = max(self.last, found["last"])


def make_scan(plan: Plan) -> int:
    """Write a scan with its shards and the samples that will be wrong; return its id."""
    from reviewapp.models import Scan, Shard
    from tests import factories

    dataset = factories.DatasetFactory(
        name=f"{plan.name} {plan.shard} {time.monotonic_ns()}"
    )
    model = factories.RegisteredModelFactory(dataset=dataset)
    labels = [factories.LabelFactory(dataset=dataset, index=n) for n in range(CLASSES)]
    make_samples(dataset.pk, [label.pk for label in labels], plan.shards * plan.wrong)
    first = dataset.samples.order_by("id").values_list("id", flat=True)[0]
    scan: Scan = factories.ScanFactory(
        model_version=factories.ModelVersionFactory(registered_model=model),
        dataset=dataset,
        state=Scan.State.QUEUED,
        samples=plan.shards * plan.shard,
    )
    Shard.objects.bulk_create(
        Shard(
            scan=scan,
            number=n,
            first_sample=first + n * plan.wrong,
            last_sample=first + (n + 1) * plan.wrong - 1,
            samples=plan.shard,
        )
        for n in range(plan.shards)
    )
    return scan.pk


def make_samples(dataset: int, labels: list[int], n: int) -> None:
    """Write n samples whose labels take turns."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO reviewapp_sample (dataset_id, key, label_id, "
            "original_label_id, split, digest, size, attributes) "
            "SELECT %(dataset)s, 'test/' || n || '.jpg', label, label, 'test', "
            "       encode(sha256(n::text::bytea), 'hex'), 50000, '{}' "
            "  FROM (SELECT n, (%(labels)s::bigint[])[n %% %(classes)s + 1] AS label"
            "          FROM generate_series(0, %(n)s - 1) n) numbered ORDER BY n",
            {"dataset": dataset, "labels": labels, "classes": len(labels), "n": n},
        )
        cursor.execute("ANALYZE reviewapp_sample")


def outcomes(first: int, plan: Plan) -> list[object]:
    """Return a shard's outcomes: the wrong ones, then one right one again and again."""
    from mining.types import Outcome

    random_ = random.Random(first)
    found: list[object] = []
    for sample in range(first, first + plan.wrong):
        true = sample % CLASSES
        predicted = (true + random_.randrange(1, CLASSES)) % CLASSES
        confidence = random_.uniform(0.5, 0.9)
        rest = (1 - confidence) / (CLASSES - 1)
        others = [c for c in range(CLASSES) if c != predicted][:4]
        digest = hashlib.sha256(str(sample).encode()).hexdigest()
        found.append(
            Outcome(
                id=sample,
                key=f"test/{sample}.jpg",
                digest=digest,
                true=true,
                predicted=predicted,
                confidence=confidence,
                p_true=rest,
                margin=confidence - rest,
                loss=-float(np.log(rest)),
                top_classes=(predicted, *others),
                top_probs=(confidence, *[rest] * 4),
            )
        )
    right = Outcome(0, "right", "", 0, 0, 0.99, 0.99, 0.98, 0.01, (0, 1), (0.99, 0.01))
    return found + [right] * (plan.shard - plan.wrong)


def work(plan: Plan, number: int, warm: int, ready: object, result: Path) -> None:
    """Be one worker: take messages until there are none for two seconds."""
    from reviewapp.celery import app

    with app.connection_for_read() as broker:
        queue = broker.SimpleQueue(app.amqp.queues["scan"])
        queue.consumer.qos(prefetch_count=1)
        # A first shard fills the caches of both ends, once in a worker's life.
        _run_shard(replace(plan, errors=0.001, pace=0), warm, number, Tally())
        ready.wait()  # type: ignore[attr-defined]
        tally = Tally(first=time.time(), cpu=-own_cpu())
        # Workers that started together would claim together for ever.
        time.sleep(random.Random(number).uniform(0, plan.seconds))
        while True:
            try:
                message = queue.get(timeout=2)
            except queue.Empty:
                break
            _run_shard(plan, message.payload[0][0], number, tally)
            message.ack()
            tally.last = time.time()
        queue.close()
    tally.cpu += own_cpu()
    result.write_text(json.dumps(asdict(tally)))


def own_cpu() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _run_shard(plan: Plan, shard_id: int, number: int, tally: Tally) -> None:
    from reviewapp.actions.findings import record_shard
    from reviewapp.actions.shards import beat_shard, claim_shard

    with timed(tally.claim):
        shard = claim_shard(
            shard_id=shard_id, worker=f"{socket.gethostname()}-{number}"
        )
    if shard is None:
        tally.lost += 1
        return
    deadline = time.monotonic() + plan.seconds
    found = outcomes(shard.first_sample, plan)
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        with timed(tally.beat):
            beat_shard(shard=shard, samples_done=plan.shard // 2)
    with timed(tally.record):
        recorded = record_shard(shard=shard, outcomes=found)
    tally.lost += not recorded


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Append the seconds that the block took."""
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)


def run(plan: Plan, folder: Path) -> bool:
    """Run a plan, print what it showed, and return whether it holds what it must."""
    from django.db import connections, transaction

    from reviewapp.models import Scan
    from reviewapp.tasks import enqueue_scan

    scan = Scan.objects.get(pk=make_scan(plan))
    warm = make_scan(replace(plan, name="warm", shards=plan.workers, errors=0.001))
    warm_shards = list(Scan.objects.get(pk=warm).shards.values_list("pk", flat=True))
    sent = time.perf_counter()
    with transaction.atomic():
        enqueue_scan(scan)
    sent = time.perf_counter() - sent
    connections.close_all()  # a fork must not share them
    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(plan.workers + 1)
    results = [folder / f"{scan.pk}-{n}.json" for n in range(plan.workers)]
    workers = [
        fork.Process(target=work, args=(plan, n, warm_shards[n], ready, result))
        for n, result in enumerate(results)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    before = Meters.read()
    with Watch() as watch:
        for worker in workers:
            worker.join()
    tally = Tally()
    for result in results:
        tally.add(result)
    after = Meters.read()
    whole = is_whole(scan, plan) and not tally.lost
    report(plan, tally, watch, before, after, sent)
    if not whole:
        print("    NOT every shard was counted exactly once")
    # Shorter ones keep these few cores busy with being 100 hosts.
    promised = plan.seconds >= 1
    worst = percentile(tally.claim, 99) / 1000
    return whole and (not promised or worst < TARGET * plan.seconds)


def is_whole(scan: object, plan: Plan) -> bool:
    """Tell whether every shard is done and every error was stored once."""
    from django.db.models import Sum

    from reviewapp.models import Finding, Sighting

    shards = scan.shards.filter(state="done", attempts=1)  # type: ignore[attr-defined]
    errors = shards.aggregate(n=Sum("errors"))["n"]
    expected = plan.shards * plan.wrong
    findings = Finding.objects.filter(dataset=scan.dataset_id).count()  # type: ignore[attr-defined]
    sightings = Sighting.objects.filter(scan=scan).count()
    return shards.count() == plan.shards and errors == findings == sightings == expected


def percentile(seconds: list[float], q: float) -> float:
    """Return a percentile in milliseconds; 0 when there is nothing."""
    return float(np.percentile(seconds, q)) * 1000 if seconds else 0.0


def report(
    plan: Plan, tally: Tally, watch: Watch, before: Meters, after: Meters, sent: float
) -> None:
    """Print what a run showed."""
    wall = tally.last - tally.first
    found = plan.shards * plan.wrong
    images = plan.shards * plan.shard
    million = max(found, 1) / 1e6
    print(
        f"{plan.name}: shards of {plan.shard:,}, {plan.errors:.0%} errors, "
        f"{plan.workers} workers: {plan.shards} shards in {wall:.1f} s = "
        f"{plan.shards / wall:.1f} shards/s, {images / wall:,.0f} images/s, "
        f"{found / wall:,.0f} findings/s (two rows each)"
    )
    for name in ("claim", "beat", "record"):
        seconds = getattr(tally, name)
        if seconds:
            print(
                f"    {name:6} p50 {percentile(seconds, 50):8.1f} ms   "
                f"p99 {percentile(seconds, 99):8.1f} ms   "
                f"most {max(seconds) * 1000:8.1f} ms   of {len(seconds)}"
            )
    print(f"    connections {watch.connections}; sessions busy, on average: {watch}")
    postgres = after.postgres - before.postgres
    print(
        f"    a shard: {postgres / plan.shards * 1000:.1f} ms of PostgreSQL's CPU, "
        f"{tally.cpu / plan.shards * 1000:.1f} ms of its worker's"
    )
    print(
        f"    a million findings: {postgres / million:.0f} s of PostgreSQL's CPU, "
        f"{tally.cpu / million:.0f} s of the workers', "
        f"{(after.wal - before.wal) / million / 1e9:.2f} GB of WAL, "
        f"{(after.tables - before.tables) / million / 1e9:.2f} GB of tables"
    )
    print(
        f"    messages: {plan.shards / sent:,.0f} shards/s sent, "
        f"{(after.commands - before.commands) / plan.shards:.0f} commands a shard",
        flush=True,
    )


def plans(options: argparse.Namespace) -> Iterator[Plan]:
    """Yield the runs: each shard size flat out and paced."""
    for shard in options.shards:
        flat = max(options.workers, options.images // shard)
        yield Plan("flat out", options.workers, shard, flat, options.errors, 0)
        paced = int(options.workers * options.pace * options.seconds / shard)
        yield Plan(
            "paced", options.workers, shard, paced, options.paced_errors, options.pace
        )


def main() -> int:
    """Run the simulation; return 1 when --check is given and a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument(
        "--shards", type=int, nargs="+", default=[2_000, 10_000, 20_000]
    )
    parser.add_argument("--errors", type=float, default=0.19, help="when flat out")
    parser.add_argument("--paced-errors", type=float, default=0.01)
    parser.add_argument("--pace", type=float, default=5_000, help="images/s of a GPU")
    parser.add_argument("--images", type=int, default=2_000_000, help="when flat out")
    parser.add_argument("--seconds", type=float, default=20, help="of a paced run")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is None:
        with scratch(connections=options.workers + 50) as (folder, environment):
            module = [sys.executable, "-m", "tests.benchmarks.claims"]
            command = [*module, *sys.argv[1:], "--inside", str(folder)]
            return subprocess.run(
                command, cwd=ROOT, env=environment, check=False
            ).returncode
    import django

    django.setup()
    good = [run(plan, options.inside) for plan in plans(options)]
    return int(options.check and not all(good))


if __name__ == "__main__":
    sys.exit(main())
