"""What a finished scan says of findings: seen, fixed, back, replaced, or nothing."""

from __future__ import annotations

import pytest
from django.utils import timezone

from reviewapp.actions.presence import settle_presence
from reviewapp.models import Finding, Scan, UnreadableSample
from tests import factories


@pytest.fixture
def again(world) -> Scan:
    """A second scan, which has seen nothing so far."""
    return factories.ScanFactory(model_version=world.scan.model_version, errors=3)


def presence(world) -> list[str]:
    pks = [finding.pk for finding in world.findings]
    return [Finding.objects.get(pk=pk).presence for pk in pks]


def see(scan: Scan, *findings: Finding) -> None:
    for finding in findings:
        factories.SightingFactory(finding=finding, scan=scan)


def test_what_is_not_seen_again_is_fixed(world, again):
    see(again, world.findings[0])
    assert settle_presence(again) == 2
    assert presence(world) == ["seen", "fixed", "fixed"]


def test_what_is_seen_again_does_not_move(world, again):
    see(again, *world.findings)
    assert settle_presence(again) == 0
    assert presence(world) == ["seen", "seen", "seen"]


def test_what_was_fixed_or_replaced_comes_back(world, again):
    for finding, was in zip(
        world.findings, ("fixed", "superseded", "regressed"), strict=True
    ):
        Finding.objects.filter(pk=finding.pk).update(presence=was)
    see(again, *world.findings)
    assert settle_presence(again) == 2
    assert presence(world) == ["regressed", "seen", "regressed"]


def test_wrong_in_another_way_replaces(world, again):
    sample = world.findings[0].sample
    options = {"sample": sample, "registered_model": world.model}
    other = factories.FindingFactory(predicted_label=world.labels[2], **options)
    see(again, other, *world.findings[1:])
    settle_presence(again)
    assert presence(world) == ["superseded", "seen", "seen"]


def test_right_but_barely_is_fixed_and_a_near_miss_goes_alike(world, again):
    sample = world.findings[0].sample
    options = {"sample": sample, "registered_model": world.model}
    near = factories.FindingFactory(predicted_label=world.labels[0], **options)
    see(again, near, *world.findings[1:])
    settle_presence(again)
    assert presence(world) == ["fixed", "seen", "seen"]
    third = factories.ScanFactory(model_version=again.model_version, errors=2)
    see(third, *world.findings[1:])
    settle_presence(third)
    near.refresh_from_db()
    assert near.presence == "fixed"


def test_what_was_not_covered_says_nothing(world, again):
    unreadable, removed, elsewhere = (finding.sample for finding in world.findings)
    UnreadableSample.objects.create(scan=again, sample=unreadable, reason="empty")
    removed.removed_at = timezone.now()
    removed.save(update_fields=["removed_at"])
    elsewhere.split = "train"
    elsewhere.save(update_fields=["split"])
    assert settle_presence(again) == 0
    assert presence(world) == ["seen", "seen", "seen"]


def test_an_unreadable_sample_of_another_scan_does_not_matter(world, again):
    sample = world.findings[0].sample
    UnreadableSample.objects.create(scan=world.scan, sample=sample, reason="empty")
    settle_presence(again)
    assert presence(world) == ["fixed", "fixed", "fixed"]


def test_a_label_changed_during_the_scan_keeps_what_it_set_aside(world, again):
    finding = world.findings[0]
    finding.sample.label = world.labels[2]
    finding.sample.save(update_fields=["label"])
    Finding.objects.filter(pk=finding.pk).update(presence="superseded")
    see(again, *world.findings)
    settle_presence(again)
    assert presence(world) == ["superseded", "seen", "seen"]


def test_another_model_does_not_matter(world, again):
    stranger = factories.RegisteredModelFactory(dataset=world.dataset)
    finding = factories.FindingFactory(
        sample=world.findings[0].sample,
        predicted_label=world.labels[1],
        registered_model=stranger,
    )
    settle_presence(again)
    finding.refresh_from_db()
    assert finding.presence == "seen"
