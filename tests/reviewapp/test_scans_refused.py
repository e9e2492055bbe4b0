"""Scans and shards that are refused, taken over or cancelled."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.utils import timezone

from mining.exceptions import BadCheckpoint, ClassMismatch
from reviewapp.actions.scans import cancel_scan, start_scan
from reviewapp.actions.shards import beat_shard, claim_shard, fail_shard
from reviewapp.exceptions import AlreadyRunning, Refused
from reviewapp.models import (
    Confusion,
    Finding,
    Scan,
    Shard,
    Sighting,
)
from reviewapp.scanning import scan_shard
from tests import scanning
from tests.reviewapp.test_scans import (
    animals,
    net,
    staff,
    truth,
)

__all__ = ["animals", "net", "staff", "truth"]


def test_two_scans_of_one_version_cannot_be_active(net):
    options = {"dataset": net.registered_model.dataset, "version": net, "by": None}
    start_scan(**options, trigger=Scan.Trigger.PAGE)
    with pytest.raises(AlreadyRunning, match="still queued"):
        start_scan(**options, trigger=Scan.Trigger.API)


def test_it_refuses_renamed_classes_with_both_lists(net, animals):
    animals.labels.filter(name="fox").update(name="wolf")
    with pytest.raises(ClassMismatch) as caught:
        scanning.scan(net)
    assert "fox" in str(caught.value)
    assert "wolf" in str(caught.value)
    assert not Scan.objects.exists()


def test_it_refuses_an_empty_split(net):
    with pytest.raises(Refused, match="no samples in the split val"):
        scanning.scan(net, split="val")


def test_it_refuses_settings_out_of_range(net):
    with pytest.raises(Refused, match="batch_size"):
        scanning.scan(net, settings={"batch_size": -1})


def test_a_shard_is_claimed_once(net):
    started = start_scan(
        dataset=net.registered_model.dataset,
        version=net,
        trigger=Scan.Trigger.PAGE,
        by=None,
    )
    shard = started.shards.get()
    now = timezone.now()
    assert claim_shard(shard_id=shard.pk, worker="a", at=now).attempts == 1
    assert claim_shard(shard_id=shard.pk, worker="a") is None
    assert claim_shard(shard_id=shard.pk, worker="b", at=now) is None
    # Whose answer was lost asks again, of the same moment.
    assert claim_shard(shard_id=shard.pk, worker="a", at=now).attempts == 1


def test_a_taken_over_shard_writes_nothing(net):
    started = start_scan(
        dataset=net.registered_model.dataset,
        version=net,
        trigger=Scan.Trigger.PAGE,
        by=None,
    )
    slow = claim_shard(shard_id=started.shards.get().pk, worker="slow")
    fail_shard(shard=Shard.objects.get(pk=slow.pk), message="lost", final=False)
    quick = claim_shard(shard_id=slow.pk, worker="quick")
    assert not beat_shard(shard=slow, samples_done=1)
    assert not scan_shard(slow)
    assert not Sighting.objects.exists()
    assert scan_shard(Shard.objects.get(pk=quick.pk))
    assert Sighting.objects.count() == Finding.objects.count() > 0


def test_cancelling_keeps_the_history_as_it_was(net, staff):
    scanning.scan(net)
    started = start_scan(
        dataset=net.registered_model.dataset,
        version=net,
        trigger=Scan.Trigger.PAGE,
        by=staff,
    )
    cancel_scan(scan=started, by=staff)
    assert claim_shard(shard_id=started.shards.get().pk, worker="w") is None
    assert started.state == Scan.State.CANCELLED
    assert {line.present for line in Confusion.objects.all()} == {1, 2, 3}
    with pytest.raises(Refused, match="cancelled already"):
        cancel_scan(scan=started, by=staff)


def test_a_worker_without_the_checkpoint_says_what_to_do(net):
    from reviewapp.scanning import _warm

    _warm.cache_clear()
    Path(net.checkpoint).unlink()
    with pytest.raises(BadCheckpoint, match=r"1\.onnx"):
        scanning.scan(net)
