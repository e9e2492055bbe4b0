"""Data sets, scans and outcomes for benchmarks: many rows in seconds, no images."""

from __future__ import annotations

import numpy as np
from django.db import connection
from django.utils import timezone

from mining.types import Outcome, ScanSettings
from reviewapp.models import (
    Dataset,
    Label,
    ModelVersion,
    RegisteredModel,
    Scan,
    Shard,
)

TOP_K = 5

SAMPLES = """
INSERT INTO reviewapp_sample (dataset_id, key, label_id, original_label_id, split,
                              digest, size, attributes)
SELECT %(dataset)s, 'test/' || lpad(i::text, 8, '0') || '.jpg', l.id, l.id, 'test',
       encode(sha256(i::text::bytea), 'hex'), 50000, '{}'
  FROM generate_series(0, %(samples)s - 1) i
  JOIN reviewapp_label l ON l.dataset_id = %(dataset)s AND l.index = i %% %(classes)s
 ORDER BY i
"""


def make_version(name: str, *, samples: int, classes: int) -> ModelVersion:
    """Make a data set with its samples, and a model version that knows its classes."""
    dataset = Dataset.objects.create(name=name, slug=name, root="memory://data")
    names = [f"class {i:04d}" for i in range(classes)]
    Label.objects.bulk_create(
        Label(dataset=dataset, name=n, index=i) for i, n in enumerate(names)
    )
    with connection.cursor() as cursor:
        sizes = {"dataset": dataset.pk, "samples": samples, "classes": classes}
        cursor.execute(SAMPLES, sizes)
        cursor.execute("ANALYZE reviewapp_sample")
    model = RegisteredModel.objects.create(dataset=dataset, name=name)
    return ModelVersion.objects.create(
        registered_model=model,
        number=1,
        checkpoint="memory://models/1.onnx",
        digest="0" * 64,
        format="onnx",
        classes=names,
        preprocessing={},
    )


def start_scan(version: ModelVersion, *, shard_size: int) -> list[Shard]:
    """Start a scan, claim all of its shards at once and return them."""
    from reviewapp.actions.scans import start_scan as start_scan_action

    scan = start_scan_action(
        dataset=version.registered_model.dataset,
        version=version,
        trigger=Scan.Trigger.COMMAND,
        by=None,
        settings=ScanSettings(shard_size=shard_size).to_dict(),
    )
    now = timezone.now()
    Scan.objects.filter(pk=scan.pk).update(state=Scan.State.RUNNING, started_at=now)
    scan.shards.update(state=Shard.State.RUNNING, attempts=1, heartbeat_at=now)
    rows = Shard.objects.filter(scan=scan).order_by("number")
    return list(
        rows.select_related("scan__dataset", "scan__model_version__registered_model")
    )


def outcomes(shard: Shard, *, error_share: float, seed: int = 0) -> list[Outcome]:
    """Return what a model would say of the shard's samples; the same for a seed.

    A model mistakes a class for its neighbours most of the time, as models do.

    Args:
        shard: Whose samples; their ids follow each other.
        error_share: Share of the samples that are errors, 0-1; the others are right,
            none a near miss.
        seed: Another one gives other errors and other scores.
    """
    classes = len(shard.scan.classes)
    rng = np.random.default_rng((seed, shard.number))
    n = shard.samples
    first = shard.number * shard.scan.settings["shard_size"]
    true = (first + np.arange(n)) % classes
    wrong = rng.random(n) < error_share
    away = np.minimum(rng.geometric(0.3, n), classes - 1) * wrong
    top = (true + away)[:, None] + np.arange(TOP_K)
    probs = np.sort(rng.dirichlet(np.ones(TOP_K), n))[:, ::-1]
    probs[:, 0] += 3  # right ones are sure, so that they are no near misses
    probs /= probs.sum(1, keepdims=True)
    p_true = np.where(wrong, probs[:, -1], probs[:, 0])
    loss = -np.log(p_true)
    digests = _digests(shard)
    columns = zip(
        true.tolist(),
        (top % classes).tolist(),
        probs.tolist(),
        p_true.tolist(),
        loss.tolist(),
        strict=True,
    )
    return [
        Outcome(
            id=shard.first_sample + i,
            key=f"test/{first + i:08d}.jpg",
            digest=digests[i],
            true=label,
            predicted=guesses[0],
            confidence=p[0],
            p_true=p_of_true,
            margin=p[0] - p[1],
            loss=nats,
            top_classes=tuple(guesses),
            top_probs=tuple(p),
        )
        for i, (label, guesses, p, p_of_true, nats) in enumerate(columns)
    ]


def _digests(shard: Shard) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT digest FROM reviewapp_sample WHERE id BETWEEN %s AND %s ORDER BY id",
            (shard.first_sample, shard.last_sample),
        )
        return [digest for (digest,) in cursor.fetchall()]
