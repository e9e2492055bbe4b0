"""A team's figures with known answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db import connection, transaction
from django.utils import timezone

from reviewapp.actions.bulk import skip_many
from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.reviews import Decision, claim, decide, hold, undo
from reviewapp.actions.teams import free_claims, set_team_rules
from reviewapp.exceptions import Refused
from reviewapp.models import Claim, Event, Finding, Role, Verdict
from reviewapp.team import team_figures
from tests import factories
from tests.reviewing import queue_of

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def person(figures, user):
    return next(one for one in figures.people if one.user == user)


def give(finding, by, at, verdict=Verdict.CONFIRM):
    with time_machine.travel(at, tick=False):
        return decide(finding=finding, by=by, decision=Decision(verdict, 0))


@pytest.fixture
def bob(dataset):
    user = factories.UserFactory(username="bob")
    factories.MembershipFactory(user=user, dataset=dataset, role=Role.REVIEWER)
    return user


@pytest.fixture
def frozen():
    with time_machine.travel(NOW, tick=False):
        yield


def test_pace_counts_days_and_leaves_out_breaks(world, rita, frozen):
    findings = [*world.findings, *world.add_findings(6)]
    for place, seconds in enumerate([0, 4, 10, 12, 400, 410]):  # 388 s are a break
        give(findings[place], rita, NOW - timedelta(hours=1, seconds=-seconds))
    give(findings[6], rita, NOW - timedelta(days=2))
    give(findings[7], rita, NOW - timedelta(days=8))
    pace = person(team_figures(world.dataset), rita).pace
    assert (pace.today, pace.week) == (6, 7)
    # Gaps 4, 6, 2 and 10 s; the first of each sitting has none.
    assert (pace.timed, pace.seconds, pace.median) == (4, 22.0, 5.0)
    assert pace.per_hour is None  # four are too few
    give(findings[8], rita, NOW - timedelta(hours=1, seconds=-418))
    pace = person(team_figures(world.dataset), rita).pace
    assert pace.per_hour == pytest.approx(3600 * 5 / 30)
    assert pace.each is None  # and five too few for an interval


def test_what_was_undone_is_no_verdict(world, rita, frozen):
    review = give(world.findings[0], rita, NOW - timedelta(minutes=1))
    give(world.findings[1], rita, NOW)
    undo(review=review, by=rita)
    assert person(team_figures(world.dataset), rita).pace.week == 1


def test_a_bulk_is_one_act_and_shares_its_time(world, rita, frozen):
    give(world.findings[0], rita, NOW - timedelta(seconds=100))
    rest = [world.findings[1], *world.add_findings(9)]
    batch = uuid4()
    for finding in rest:
        decide(
            finding=finding, by=rita, decision=Decision(Verdict.CONFIRM, 0), batch=batch
        )
    pace = person(team_figures(world.dataset), rita).pace
    assert (pace.week, pace.timed, pace.seconds, pace.median) == (11, 10, 100.0, 10.0)


def test_the_time_to_finish_has_an_interval(world, rita, bob, frozen):
    findings = [*world.findings, *world.add_findings(41)]
    for place in range(32):
        by = (rita, bob)[place % 2]
        gap = 4 if place % 4 < 2 else 8
        give(findings[place], by, NOW - timedelta(seconds=900 - gap * place))
    figures = team_figures(world.dataset)
    left, total = figures.left, figures.total
    assert (left.errors, left.near_misses, total.timed) == (12, 0, 30)
    assert left.work.value == pytest.approx(12 * total.seconds / 30)
    assert left.work.low < left.work.value < left.work.high
    assert left.days.value == pytest.approx(left.work.value * 7 / total.seconds)
    set_team_rules(
        dataset=world.dataset, overlap=3, overlap_share=0.5, known_rate=0, by=rita
    )
    more = team_figures(world.dataset).left
    assert more.work.value == pytest.approx(2 * left.work.value)  # half take three


def test_other_data_sets_do_not_count(world, rita, frozen):
    other = factories.DatasetFactory()
    label = factories.LabelFactory(dataset=other)
    finding = factories.FindingFactory(
        sample=factories.SampleFactory(label=label),
        predicted_label=factories.LabelFactory(dataset=other),
        registered_model=factories.RegisteredModelFactory(dataset=other),
    )
    give(finding, rita, NOW)
    Claim.objects.create(
        finding=finding, reviewer=rita, expires_at=NOW + timedelta(minutes=5)
    )
    figures = team_figures(world.dataset)
    assert (figures.total.week, person(figures, rita).pace.week) == (0, 0)
    assert person(figures, rita).holding is None


def test_agreement_is_of_what_both_judged(world, rita, bob, lena):
    world.dataset.overlap = 2
    world.dataset.save()
    findings = [*world.findings, *world.add_findings(22)]
    for place, finding in enumerate(findings[:24]):
        said = Verdict.DISMISS if place % 2 else Verdict.CONFIRM
        differs = place < 6
        other = Verdict.CONFIRM if place % 2 else Verdict.DISMISS
        for by, verdict in ((rita, said), (bob, other if differs else said)):
            fresh = Finding.objects.select_related("dataset").get(pk=finding.pk)
            give_verdict(finding=fresh, by=by, decision=Decision(verdict, 0))
    figures = team_figures(world.dataset)
    (pair,) = figures.pairs
    assert {pair.one, pair.other} == {"rita", "bob"}
    assert (pair.verdict.n, pair.verdict.observed) == (24, 0.75)
    # Each says 12 times one and 12 times the other: by chance half of them agree.
    assert pair.verdict.kappa == pytest.approx((0.75 - 0.5) / 0.5)
    assert figures.verdict.n == 24
    same = person(figures, rita).same
    assert (same.right, same.of) == (18, 24)
    assert person(figures, lena).same.of == 0
    assert figures.left.disputed == 6
    # The label that is right: of a dismissal none, so the same six differ.
    assert pair.label.observed == pytest.approx(18 / 24)


def test_a_person_sees_only_their_own(world, rita, bob, frozen):
    give(world.findings[0], bob, NOW)
    figures = team_figures(world.dataset).only(rita)
    assert [one.user for one in figures.people] == [rita]
    assert figures.total.week == 1
    assert figures.pairs == []


def test_who_left_is_shown_with_what_they_did(world, frozen):
    gone = factories.UserFactory(username="gone")
    give(world.findings[0], gone, NOW)
    assert person(team_figures(world.dataset), gone).role == ""


def test_the_number_of_queries_does_not_grow(
    world, rita, bob, django_assert_num_queries
):
    # memberships, pace, holds, known answers, people, opinions; of what is left: the
    # standings, the lane label?, flagged, disputed.
    with django_assert_num_queries(10):
        team_figures(world.dataset)
    world.dataset.overlap = 2
    world.dataset.save()
    for finding in [*world.findings, *world.add_findings(10)]:
        for by in (rita, bob):
            fresh = Finding.objects.select_related("dataset").get(pk=finding.pk)
            give_verdict(finding=fresh, by=by, decision=Decision(Verdict.CONFIRM, 0))
    with django_assert_num_queries(10):
        team_figures(world.dataset)


def test_holds_are_shown_and_freed(world, rita, bob, alice):
    claim(queue=queue_of(world.dataset), by=rita, limit=2)
    claim(queue=queue_of(world.dataset), by=bob, limit=1)
    held = person(team_figures(world.dataset), rita).holding
    assert held.findings == 2
    assert held.until > timezone.now()
    assert free_claims(dataset=world.dataset, by=alice, holder=rita) == 2
    assert person(team_figures(world.dataset), rita).holding is None
    assert person(team_figures(world.dataset), bob).holding.findings == 1
    assert free_claims(dataset=world.dataset, by=alice) == 1
    assert free_claims(dataset=world.dataset, by=alice) == 0
    events = Event.objects.filter(action="holds freed").order_by("id")
    assert [event.data["holder"] for event in events] == ["rita", "everybody"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["free", "skip"])
def test_giving_back_never_waits_for_a_hold_that_is_changing(world, rita, alice, what):
    """Holds change in the order of a queue: who waited for one could block another."""
    ids = [finding.pk for finding in world.findings]
    hold(findings=ids, by=rita)

    def give_back() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '2s'")
            if what == "free":
                free_claims(dataset=world.dataset, by=alice)
            else:
                skip_many(dataset=world.dataset, by=rita, findings=ids)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        Claim.objects.select_for_update().get(finding=ids[1])
        pool.submit(give_back).result()
    assert Claim.objects.get().finding_id == ids[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap": 0},
        {"overlap": 6},
        {"overlap_share": 1.5},
        {"known_rate": 0.6},
        {"known_rate": -0.1},
        {"overlap_share": float("nan")},
    ],
)
def test_it_refuses_rules_out_of_range(wrong, dataset, alice):
    rules = {"overlap": 2, "overlap_share": 1.0, "known_rate": 0.1, **wrong}
    with pytest.raises(Refused, match="Nothing was changed"):
        set_team_rules(dataset=dataset, by=alice, **rules)
    dataset.refresh_from_db()
    assert dataset.overlap == 1
    assert not Event.objects.filter(action="team rules set").exists()


def test_rules_are_an_event_when_they_change(dataset, alice):
    rules = {"overlap": 2, "overlap_share": 0.5, "known_rate": 0.1}
    set_team_rules(dataset=dataset, by=alice, **rules)
    set_team_rules(dataset=dataset, by=alice, **rules)
    event = Event.objects.get(action="team rules set")
    assert event.data == {
        **rules,
        "was": {"overlap": 1, "overlap_share": 1.0, "known_rate": 0.0},
    }
    assert dataset.overlap == 2
