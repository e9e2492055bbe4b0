"""What a shard found is stored once, and only where something changed."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from django.db import connection, transaction

from mining.exceptions import ScanCountMismatch
from mining.types import Outcome, ScanSettings
from reviewapp.actions import findings
from reviewapp.actions.findings import record_shard
from reviewapp.copying import copy_columns
from reviewapp.models import (
    Finding,
    Label,
    Sample,
    Scan,
    Shard,
    Sighting,
    UnreadableSample,
)
from tests import factories

CAT, DOG, FOX = 0, 1, 2


@pytest.fixture
def samples(labels: list[Label]) -> list[Sample]:
    """Five cats."""
    return factories.SampleFactory.create_batch(5, label=labels[CAT])


@pytest.fixture
def begin(registered_model, samples):
    """Return a function that starts a scan of the five cats, in one running shard.

    Each is of another version of the model, so that several may run at once.
    """

    def begin(**options: object) -> Shard:
        version = factories.ModelVersionFactory(registered_model=registered_model)
        options = {"model_version": version, "state": Scan.State.RUNNING, **options}
        return factories.ShardFactory(
            scan=factories.ScanFactory(**options),
            first_sample=samples[0].pk,
            last_sample=samples[-1].pk,
            samples=len(samples),
            state=Shard.State.RUNNING,
            attempts=1,
        )

    return begin


def seen(sample: Sample, predicted: int, p_true: float = 0.25) -> Outcome:
    return Outcome(
        id=sample.pk,
        key=sample.key,
        digest=sample.digest,
        true=CAT,
        predicted=predicted,
        confidence=0.75,
        p_true=p_true,
        margin=0.5,
        loss=1.5,
        top_classes=(predicted, CAT),
        top_probs=(0.75, 0.25),
    )


@pytest.fixture
def found(samples: list[Sample]) -> list[Outcome]:
    """An error, one with a longer top, a near miss, a right one and an unreadable one."""
    a, b, c, d, e = samples
    longer = {"top_classes": (FOX, DOG, CAT), "top_probs": (0.5, 0.25, 0.25)}
    return [
        seen(a, DOG),
        replace(seen(b, FOX), digest="short", **longer),
        seen(c, CAT, 0.5),
        seen(d, CAT, 0.9),
        replace(seen(e, DOG), predicted=None, top_classes=(), error="it is empty"),
    ]


def versions_of_rows() -> list[tuple[int, str]]:
    """Return what changes whenever a finding is written, or so much as locked."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, xmin::text, xmax::text, ctid::text FROM reviewapp_finding"
            " ORDER BY id"
        )
        return cursor.fetchall()


def test_a_shard_is_stored_as_it_was_found(begin, found, labels, samples):
    shard = begin()
    assert record_shard(shard=shard, outcomes=found)
    stored = Finding.objects.order_by("sample").values_list(
        "sample", "predicted_label", "kind", "review_state", "presence", "digest"
    )
    cat, dog, fox = (label.pk for label in labels)
    assert list(stored) == [
        (samples[0].pk, dog, "misclassified", "open", "seen", samples[0].digest),
        (samples[1].pk, fox, "misclassified", "open", "seen", "short"),
        (samples[2].pk, cat, "near_miss", "open", "seen", samples[2].digest),
    ]
    sightings = Sighting.objects.order_by("finding__sample")
    assert [s.top_labels for s in sightings] == [
        [dog, cat],
        [fox, dog, cat],
        [cat, cat],
    ]
    assert [s.top_probs for s in sightings] == [
        [0.75, 0.25],
        [0.5, 0.25, 0.25],
        [0.75, 0.25],
    ]
    first = Finding.objects.order_by("sample").first()
    sighting = first.sightings.get()
    assert (first.priority, first.confidence) == (0.75, 0.75)
    assert (sighting.p_true, sighting.margin, sighting.loss) == (0.25, 0.5, 1.5)
    assert UnreadableSample.objects.get().reason == "it is empty"
    shard.refresh_from_db()
    counts = (shard.correct, shard.errors, shard.near_misses, shard.unreadable)
    assert (shard.state, *counts) == ("done", 2, 2, 1, 1)


def test_it_refuses_another_number_of_outcomes(begin, found):
    with pytest.raises(ScanCountMismatch, match="4 outcomes for 5 samples"):
        record_shard(shard=begin(), outcomes=found[:4])


def test_a_shard_without_findings_is_recorded(begin, found, samples):
    right = [seen(sample, CAT, 0.9) for sample in samples]
    assert record_shard(shard=begin(), outcomes=right)
    assert not Finding.objects.exists()


def test_a_scan_that_sees_the_same_again_writes_sightings_only(begin, found):
    record_shard(shard=begin(), outcomes=found)
    before = versions_of_rows()
    assert record_shard(shard=begin(), outcomes=found)
    assert versions_of_rows() == before
    assert Sighting.objects.count() == 2 * len(before) == 6


def test_only_what_changed_is_written(begin, found):
    record_shard(shard=begin(), outcomes=found)
    before = versions_of_rows()
    changed = replace(found[0], p_true=0.125)
    record_shard(shard=begin(), outcomes=[changed, *found[1:]])
    after = versions_of_rows()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]
    assert Finding.objects.order_by("id").first().priority == 0.875


def test_another_prediction_for_a_reviewed_sample_says_so(begin, found):
    record_shard(shard=begin(), outcomes=found)
    dismissed = Finding.objects.order_by("id").first()
    Finding.objects.filter(pk=dismissed.pk).update(review_state="dismissed")
    other = replace(found[0], predicted=FOX)
    record_shard(shard=begin(), outcomes=[other, *found[1:]])
    new = Finding.objects.exclude(pk=dismissed.pk).get(sample=dismissed.sample)
    assert new.reopened_because == (
        "the prediction changed from dog to fox since it was dismissed"
    )
    dismissed.refresh_from_db()
    assert dismissed.review_state == "dismissed"
    others = Finding.objects.exclude(sample=dismissed.sample)
    assert set(others.values_list("reopened_because", flat=True)) == {""}


def test_the_same_attempt_may_ask_again_whether_it_is_recorded(begin, found):
    shard = begin()
    assert record_shard(shard=shard, outcomes=found)
    assert record_shard(shard=shard, outcomes=found)
    assert Sighting.objects.count() == 3


@pytest.mark.parametrize(
    ("shards", "scans"),
    [({"attempts": 2}, {}), ({"state": "queued"}, {}), ({}, {"state": "cancelled"})],
)
def test_a_shard_that_was_taken_away_writes_nothing(begin, found, shards, scans):
    shard = begin()
    Shard.objects.filter(pk=shard.pk).update(**shards)
    Scan.objects.filter(pk=shard.scan_id).update(**scans)
    assert not record_shard(shard=shard, outcomes=found)
    assert not Finding.objects.exists()
    assert not UnreadableSample.objects.exists()


def test_a_shard_whose_part_was_lost_is_recorded_again(begin, found):
    shard = begin()
    record_shard(shard=shard, outcomes=found)
    before = versions_of_rows()
    Shard.objects.filter(pk=shard.pk).update(state=Shard.State.RUNNING, attempts=2)
    shard.refresh_from_db()
    assert record_shard(shard=shard, outcomes=found)
    assert versions_of_rows() == before
    assert Sighting.objects.count() == UnreadableSample.objects.count() + 2 == 3


def test_a_scan_for_the_record_leaves_no_findings(begin, found):
    assert record_shard(shard=begin(for_record=True), outcomes=found)
    assert not Finding.objects.exists()
    assert UnreadableSample.objects.exists()


def test_a_scan_in_progress_does_not_move_presence(begin, found):
    record_shard(shard=begin(), outcomes=found)
    Finding.objects.update(presence="fixed")
    record_shard(shard=begin(), outcomes=found)
    assert set(Finding.objects.values_list("presence", flat=True)) == {"fixed"}


def staged() -> int:
    with connection.cursor() as cursor:
        cursor.execute(findings.STAGING)
        cursor.execute("SELECT count(*) FROM staged_outcome_6")
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_fails_leaves_nothing(begin, found, monkeypatch):
    shard = begin()
    with monkeypatch.context() as patch:
        patch.setattr(findings, "STORE", "SELECT 1/0, %(scan)s")
        with pytest.raises(Exception, match="division by zero"):
            record_shard(shard=shard, outcomes=found)
    assert (staged(), Finding.objects.count(), Sighting.objects.count()) == (0, 0, 0)
    shard.refresh_from_db()
    assert shard.state == Shard.State.RUNNING
    assert record_shard(shard=shard, outcomes=found)
    assert (staged(), Finding.objects.count(), Sighting.objects.count()) == (0, 3, 3)


@pytest.mark.django_db(transaction=True)
def test_connections_do_not_see_what_others_stage(begin, found):
    mine, theirs = begin(), begin()
    is_staged, is_recorded = threading.Event(), threading.Event()
    theirs_staged = []

    def stage() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(findings.STAGING)
                for block in findings._blocks(theirs.scan, found[1:2]):
                    copy_columns("staged_outcome_6", block)
                is_staged.set()
                is_recorded.wait(30)
                theirs_staged.append(staged())
        finally:
            connection.close()

    other = threading.Thread(target=stage)
    other.start()
    assert is_staged.wait(30)
    recorded = record_shard(shard=mine, outcomes=found)
    is_recorded.set()
    other.join()
    assert recorded
    assert theirs_staged == [1]
    assert Sighting.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_two_versions_at_once_share_a_finding(begin, found):
    first, second = begin(), begin()
    has_written = threading.Event()

    def record_slowly() -> None:
        try:
            with transaction.atomic():
                record_shard(shard=first, outcomes=found)
                has_written.set()
                wait_for_a_lock()
        finally:
            connection.close()

    other = threading.Thread(target=record_slowly)
    other.start()
    assert has_written.wait(30)
    surer = replace(found[0], p_true=0.125)
    assert record_shard(shard=second, outcomes=[surer, *found[1:]])
    other.join()
    assert (Finding.objects.count(), Sighting.objects.count()) == (3, 6)
    assert Finding.objects.order_by("sample").first().priority == 0.875


def wait_for_a_lock() -> None:
    """Return when another connection waits for what this one holds."""
    with connection.cursor() as cursor:
        for _ in range(300):
            cursor.execute(
                "SELECT count(*), pg_sleep(0.1) FROM pg_stat_activity WHERE"
                " datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waited")


def test_first_and_last_scan_follow_from_the_sightings(begin, found, samples):
    first, last = begin(), begin()
    record_shard(shard=first, outcomes=found)
    record_shard(shard=last, outcomes=[seen(samples[0], CAT, 0.9), *found[1:]])
    scans = Finding.objects.with_scans().order_by("sample")
    assert list(scans.values_list("first_scan", "last_scan")) == [
        (first.scan_id, first.scan_id),
        (first.scan_id, last.scan_id),
        (first.scan_id, last.scan_id),
    ]


def test_columns_come_out_as_they_went_in(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE t (a bigint, b int, c float8, d bpchar, e bigint[],"
            " f float8[], g float8[]) ON COMMIT DROP"
        )
        columns = {
            "a": np.array([-1, 2**62]),
            "b": np.array([-5, 7], np.int32),
            "c": np.array([0.1, np.inf]),
            "d": np.array(["é".encode(), b"longer"]),
            "e": np.array([[1, -2], [3, 4]]),
            "f": np.array([[0.5], [-0.25]]),
            "g": np.empty((2, 0)),
        }
        assert copy_columns("t", columns) == 2
        cursor.execute("SELECT a, b, c, d::text, e, f, g FROM t")
        assert cursor.fetchall() == [
            (-1, -5, 0.1, "é", [1, -2], [0.5], []),
            (2**62, 7, float("inf"), "longer", [3, 4], [-0.25], []),
        ]


def test_no_rows_are_no_rows(db):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (a bigint) ON COMMIT DROP")
        assert copy_columns("t", {"a": np.empty(0, np.int64)}) == 0


def test_settings_decide_what_is_a_near_miss(begin, found):
    settings = ScanSettings(near_miss_below=0.4).to_dict()
    record_shard(shard=begin(settings=settings), outcomes=found)
    assert not Finding.objects.filter(kind="near_miss").exists()
