"""Scans whose answers are given, by all that workers do but for the model."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mining.types import Outcome
from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.findings import record_shard
from reviewapp.actions.finishing import finish_scan, store_part
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.models import Finding, FixSet, ModelVersion, Sample, Scan, Shard, User
from tests import factories


def begin(
    version: ModelVersion,
    samples: Sequence[Sample],
    *,
    shards: int = 1,
    split: str = "",
) -> Scan:
    """Start a scan of these samples with all of its shards at work."""
    scan = factories.ScanFactory(
        model_version=version,
        state=Scan.State.RUNNING,
        split=split,
        samples=len(samples),
    )
    size = -(-len(samples) // shards)
    for number in range(shards):
        part = samples[number * size : (number + 1) * size]
        factories.ShardFactory(
            scan=scan,
            number=number,
            first_sample=part[0].pk,
            last_sample=part[-1].pk,
            samples=len(part),
            state=Shard.State.RUNNING,
            attempts=1,
        )
    return scan


def answer(
    shard: Shard,
    samples: Sequence[Sample],
    said: Sequence[int],
    unreadable: Collection[int] = (),
) -> None:
    """Record a shard: the index of the class that the model says of each sample.

    Args:
        shard: The shard.
        samples: All samples of the scan, as they are now.
        said: One for each of them.
        unreadable: Ids of samples that cannot be read.
    """
    place_of = {label: place for place, label in enumerate(shard.scan.classes)}
    outcomes = [
        _outcome(
            sample,
            place_of[sample.label_id],
            None if sample.pk in unreadable else predicted,
        )
        for sample, predicted in zip(samples, said, strict=True)
        if shard.first_sample <= sample.pk <= shard.last_sample
    ]
    store_part(shard=shard, outcomes=outcomes)
    assert record_shard(shard=shard, outcomes=outcomes)


def scan(
    version: ModelVersion,
    samples: Sequence[Sample],
    said: Sequence[int],
    *,
    unreadable: Collection[int] = (),
    split: str = "",
) -> Scan:
    """Return a finished scan with these answers."""
    now = Sample.objects.in_bulk([sample.pk for sample in samples])
    fresh = [now[sample.pk] for sample in samples]
    started = begin(version, fresh, split=split)
    for shard in started.shards.all():
        answer(shard, fresh, said, unreadable)
    return finish_scan(scan=started)


def export(findings: Sequence[Finding], by: User, name: str = "fix") -> FixSet:
    """Freeze the reviewed ones of these findings and export them."""
    dataset = findings[0].dataset
    chosen = Finding.objects.filter(pk__in=[finding.pk for finding in findings])
    fix_set = freeze_fix_set(dataset=dataset, name=name, findings=chosen, by=by)
    export = request_export(fix_set=fix_set, format="csv", by=by)
    assert run_export(export=export).state == "done", export.message
    return fix_set


def _outcome(sample: Sample, true: int, predicted: int | None) -> Outcome:
    is_right = true == predicted
    return Outcome(
        id=sample.pk,
        key=sample.key,
        digest=sample.digest,
        true=true,
        predicted=predicted,
        confidence=0.9,
        p_true=0.9 if is_right else 0.05,
        margin=0.85,
        loss=0.1 if is_right else 3.0,
        top_classes=(true if predicted is None else predicted,),
        top_probs=(0.9,),
        error="" if predicted is not None else "cut short",
    )
