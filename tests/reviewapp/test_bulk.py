"""One verdict on many findings, given and undone as one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from django.db import connection

from reviewapp.actions.bulk import Bulk, decide_many, key_of, skip_many
from reviewapp.actions.known import add_known_answer
from reviewapp.actions.lines import last_lines, take_last_back, take_line_back
from reviewapp.actions.reviews import Decision, hold
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Claim,
    Confusion,
    Finding,
    KnownAttempt,
    Opinion,
    Review,
    Skip,
    User,
    Verdict,
)
from tests import factories
from tests.conftest import World
from tests.reviewing import decide

STATES = Finding.ReviewState


def say(
    world: World,
    by: User,
    findings: list[Finding],
    verdict: Verdict = Verdict.DISMISS,
    **fields,
) -> Bulk:
    fields.setdefault("key", uuid4())
    return decide_many(
        dataset=world.dataset,
        by=by,
        findings=[(finding.pk, finding.version) for finding in findings],
        decision=Decision(verdict, 0, **fields),
    )


def states(findings: list[Finding]) -> list[str]:
    found = dict(Finding.objects.values_list("pk", "review_state"))
    return [found[finding.pk] for finding in findings]


def test_one_verdict_moves_all_of_them(world, rita):
    done = say(
        world,
        rita,
        world.findings,
        reason="ambiguous",
        causes=["blur"],
        note=" all the same ",
    )
    assert done.decided == [finding.pk for finding in world.findings]
    assert done.refused == []
    assert states(world.findings) == [STATES.DISMISSED] * 3
    reviews = list(Review.objects.all())
    assert {review.batch for review in reviews} == {done.batch}
    assert {
        (r.reviewer, r.verdict, r.reason, tuple(r.causes), r.note) for r in reviews
    } == {(rita, "dismiss", "ambiguous", ("blur",), "all the same")}
    # Seen, though nobody waits any more: the ledger was told once.
    assert Confusion.objects.get().state == Confusion.State.IN_REVIEW


def test_they_are_in_the_order_that_was_asked(world, rita):
    backwards = world.findings[::-1]
    hold(findings=[world.findings[1].pk], by=factories.UserFactory())
    done = say(world, rita, backwards)
    assert done.decided == [world.findings[2].pk, world.findings[0].pk]


def test_what_is_held_or_changed_leaves_the_others(world, rita, lena):
    held, changed, free = world.findings
    hold(findings=[held.pk], by=lena)
    decide(finding=changed, by=lena, verdict=Verdict.CONFIRM)
    done = say(world, rita, world.findings)
    assert done.decided == [free.pk]
    why = dict(done.refused)
    assert why[held.pk].startswith("lena is looking at this finding until ")
    assert why[changed.pk].startswith("lena gave the verdict confirm meanwhile.")
    assert states(world.findings) == ["open", "confirmed", "dismissed"]


def test_the_same_key_again_changes_nothing(world, rita):
    key = uuid4()
    first = say(world, rita, world.findings, key=key)
    again = say(world, rita, world.findings, key=key)
    assert again == first
    assert Review.objects.count() == 3


def test_a_retry_after_part_of_it_was_undone_says_the_same(world, rita):
    key = uuid4()
    first = say(world, rita, world.findings, key=key)
    take_last_back(dataset=world.dataset, by=rita)
    assert say(world, rita, world.findings, key=key) == first
    assert states(world.findings) == ["open"] * 3


def test_a_key_does_not_carry_two_verdicts(world, rita):
    key = uuid4()
    say(world, rita, world.findings[:1], key=key)
    with pytest.raises(Refused, match="carries the key of another one"):
        say(world, rita, world.findings[1:], Verdict.CONFIRM, key=key)
    assert states(world.findings) == ["dismissed", "open", "open"]


def test_findings_of_another_data_set_are_refused(world, rita, charlie):
    other = charlie.memberships.get().dataset
    done = decide_many(
        dataset=other,
        by=charlie,
        findings=[(world.findings[0].pk, 0), (10**17, 0)],
        decision=Decision(Verdict.CONFIRM, 0),
    )
    assert done.decided == []
    assert [why for _, why in done.refused] == [
        "This finding is not there any more."
    ] * 2
    assert not Review.objects.exists()


@pytest.fixture
def elsewhere(rita) -> Finding:
    """A finding of another data set that Rita reviews, too."""
    dataset = factories.DatasetFactory(slug="elsewhere")
    factories.MembershipFactory(user=rita, dataset=dataset)
    true, predicted = (factories.LabelFactory(dataset=dataset) for _ in range(2))
    return factories.FindingFactory(
        sample=factories.SampleFactory(label=true),
        predicted_label=predicted,
        registered_model=factories.RegisteredModelFactory(dataset=dataset),
    )


def test_a_key_carries_no_verdict_on_a_second_data_set(world, rita, elsewhere):
    key = uuid4()
    say(world, rita, world.findings, key=key, reason="duplicate")
    with pytest.raises(Refused, match="the key of another one"):
        decide_many(
            dataset=elsewhere.dataset,
            by=rita,
            findings=[(elsewhere.pk, 0)],
            decision=Decision(Verdict.DISMISS, 0, reason="duplicate", key=key),
        )
    elsewhere.refresh_from_db()
    assert elsewhere.review_state == "open"


def test_undo_stays_on_its_data_set(world, rita, elsewhere):
    """Blind opinions have keys of their own: here two data sets share a batch."""
    key = uuid4()
    for dataset in (world.dataset, elsewhere.dataset):
        dataset.overlap = 2
        dataset.save(update_fields=["overlap"])
    for dataset, finding in (
        (world.dataset, world.findings[0]),
        (elsewhere.dataset, elsewhere),
    ):
        decide_many(
            dataset=dataset,
            by=rita,
            findings=[(finding.pk, 0)],
            decision=Decision(Verdict.CONFIRM, 0, key=key),
        )
    assert len(take_last_back(dataset=world.dataset, by=rita).findings) == 1
    assert Opinion.objects.get().finding == elsewhere


def test_relabel_corrects_every_sample_and_puts_their_others_aside(world, labels, rita):
    first = world.findings[0]
    other = factories.FindingFactory(
        sample=first.sample,
        predicted_label=labels[2],
        registered_model=world.model,
    )
    done = say(world, rita, world.findings, Verdict.RELABEL, new_label=labels[1])
    assert len(done.decided) == 3
    for finding in world.findings:
        finding.sample.refresh_from_db()
        assert finding.sample.label == labels[1]
    other.refresh_from_db()
    assert other.presence == Finding.Presence.SUPERSEDED
    take_last_back(dataset=world.dataset, by=rita)
    other.refresh_from_db()
    first.sample.refresh_from_db()
    assert (other.presence, first.sample.label) == ("seen", labels[0])


def test_one_image_is_relabelled_once(world, labels, rita):
    first = world.findings[0]
    twin = factories.FindingFactory(
        sample=first.sample, predicted_label=labels[2], registered_model=world.model
    )
    done = say(world, rita, [first, twin], Verdict.RELABEL, new_label=labels[1])
    assert done.decided == [first.pk]
    assert done.refused == [
        (twin.pk, "Its image has got the new label by another finding.")
    ]
    twin.refresh_from_db()
    assert (twin.review_state, twin.presence) == ("open", "superseded")


def test_relabel_to_the_label_it_has_is_refused_for_that_one(world, labels, rita):
    (fox,) = world.add_findings(1, true=2)
    done = say(world, rita, [*world.findings], Verdict.RELABEL, new_label=labels[2])
    assert dict(done.refused) == {
        fox.pk: "The label is fox already. Confirm it instead."
    }
    assert len(done.decided) == 3


def test_a_batch_is_undone_as_one(world, rita):
    say(world, rita, world.findings)
    taken = take_last_back(dataset=world.dataset, by=rita)
    assert {f.pk for f in taken.findings} == {f.pk for f in world.findings}
    assert taken.refused == []
    assert states(world.findings) == ["open"] * 3
    with pytest.raises(Refused, match="no verdict on Animals"):
        take_last_back(dataset=world.dataset, by=rita)


def test_undo_after_undo_goes_further_back(world, rita):
    first, *others = world.findings
    decide(finding=first, by=rita, verdict=Verdict.CONFIRM)
    say(world, rita, others)
    take_last_back(dataset=world.dataset, by=rita)
    assert states(world.findings) == ["confirmed", "open", "open"]
    take_last_back(dataset=world.dataset, by=rita)
    assert states(world.findings) == ["open"] * 3


def test_what_got_a_later_verdict_stays(world, rita, lena):
    say(world, rita, world.findings)
    decide(finding=world.findings[0], by=lena, verdict=Verdict.CONFIRM, version=1)
    taken = take_last_back(dataset=world.dataset, by=rita)
    assert len(taken.findings) == 2
    assert taken.refused == [
        (
            world.findings[0].pk,
            "The finding got another verdict since. Undo that first.",
        )
    ]


def test_nobody_takes_back_what_others_said(world, rita, lena):
    review = decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    with pytest.raises(Refused, match="not there"):
        take_line_back(kind="review", pk=review.pk, dataset=world.dataset, by=lena)
    assert states(world.findings)[0] == "confirmed"


def test_blind_opinions_are_given_and_undone_as_one_too(world, rita):
    world.dataset.overlap = 2
    world.dataset.save()
    done = say(world, rita, world.findings)
    assert len(done.decided) == 3
    assert Opinion.objects.count() == 3
    assert states(world.findings) == ["open"] * 3
    (line,) = last_lines(dataset=world.dataset, by=rita)
    assert len(line.rows) == 3
    assert len(take_last_back(dataset=world.dataset, by=rita).findings) == 3
    assert not Opinion.objects.exists()


def test_a_known_answer_among_them_is_tried_and_not_decided(world, rita, lena):
    known = world.findings[0]
    decide(finding=known, by=lena, verdict=Verdict.CONFIRM)
    known.refresh_from_db()
    add_known_answer(finding=known, by=lena)
    done = say(world, rita, world.findings)
    assert len(done.decided) == 3
    assert KnownAttempt.objects.get().is_right is False
    assert states(world.findings) == ["confirmed", "dismissed", "dismissed"]
    (line,) = last_lines(dataset=world.dataset, by=rita)
    assert len(line.rows) == 3
    taken = take_last_back(dataset=world.dataset, by=rita)
    assert len(taken.findings) == 3
    assert states(world.findings) == ["confirmed", "open", "open"]


def test_lines_show_a_batch_as_one_and_others_alone(world, rita):
    first, *others = world.findings
    decide(finding=first, by=rita, verdict=Verdict.CONFIRM)
    say(world, rita, others)
    lines = last_lines(dataset=world.dataset, by=rita)
    assert [len(line.rows) for line in lines] == [2, 1]


def test_a_batch_longer_than_the_first_look_is_one_line(world, rita, monkeypatch):
    monkeypatch.setattr("reviewapp.actions.lines.READ", 2)
    world.add_findings(8)
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    say(world, rita, world.findings[1:])
    lines = last_lines(dataset=world.dataset, by=rita, limit=1)
    assert [len(line.rows) for line in lines] == [10]


def test_skipping_gives_them_back_and_puts_them_last(world, rita):
    hold(findings=[finding.pk for finding in world.findings], by=rita)
    ids = [finding.pk for finding in world.findings[:2]]
    assert skip_many(dataset=world.dataset, by=rita, findings=[*ids, 10**17]) == Bulk(
        decided=sorted(ids), refused=[], batch=None
    )
    skip_many(dataset=world.dataset, by=rita, findings=ids)
    assert set(Skip.objects.values_list("finding", flat=True)) == set(ids)
    assert Claim.objects.get().finding_id == world.findings[2].pk


def test_keys_of_a_batch_share_their_first_half():
    batch = UUID("12345678-1234-4234-8234-123456789abc")
    assert str(key_of(batch, 255)) == "12345678-1234-4234-0000-0000000000ff"


def test_a_hundred_take_as_many_queries_as_three(world, rita):
    few, many = world.findings[:3], world.add_findings(100)
    with CountedQueries() as for_few:
        say(world, rita, few)
    with CountedQueries() as for_many:
        say(world, rita, many)
    assert for_many.n <= for_few.n <= 16


class CountedQueries:
    """How many statements ran inside."""

    def __enter__(self) -> CountedQueries:
        self._was = connection.force_debug_cursor
        connection.force_debug_cursor = True
        self._from = len(connection.queries_log)
        return self

    def __exit__(self, *exc: object) -> None:
        connection.force_debug_cursor = self._was
        self.n = len(connection.queries_log) - self._from


@pytest.mark.django_db(transaction=True)
def test_two_people_who_bulk_the_same_findings_share_them_out(world, rita, lena):
    world.add_findings(20)

    def bulk(by: User) -> Bulk:
        try:
            return say(world, by, world.findings)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(bulk, [rita, lena])
    assert len(one.decided) + len(other.decided) == 23
    assert not set(one.decided) & set(other.decided)
    assert Review.objects.count() == 23


@pytest.mark.django_db(transaction=True)
def test_a_double_click_is_one_verdict(world, rita):
    key = uuid4()

    def bulk(_: int) -> Bulk:
        try:
            return say(world, rita, world.findings, key=key)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(bulk, range(3)))
    assert answers[0] == answers[1] == answers[2]
    assert Review.objects.count() == 3
