"""Sending again and taking back: one verdict, whole batches, and frozen sets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from django.db import connection

from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.reviews import (
    Decision,
    check_decision,
    last_reviews,
    lock_findings,
    record_verdicts,
    undo,
    undo_batch,
)
from reviewapp.exceptions import FindingChanged, Refused
from reviewapp.models import Event, Finding, FixSet, Review, Skip, Verdict
from tests import factories
from tests.reviewing import decide

CONFIRM, RELABEL, DISMISS = Verdict.CONFIRM, Verdict.RELABEL, Verdict.DISMISS
BATCH = UUID(int=7)


def decide_all(world, by, verdict=CONFIRM, **fields):
    """Record one verdict on all findings of the world as a batch."""
    ids = [finding.pk for finding in world.findings]
    locked = list(lock_findings(ids).values())
    return record_verdicts(
        findings=sorted(locked, key=lambda finding: finding.pk),
        by=by,
        decision=Decision(verdict, 0, **fields),
        batch=BATCH,
    )


def test_the_same_key_again_is_the_same_verdict(world, rita):
    finding, key = world.findings[0], uuid4()
    first = decide(
        finding=finding, by=rita, verdict=DISMISS, key=key, reason="duplicate"
    )
    again = decide(
        finding=finding, by=rita, verdict=DISMISS, key=key, reason="duplicate"
    )
    assert again == first
    assert first.reason == "duplicate"
    finding.refresh_from_db()
    assert finding.version == 1
    undo(review=first, by=rita)
    again = decide(finding=finding, by=rita, verdict=DISMISS, key=key)
    assert again == first  # the verdict was sent before it was taken back
    finding.refresh_from_db()
    assert finding.review_state == "open"


@pytest.mark.parametrize(
    "case", ["another finding", "another verdict", "another label"]
)
def test_a_key_is_for_one_verdict(world, rita, case):
    key, fox = uuid4(), world.labels[2]
    decide(finding=world.findings[0], by=rita, verdict=RELABEL, new_label=fox, key=key)
    finding, verdict, label = {
        "another finding": (world.findings[1], RELABEL, fox),
        "another verdict": (world.findings[0], CONFIRM, None),
        "another label": (world.findings[0], RELABEL, world.labels[1]),
    }[case]
    with pytest.raises(Refused, match="carries the key of another one"):
        decide(finding=finding, by=rita, verdict=verdict, new_label=label, key=key)
    assert Review.objects.count() == 1


def test_a_key_is_the_reviewers_own(world, rita, lena):
    key = uuid4()
    decide(finding=world.findings[0], by=rita, verdict=CONFIRM, key=key)
    decide(finding=world.findings[1], by=lena, verdict=CONFIRM, key=key)
    assert Review.objects.count() == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"verdict": CONFIRM, "reason": "duplicate"}, "Only the verdict dismiss"),
        ({"verdict": DISMISS, "reason": "boring"}, "Unknown reason: boring"),
    ],
)
def test_a_reason_is_for_a_dismissal(world, fields, message):
    with pytest.raises(Refused, match=message):
        check_decision(world.findings[0], Decision(version=0, **fields))


@pytest.mark.django_db(transaction=True)
def test_a_verdict_sent_from_two_places_at_once_is_one(world):
    reviewer = factories.UserFactory()
    for finding in world.findings:
        key = uuid4()

        def work(_, finding=finding, key=key):
            try:
                review = decide(finding=finding, by=reviewer, verdict=CONFIRM, key=key)
                return review.pk
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(work, range(4)))) == 1
    assert Review.objects.count() == 3


def test_a_finding_that_was_removed_cannot_be_decided(world, rita):
    finding = world.findings[0]
    finding.sightings.all().delete()
    Finding.objects.filter(pk=finding.pk).delete()
    with pytest.raises(FindingChanged, match="was removed meanwhile"):
        decide(finding=finding, by=rita, verdict=CONFIRM)


def test_a_batch_is_recorded_in_as_many_queries_as_one(
    world, rita, django_assert_num_queries
):
    Skip.objects.create(finding=world.findings[0], reviewer=rita)
    world.add_findings(20)
    # lock, read; reviews, findings; the ledger's look, its lines'
    # lock, the look behind it, their save, the copy of the events; claims and skips
    with django_assert_num_queries(10):
        reviews = decide_all(world, rita)
    assert [r.finding_id for r in reviews] == [f.pk for f in world.findings]
    assert {(r.batch, r.finding_version) for r in reviews} == {(BATCH, 0)}
    assert not Skip.objects.exists()
    assert not Finding.objects.waiting().exists()


def test_a_batch_is_undone_as_one(world, rita):
    before = list(Finding.objects.order_by("pk").values("review_state", "presence"))
    other = factories.FindingFactory(
        sample=world.findings[0].sample,
        predicted_label=world.labels[2],
        registered_model=factories.RegisteredModelFactory(dataset=world.dataset),
    )
    decide_all(world, rita, RELABEL, new_label=world.labels[1])
    other.refresh_from_db()
    assert other.presence == "superseded"
    undone = undo_batch(batch=BATCH, by=rita)
    assert [f.pk for f in undone.findings] == [f.pk for f in world.findings]
    assert {(f.review_state, f.version) for f in undone.findings} == {("open", 2)}
    assert undone.refused == []
    other.refresh_from_db()
    assert other.presence == "seen"
    after = Finding.objects.exclude(pk=other.pk).order_by("pk")
    assert list(after.values("review_state", "presence")) == before
    assert {f.sample.label for f in after} == {world.labels[0]}
    event = Event.objects.get(action="verdicts undone")
    assert (event.actor, event.data) == (rita, {"n": 3})
    with pytest.raises(Refused, match="undone already"):
        undo_batch(batch=BATCH, by=rita)


def test_what_of_a_batch_got_a_later_verdict_stands(world, rita, lena):
    decide_all(world, rita)
    second, third = world.findings[1:]
    decide(finding=second, by=lena, verdict=DISMISS, version=1)
    undo(review=Review.objects.get(finding=third), by=rita)
    with pytest.raises(Refused, match="undone already"):
        undo_batch(batch=BATCH, by=lena)
    undone = undo_batch(batch=BATCH, by=rita)
    assert [finding.pk for finding in undone.findings] == [world.findings[0].pk]
    assert undone.refused == [
        (second.pk, "The finding got another verdict since. Undo that first.")
    ]


def test_ones_own_verdicts_are_listed_newest_first_undone_ones_too(world, rita, lena):
    a, b, c = world.findings
    first = decide(finding=a, by=rita, verdict=CONFIRM)
    decide(finding=b, by=lena, verdict=CONFIRM)
    last = decide(finding=c, by=rita, verdict=DISMISS)
    undo(review=last, by=rita)
    rows = last_reviews(dataset=world.dataset, by=rita)
    assert [(row.pk, row.undone is not None) for row in rows] == [
        (last.pk, True),
        (first.pk, False),
    ]
    assert last_reviews(dataset=world.dataset, by=rita, limit=1) == [last]


@pytest.fixture
def fix_set(world, rita, alice) -> FixSet:
    """Two confirmed findings, frozen."""
    for finding in world.findings[:2]:
        decide(finding=finding, by=rita, verdict=CONFIRM)
    return freeze_fix_set(
        dataset=world.dataset, name="first", findings=Finding.objects.all(), by=alice
    )


def test_undoing_what_a_frozen_set_holds_makes_it_stale(fix_set, world, rita):
    digest = fix_set.digest
    for review in Review.objects.order_by("id"):
        undo(review=review, by=rita)
    fix_set.refresh_from_db()
    lines = fix_set.stale_because.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        f"rita took back the verdict confirm on {f.sample.key}"
        for f in world.findings[:2]
    ]
    assert (fix_set.digest, fix_set.items.count()) == (digest, 2)


def test_undoing_a_batch_says_all_of_it_in_one_line(world, rita, alice):
    decide_all(world, rita)
    fix_set = freeze_fix_set(
        dataset=world.dataset, name="all", findings=Finding.objects.all(), by=alice
    )
    undo_batch(batch=BATCH, by=rita)
    fix_set.refresh_from_db()
    (line,) = fix_set.stale_because.splitlines()
    assert all(finding.sample.key in line for finding in world.findings)


def test_undoing_another_verdict_says_nothing_more_of_a_frozen_set(
    fix_set, world, rita
):
    later = decide(finding=world.findings[0], by=rita, verdict=DISMISS, version=1)
    fix_set.refresh_from_db()
    said = fix_set.stale_because
    assert said.endswith(f"rita gave {world.findings[0].sample} the verdict dismiss")
    undo(review=later, by=rita)
    fix_set.refresh_from_db()
    assert fix_set.stale_because == said


def test_a_stale_set_says_so_on_its_pages(fix_set, rita, client_of):
    undo(review=Review.objects.first(), by=rita)
    for url in (
        "/datasets/animals/fixsets/",
        f"/datasets/animals/fixsets/{fix_set.pk}/",
    ):
        page = client_of(rita).get(url).content.decode()
        assert ">stale</span>" in page
        assert "rita took back the verdict confirm" in page
