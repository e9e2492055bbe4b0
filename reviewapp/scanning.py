"""One shard from its samples to its findings, as a worker runs it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from mining.exceptions import BadCheckpoint
from mining.sources import url_for
from mining.specs import checkpoint_digest
from mining.types import (
    Device,
    ModelSpec,
    Outcome,
    Precision,
    SampleRef,
    ScanSettings,
)
from reviewapp.actions.findings import record_shard
from reviewapp.actions.finishing import store_part
from reviewapp.actions.scans import beat_shard
from reviewapp.models import ModelVersion, Sample, Shard
from reviewapp.thumbnails import ensure_thumbnails

if TYPE_CHECKING:
    from mining.checkpoints import Predictor

logger = logging.getLogger(__name__)
BEAT_SECONDS = 1.0


def scan_shard(shard: Shard) -> bool:
    """Score a claimed shard and record it; return False when it was taken away.

    Raises:
        MiningError: The checkpoint cannot be used, or counts do not add up.
        OSError: The storage failed.
    """
    # torch takes seconds and half a gigabyte: only the process that scans loads it.
    from mining.scan import scan_samples  # noqa: PLC0415

    scan = shard.scan
    settings = ScanSettings.from_dict(scan.settings)
    version = scan.model_version
    predictor = _load(version, settings)
    pulse = Pulse(shard)
    outcomes: list[Outcome] = []
    started = time.monotonic()
    for batch in scan_samples(
        predictor,
        _samples(shard),
        settings=settings,
        preprocessing=version.spec().preprocessing,
        should_stop=pulse.should_stop,
        keep=_keep,
    ):
        outcomes += batch
        pulse.beat(len(outcomes))
    if pulse.should_stop():
        return False
    store_part(shard=shard, outcomes=outcomes)
    recorded = record_shard(shard=shard, outcomes=outcomes)
    logger.info(
        "%s: %d samples in %.1f s", shard, len(outcomes), time.monotonic() - started
    )
    return recorded


class Pulse:
    """Tells the database now and then that the worker lives, and hears when to stop."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._last = 0.0
        self._stopped = False

    def beat(self, samples_done: int) -> None:
        """Report progress, at most once a second."""
        if time.monotonic() - self._last >= BEAT_SECONDS:
            self._last = time.monotonic()
            self._stopped = not beat_shard(shard=self._shard, samples_done=samples_done)

    def should_stop(self) -> bool:
        """Whether the scan was cancelled or the shard given to another worker."""
        return self._stopped


def _samples(shard: Shard) -> Iterator[SampleRef]:
    index = {label: n for n, label in enumerate(shard.scan.classes)}
    root = shard.scan.dataset.root
    rows = (
        Sample.objects.present()
        .in_split(shard.scan.split)
        .filter(
            dataset=shard.scan.dataset_id,
            id__gte=shard.first_sample,
            id__lte=shard.last_sample,
        )
        .order_by("id")
    )
    for sample in rows.iterator(chunk_size=2000):
        yield SampleRef(
            id=sample.pk,
            key=sample.key,
            url=url_for(root, sample.key),
            label=index.get(sample.label_id, -1),  # -1: an outcome that says so
            digest=sample.digest,
        )


def _keep(outcome: Outcome, data: bytes) -> None:
    ensure_thumbnails(outcome.digest, data)


def _load(version: ModelVersion, settings: ScanSettings) -> Predictor:
    """Return the version's model, kept warm in this process.

    Raises:
        BadCheckpoint: The file is missing, is not the one that was registered, or
            cannot be used.
    """
    return _warm(
        version.checkpoint,
        version.digest,
        version.spec(),
        settings.device,
        settings.precision,
    )


@lru_cache(maxsize=2)
def _warm(
    checkpoint: str,
    digest: str,
    spec: ModelSpec,
    device: Device,
    precision: Precision,
) -> Predictor:
    from mining.checkpoints import load_model  # noqa: PLC0415 (loads torch)

    if checkpoint_digest(checkpoint) != digest:
        raise BadCheckpoint(
            f"{checkpoint} is not the file that was registered any more. Put that file "
            "back, or register this one as a new version."
        )
    return load_model(checkpoint, spec, device=device, precision=precision)
