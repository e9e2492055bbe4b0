"""Comparisons are made once, by one worker, and kept."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from reviewapp import tasks
from reviewapp.actions.comparisons import run_comparison, start_comparison
from reviewapp.exceptions import Refused
from reviewapp.models import Comparison, Event
from tests import factories
from tests.comparing import add_samples, add_scan, lose


@pytest.fixture
def scans(version, registered_model, labels):
    later = factories.ModelVersionFactory(registered_model=registered_model)
    samples = add_samples(labels, "ccdd")
    return add_scan(version, samples, "cdcd"), add_scan(later, samples, "ccdd")


@pytest.fixture
def start(scans, rita):
    def start(**options) -> Comparison:
        baseline, candidate = scans
        return start_comparison(
            baseline=baseline, candidate=candidate, by=rita, **options
        )

    return start


def made(comparison: Comparison) -> Comparison:
    return run_comparison(comparison=comparison)


def test_it_is_made_and_kept(start, rita) -> None:
    comparison = start()
    assert (comparison.state, comparison.requested_by) == ("queued", rita)

    done = made(comparison)

    assert (done.state, done.message, done.labels) == ("done", "", "corrected")
    assert (done.figures["fixed"], done.figures["broken"]) == (2, 0)
    assert [row[2:] for row in done.details["images"]["fixed"]] == [
        ["dog", "cat"],
        ["cat", "dog"],
    ]
    assert done.finished_at is not None
    event = Event.objects.get(action="comparison started")
    assert (event.actor, event.object_id) == (rita, done.pk)


def test_started_twice_there_is_one_and_one_event(start) -> None:
    assert start() == start()
    assert Event.objects.filter(action="comparison started").count() == 1
    assert start(labels="original") != start(common=True)
    assert Comparison.objects.count() == 3


def test_run_twice_it_does_nothing_the_second_time(start) -> None:
    comparison = start()
    first = made(comparison).finished_at
    assert made(comparison).finished_at == first


def test_asked_for_again_it_is_made_anew_and_keeps_the_old_until_then(start) -> None:
    first = made(start())
    again = start()
    assert (again.pk, again.state) == (first.pk, "queued")
    assert again.figures == first.figures
    assert made(again).finished_at > first.finished_at


def test_scans_of_other_samples_leave_what_differs(start, scans, labels) -> None:
    made(start())
    samples = add_samples(labels, "f", key="alone.png")
    scans[1].artefact = add_scan(scans[1].model_version, samples, "f").artefact
    scans[1].save()

    refused = made(start())

    assert (refused.state, refused.figures) == ("refused", {})
    assert refused.details["left_out"]["only_in_candidate"] == {
        "count": 1,
        "keys": ["alone.png"],
    }
    assert "only in candidate: 1 (alone.png)" in refused.message
    nothing = made(start(common=True))
    assert (nothing.state, nothing.details) == ("refused", {})
    assert "no sample left" in nothing.message


def test_a_lost_artefact_fails_it_and_says_what_to_do(start, scans) -> None:
    lose(scans[0])
    failed = made(start())
    assert failed.state == "failed"
    assert "scan again" in failed.message


def test_it_refuses_unknown_labels_and_what_is_no_pair(start, scans, rita) -> None:
    with pytest.raises(Refused, match="Choose corrected, original"):
        start(labels="mixed")
    with pytest.raises(Refused, match="with itself"):
        start_comparison(baseline=scans[0], candidate=scans[0], by=rita)
    assert not Comparison.objects.exists()


def test_the_task_makes_it_and_a_deleted_one_is_nothing(start) -> None:
    comparison = start()
    tasks.run_comparison(comparison.pk)
    comparison.refresh_from_db()
    assert comparison.state == "done"
    tasks.run_comparison(0)


def test_lost_ones_are_sent_again_and_fresh_ones_are_not(start, monkeypatch) -> None:
    sent: list[int] = []

    def send(task, pks, **options):
        if task is tasks.run_comparison:
            sent.extend(pks)

    monkeypatch.setattr(tasks, "_send", send)
    monkeypatch.setattr(tasks, "_messages", lambda queue: 0)
    long_ago = timezone.now() - timedelta(hours=1)
    dead, fresh = start(), start(labels="original")
    Comparison.objects.filter(pk=dead.pk).update(
        state="running", heartbeat_at=long_ago, requested_at=long_ago
    )
    tasks.recover_lost_work()
    assert sent == [dead.pk]
    Comparison.objects.filter(pk=fresh.pk).update(
        state="running", heartbeat_at=timezone.now(), requested_at=long_ago
    )
    sent.clear()
    tasks.recover_lost_work()
    assert sent == [dead.pk]


def test_one_that_was_given_up_does_not_write_over_its_successor(
    start, monkeypatch
) -> None:
    comparison = start()

    def slow(**options):
        Comparison.objects.filter(pk=comparison.pk).update(
            state="running", heartbeat_at=timezone.now()
        )
        raise OSError("late")

    monkeypatch.setattr("reviewapp.actions.comparisons.compare_scans", slow)
    assert made(comparison).state == "running"
