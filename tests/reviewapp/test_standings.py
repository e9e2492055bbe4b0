"""Standings equal the findings, whatever happens to them, and whoever is faster."""

from __future__ import annotations

import random
import threading
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from reviewapp.actions.confusions import update_ledger
from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.findings import record_shard
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.presence import settle_presence
from reviewapp.actions.reviews import undo
from reviewapp.actions.standings import (
    fold_a_few,
    fold_standings,
    miscounts,
    recount_standings,
)
from reviewapp.exceptions import HardmineError
from reviewapp.models import (
    Confusion,
    Finding,
    Review,
    Scan,
    Shard,
    Sighting,
    Standing,
    StandingChange,
    Verdict,
)
from tests import factories
from tests.reviewing import decide


def counted(world):
    """Return (true, predicted) -> what the findings say, those that say nothing left out."""
    found = {}
    for f in Finding.objects.for_dataset(world.dataset):
        seen, is_open = f.presence in f.PRESENT, f.review_state == "open"
        values = (
            seen,
            seen and is_open,
            f.presence == "regressed" and is_open,
            not is_open,
        )
        pair = (f.true_label_id, f.predicted_label_id)
        sums = found.setdefault(pair, [0, 0, 0, 0])
        found[pair] = [n + bool(v) for n, v in zip(sums, values, strict=True)]
    return {pair: tuple(n) for pair, n in found.items()}


def said():
    """Return the same from the standings."""
    rows = Standing.objects.values_list(
        "true_label", "predicted_label", "present", "waiting", "back", "reviewed"
    )
    return {tuple(row[:2]): row[2:] for row in rows}


def outcome(sample, labels, predicted, p_true):
    from mining.types import Outcome

    true = labels.index(sample.label)
    return Outcome(
        id=sample.pk,
        key=sample.key,
        digest=sample.digest,
        true=true,
        predicted=predicted,
        confidence=0.75,
        p_true=p_true,
        margin=0.5,
        loss=1.5,
        top_classes=(predicted, (predicted + 1) % 3),
        top_probs=(0.75, 0.25),
    )


def scan_all(world, samples, rng):
    """Scan the samples as a worker does, with made-up predictions."""
    version = factories.ModelVersionFactory(registered_model=world.model)
    scan = factories.ScanFactory(model_version=version, state=Scan.State.RUNNING)
    half = len(samples) // 2
    for part in (samples[:half], samples[half:]):
        shard = factories.ShardFactory(
            scan=scan, first_sample=part[0].pk, last_sample=part[-1].pk,
            samples=len(part), state=Shard.State.RUNNING, attempts=1,
        )  # fmt: skip
        for sample in part:
            sample.refresh_from_db()
        record_shard(
            shard=shard,
            outcomes=[
                outcome(s, world.labels, rng.randrange(3), rng.choice([0.1, 0.5, 0.9]))
                for s in part
            ],
        )
    with transaction.atomic():
        settle_presence(scan)
        update_ledger(dataset=world.dataset, model=world.model, scan=scan)
    fold_standings()


def review_some(world, reviewers, rng):
    """Give ten verdicts, some of which are refused."""
    for finding in rng.sample(list(Finding.objects.all()), 10):
        verdict = rng.choice(list(Verdict))
        label = rng.choice(world.labels) if verdict is Verdict.RELABEL else None
        try:
            decide(
                finding=finding, by=rng.choice(reviewers), verdict=verdict,
                version=finding.version, new_label=label,
            )  # fmt: skip
        except HardmineError:
            continue


def take_some_back(rng):
    for review in rng.sample(list(Review.objects.standing()), 3):
        try:
            undo(review=review, by=review.reviewer)
        except HardmineError:
            continue


@pytest.mark.parametrize("seed", range(3))
def test_the_standings_equal_the_findings_whatever_happens(world, rita, lena, seed):
    rng = random.Random(seed)
    samples = [
        factories.SampleFactory(label=rng.choice(world.labels)) for _ in range(40)
    ]
    scan_all(world, samples, rng)
    assert said() == counted(world)
    for _ in range(4):
        review_some(world, [rita, lena], rng)
        assert said() == counted(world)
        take_some_back(rng)
        assert said() == counted(world)
        scan_all(world, samples, rng)
        assert said() == counted(world)
    assert {f.presence for f in Finding.objects.all()} >= {"seen", "fixed", "regressed"}
    assert {f.review_state for f in Finding.objects.all()} > {"open", "flagged"}
    lines = Confusion.objects.of_model(world.model)
    assert {(c.true_label_id, c.predicted_label_id): c.present for c in lines} == {
        pair: n[0] for pair, n in counted(world).items() if pair[0] != pair[1]
    }
    assert miscounts() == []


def test_findings_that_are_removed_are_not_counted(world, rita):
    world.add_findings(5, predicted=2)
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    Sighting.objects.all().delete()
    Finding.objects.filter(pk=world.findings[-1].pk).delete()
    assert said() == counted(world)
    Finding.objects.all().delete()
    assert set(said().values()) == {(0, 0, 0, 0)}
    assert not StandingChange.objects.exists()


def test_changes_of_a_model_that_is_gone_are_dropped(many_pairs, registered_model):
    StandingChange.objects.update(registered_model=registered_model.pk + 1)
    assert fold_standings() == 0
    assert not StandingChange.objects.exists()
    assert not Standing.objects.exists()


@pytest.fixture
def many_pairs(dataset, registered_model):
    """A finding each of 30 confusions, stored at once, as a shard does."""
    labels = [factories.LabelFactory(dataset=dataset) for _ in range(6)]
    pairs = [(a, b) for a in labels for b in labels if a != b]
    return Finding.objects.bulk_create(
        factories.FindingFactory.build(
            dataset=dataset,
            sample=factories.SampleFactory(label=true),
            true_label=true,
            predicted_label=predicted,
            registered_model=registered_model,
        )
        for true, predicted in pairs
    )


def test_hundreds_of_confusions_at_once_wait_for_their_turn(many_pairs, dataset):
    assert not Standing.objects.exists()
    assert StandingChange.objects.count() == 30
    assert fold_a_few() == 0  # they are fresh
    StandingChange.objects.update(
        created_at=timezone.now() - timezone.timedelta(minutes=1)
    )
    assert fold_a_few() == 30
    assert set(Standing.objects.values_list("present", "waiting")) == {(1, 1)}
    assert not StandingChange.objects.exists()
    # What a scan has only added, the ledger hears of when the scan is whole.
    assert not Confusion.objects.for_dataset(dataset).exists()


def test_the_ledger_counts_what_still_waits_for_its_turn(many_pairs, dataset, rita):
    decide(finding=many_pairs[0], by=rita, verdict=Verdict.CONFIRM)
    line = Confusion.objects.get()
    assert (line.state, line.present) == ("in_review", 1)
    fold_standings()
    assert Standing.objects.filter(reviewed=1, waiting=0, present=1).count() == 1


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_standing(world, rita):
    """A verdict and a shard in the confusion that an open transaction has changed."""
    decide(finding=world.findings[2], by=rita, verdict=Verdict.CONFIRM)  # in review
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
                held.set()
                assert done.wait(20)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(20)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '3s'")
        lena = factories.UserFactory()
        decide(finding=world.findings[1], by=lena, verdict=Verdict.CONFIRM)
        world.add_findings(2)
        assert StandingChange.objects.count() == 3
    finally:
        done.set()
        thread.join()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert said() != counted(world)
    assert fold_standings() == 3
    assert said() == counted(world)


def test_an_export_is_noted_at_its_confusions(world, rita, alice):
    world.add_findings(1, predicted=2)
    near = world.add_findings(1, predicted=0)[0]
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    decide(finding=near, by=rita, verdict=Verdict.CONFIRM)
    fix_set = freeze_fix_set(
        dataset=world.dataset, name="one", findings=Finding.objects.all(), by=alice
    )
    assert not Standing.objects.filter(is_exported=True).exists()
    run_export(export=request_export(fix_set=fix_set, format="csv", by=alice))
    noted = Standing.objects.filter(is_exported=True).order_by("kind")
    assert [s.kind for s in noted] == ["misclassified", "near_miss"]
    assert Confusion.objects.get(predicted_label=world.labels[1]).state == "in_review"
    for finding in world.findings[1:3]:
        decide(finding=finding, by=rita, verdict=Verdict.DISMISS)
    assert (
        Confusion.objects.get(predicted_label=world.labels[1]).state == "fix_exported"
    )


def test_a_wrong_count_is_said_and_repaired(world, rita):
    world.add_findings(1, predicted=2)
    decide(finding=world.findings[0], by=rita, verdict=Verdict.FLAG)
    out = StringIO()
    call_command("check_standings", stdout=out)
    assert "All confusions say what their findings say." in out.getvalue()
    Standing.objects.filter(predicted_label=world.labels[1]).update(waiting=7)
    Standing.objects.filter(predicted_label=world.labels[2]).delete()
    with pytest.raises(CommandError, match="2 confusions are miscounted"):
        call_command("check_standings", stdout=out)
    assert (
        "resnet, cat → dog: shown (3, 7, 0, 1), counted (3, 2, 0, 1)" in out.getvalue()
    )
    call_command("check_standings", "--repair", stdout=out)
    assert "2 of the confusions were wrong" in out.getvalue()
    assert said() == counted(world)
    assert recount_standings() == 0


def test_the_lines_are_brought_up_to_date_in_one_order(dataset, labels, monkeypatch):
    """A verdict locks the lines of several models in the order of their ids."""
    models = [factories.RegisteredModelFactory(dataset=dataset) for _ in range(8)]
    for model in reversed(models):
        StandingChange.objects.create(
            dataset=dataset,
            registered_model=model,
            true_label=labels[0],
            predicted_label=labels[1],
            present=0,
            waiting=-1,
            back=0,
            reviewed=1,
        )
    told = []
    monkeypatch.setattr(
        "reviewapp.actions.standings.update_ledger",
        lambda *, model, **_: told.append(model),
    )
    fold_standings()
    assert told == models
