"""Owner, plan and target: who may set them, and that it is written down."""

from __future__ import annotations

import pytest

from reviewapp.actions.plans import LinePlan, change_plan, plan_line
from reviewapp.exceptions import NotAllowed, Refused
from reviewapp.models import Confusion, Event, Membership


@pytest.fixture
def line(world) -> Confusion:
    return Confusion.objects.get()


def as_stored() -> LinePlan:
    return LinePlan.of(Confusion.objects.select_related("owner").get())


def test_a_lead_sets_everything_and_an_event_says_what_was(line, lena, rita):
    plan_line(line=line, plan=LinePlan(lena, "", None), by=lena)
    plan_line(line=line, plan=LinePlan(rita, "augment", 5), by=lena)
    assert as_stored() == LinePlan(rita, "augment", 5)
    event = Event.objects.newest_first()[0]
    assert (event.action, event.actor, event.object_id) == (
        "confusion planned",
        lena,
        line.pk,
    )
    assert event.data == {
        "was": {"owner": "lena", "plan": "", "target": None},
        "owner": "rita",
        "plan": "augment",
        "target": 5,
    }


def test_the_same_again_is_no_event(line, lena):
    for _ in range(2):
        plan_line(line=line, plan=LinePlan(lena, "collect", 0), by=lena)
    assert Event.objects.filter(action="confusion planned").count() == 1


def test_what_another_lead_has_just_set_stays(line, lena, rita):
    plan_line(line=line, plan=LinePlan(None, "augment", 5), by=lena)
    assert line.plan == ""  # as it was read before
    change_plan(line=line, by=lena, owner=rita)
    assert as_stored() == LinePlan(rita, "augment", 5)


def test_a_reviewer_takes_what_nobody_has_and_gives_it_up(line, rita):
    plan_line(line=line, plan=LinePlan(rita, "", None), by=rita)
    assert as_stored().owner == rita
    plan_line(line=line, plan=LinePlan(None, "", None), by=rita)
    assert as_stored().owner is None


def test_a_reviewer_can_do_nothing_else(line, rita, lena):
    for plan in (
        LinePlan(lena, "", None),
        LinePlan(rita, "augment", None),
        LinePlan(None, "", 3),
    ):
        with pytest.raises(NotAllowed, match=r"a lead of .*give it up again"):
            plan_line(line=line, plan=plan, by=rita)
    plan_line(line=line, plan=LinePlan(lena, "augment", 3), by=lena)
    for owner in (rita, None):
        with pytest.raises(NotAllowed):
            plan_line(line=line, plan=LinePlan(owner, "augment", 3), by=rita)
    assert as_stored() == LinePlan(lena, "augment", 3)


@pytest.mark.parametrize(
    ("plan", "target", "why"),
    [("dance", None, "no plan"), ("", -1, "target"), ("", 2**31, "target")],
)
def test_what_cannot_be_is_refused(line, lena, plan, target, why):
    with pytest.raises(Refused, match=why):
        plan_line(line=line, plan=LinePlan(None, plan, target), by=lena)
    assert as_stored() == LinePlan(None, "", None)


def test_somebody_elses_people_cannot_own_it(line, lena, charlie):
    with pytest.raises(Refused, match="no member"):
        plan_line(line=line, plan=LinePlan(charlie, "", None), by=lena)
    with pytest.raises(NotAllowed):
        plan_line(line=line, plan=LinePlan(charlie, "", None), by=charlie)
    assert as_stored().owner is None


def test_an_owner_who_left_stays_until_somebody_takes_over(line, lena, rita):
    plan_line(line=line, plan=LinePlan(rita, "", None), by=lena)
    Membership.objects.filter(user=rita).delete()
    plan_line(line=line, plan=LinePlan(rita, "reweight", None), by=lena)
    assert as_stored() == LinePlan(rita, "reweight", None)
