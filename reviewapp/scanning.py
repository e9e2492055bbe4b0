"""One shard from its samples to its findings, as a worker runs it."""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from mining.exceptions import BadCheckpoint, ClassMismatch
from mining.pace import Pace
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
from reviewapp.actions.finishing import delete_part, store_part
from reviewapp.models import ModelVersion, Sample, Shard
from reviewapp.persistence import outlast
from reviewapp.pulse import Pulse
from reviewapp.thumbnails import ensure_thumbnails

if TYPE_CHECKING:
    from mining.checkpoints import Predictor

logger = logging.getLogger(__name__)


def scan_shard(shard: Shard) -> bool:
    """Score a claimed shard and record it; return False when it was taken away.

    Then nothing of it was written.

    Raises:
        MiningError: The checkpoint cannot be used, or counts do not add up.
        OSError: The storage failed.
        OperationalError: The database did not come back in time.
    """
    # torch takes seconds and half a gigabyte: only the process that scans loads it.
    from mining.scan import scan_samples  # noqa: PLC0415

    scan = shard.scan
    settings = ScanSettings.from_dict(scan.settings)
    version = scan.model_version
    pace = Pace()
    pulse = Pulse(shard, pace.to_dict)
    album = Album()
    outcomes: list[Outcome] = []
    with pulse.kept():
        predictor = _load(version, settings)
        pulse.beat_now()
        for batch in scan_samples(
            predictor,
            outlast(lambda: _samples(shard)),
            settings=settings,
            preprocessing=version.spec().preprocessing,
            should_stop=pulse.should_stop,
            keep=album.keep,
            pace=pace,
        ):
            outcomes += batch
            pulse.beat(len(outcomes))
        if pulse.should_stop():
            return False
        store_part(shard=shard, outcomes=outcomes)
        measured = pace.to_dict()
        recorded = outlast(
            lambda: record_shard(
                shard=shard,
                outcomes=outcomes,
                pictures=album.unpredicted,
                pace=measured,
            )
        )
    if not recorded:
        delete_part(shard=shard)
    logger.info("%s: %d samples in %s s", shard, len(outcomes), measured["seconds"])
    return recorded


class Album:
    """Makes the thumbnails of what people will look at; called by several threads.

    Attributes:
        unpredicted: Sample id -> digest that names the thumbnails, of the samples without
            a prediction.
    """

    def __init__(self) -> None:
        self.unpredicted: dict[int, str] = {}

    def keep(self, outcome: Outcome, data: bytes) -> None:
        """Make the thumbnails of a sample from the bytes of its file.

        Raises:
            ArtefactError: The storage could not take one.
        """
        if not outcome.is_unreadable:
            ensure_thumbnails(outcome.digest, data)
            return
        # Its bytes need not be those that were registered.
        digest = hashlib.sha256(data).hexdigest()
        if ensure_thumbnails(digest, data):
            self.unpredicted[outcome.id] = digest


def _samples(shard: Shard) -> list[SampleRef]:
    """Return the shard's samples: whole, as a connection may break while it is read."""
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
        .values_list("pk", "key", "label_id", "digest")
    )
    return [
        SampleRef(
            id=pk,
            key=key,
            url=url_for(root, key),
            label=index.get(label, -1),  # -1: an outcome that says so
            digest=digest,
        )
        for pk, key, label, digest in rows
    ]


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
        settings.compile,
    )


@lru_cache(maxsize=2)
def _warm(
    checkpoint: str,
    digest: str,
    spec: ModelSpec,
    device: Device,
    precision: Precision,
    compile_model: bool,  # noqa: FBT001 (a key of the cache)
) -> Predictor:
    from mining.checkpoints import load_model  # noqa: PLC0415 (loads torch)

    if checkpoint_digest(checkpoint) != digest:
        raise BadCheckpoint(
            f"{checkpoint} is not the file that was registered any more. Put that file "
            "back, or register this one as a new version."
        )
    return load_model(
        checkpoint,
        spec,
        device=device,
        precision=precision,
        compile_model=compile_model,
    )


def is_final(error: Exception) -> bool:
    """Whether every shard of the scan would meet the error.

    A checkpoint that cannot be reached now may be there in a moment, one that does not
    exist will not.
    """
    cause = error.__cause__
    passing = isinstance(cause, OSError) and not isinstance(
        cause, FileNotFoundError | PermissionError
    )
    return isinstance(error, BadCheckpoint | ClassMismatch) and not passing
