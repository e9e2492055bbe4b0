"""What workers make in one go: kept alive, given back, and given up in the end."""

from __future__ import annotations

from datetime import timedelta
from threading import Event

import pytest
from django.utils import timezone

from reviewapp.actions.comparisons import start_comparison
from reviewapp.actions.makings import Hold, make, requeue_silent
from reviewapp.models import Analysis, Comparison, Export, Recipe, Report
from reviewapp.models.makings import Making
from tests import factories

KINDS = (Analysis, Comparison, Export, Recipe, Report)


def long_ago():
    return timezone.now() - timedelta(hours=1)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def making(request, fix_set, version) -> Making:
    """One of each kind, asked for an hour ago."""
    kind = request.param
    fix_set.recipes.all().delete()
    before, after = factories.ScanFactory.create_batch(2, model_version=version)
    run = factories.TrainingRunFactory(parent=version)
    fields = {
        Analysis: {"scan": before, "what": "slices"},
        Comparison: {"baseline": before, "candidate": after},
        Export: {"fix_set": fix_set, "format": "csv"},
        Recipe: {"fix_set": fix_set, "settings": {}},
        Report: {"run": run},
    }[kind]
    asked = {kind.ASKED_AT: long_ago()}
    made = kind.objects.create(**fields | asked)
    kind.objects.filter(pk=made.pk).update(**asked)
    return made


def lose(making: Making) -> None:
    rows = type(making).objects.filter(pk=making.pk)
    rows.update(state="running", heartbeat_at=long_ago())


def test_what_ends_its_workers_is_given_up_and_says_what_was_kept(
    making, settings
) -> None:
    settings.SHARD_MAX_LOSSES = 2
    kind = type(making)
    lose(making)
    assert requeue_silent(kind=kind) == [making.pk]
    making.refresh_from_db()
    assert (making.state, making.losses, making.message) == ("queued", 1, "")
    lose(making)
    told = []
    assert requeue_silent(kind=kind, then=told.append) == []
    making.refresh_from_db()
    assert (making.state, making.losses) == ("failed", 2)
    assert making.message.startswith("Workers that went silent over it: 2, the last")
    assert making.message.endswith(
        f"out of memory. {kind.KEPT} Give them more memory, then ask for it again."
    )
    assert making.finished_at
    assert told == [making]
    assert requeue_silent(kind=kind, then=told.append) == []
    assert len(told) == 1


def test_who_shows_life_keeps_it(making) -> None:
    lose(making)
    hold = Hold(making)
    assert not hold.is_held  # another worker has it
    type(making).objects.update(state="queued")
    hold = Hold(making)
    assert hold.is_held
    assert requeue_silent(kind=type(making)) == []
    making.refresh_from_db()
    assert (making.state, making.losses) == ("running", 0)


@pytest.fixture
def comparison(version) -> Comparison:
    before, after = factories.ScanFactory.create_batch(2, model_version=version)
    return start_comparison(baseline=before, candidate=after, by=None)


def test_asked_for_again_it_has_all_its_workers_again(comparison) -> None:
    Comparison.objects.update(state="failed", losses=9, message="They were stopped")
    sides = {"baseline": comparison.baseline, "candidate": comparison.candidate}
    again = start_comparison(**sides, by=None)
    assert (again.state, again.losses, again.message) == ("queued", 0, "")


def test_its_lease_is_kept_while_it_is_being_made(
    comparison, settings, monkeypatch
) -> None:
    settings.SHARD_LEASE_SECONDS = 0.01
    beaten = Event()
    monkeypatch.setattr(Hold, "_beat", lambda hold: beaten.set() or True)

    def outcome(hold):
        assert beaten.wait(30)
        return {}

    assert make(making=comparison, outcome=outcome).state == "done"


def test_progress_is_written_with_the_sign_of_life(fix_set) -> None:
    export = Export.objects.create(fix_set=fix_set, format="csv")
    hold = Hold(export)
    hold.tell(done=1)  # within the first second
    export.refresh_from_db()
    first = export.heartbeat_at
    assert export.done == 0
    hold.beat_now()
    export.refresh_from_db()
    assert export.done == 1
    assert export.heartbeat_at > first
    assert hold.end({"state": "done"})


def test_who_was_given_up_ends_nothing(comparison) -> None:
    hold = Hold(comparison)
    Comparison.objects.update(heartbeat_at=long_ago())
    assert not hold.end({"state": "done"})
    told = []

    def outcome(hold):
        Comparison.objects.update(state="queued")
        return {}

    Comparison.objects.update(state="queued")
    made = make(making=comparison, outcome=outcome, then=told.append)
    assert (made.state, told) == ("queued", [])
