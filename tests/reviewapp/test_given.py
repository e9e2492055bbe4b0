"""A person's own verdicts, whatever they were recorded as."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from reviewapp.actions.given import count_given, last_given
from reviewapp.actions.known import add_known_answer
from reviewapp.actions.opinions import give_verdict, take_back_last
from reviewapp.actions.reviews import Decision
from reviewapp.models import Finding, Verdict
from tests.reviewing import decide


@pytest.fixture
def all_kinds(world, rita, lena, alice):
    """Rita's: a review, an attempt, an opinion that waits, and one that settled."""
    known, plain, judged, *_ = [*world.findings, *world.add_findings(3)]
    decide(finding=known, by=alice, verdict=Verdict.CONFIRM)
    known.refresh_from_db()
    add_known_answer(finding=known, by=lena)
    settled = world.findings[-1]

    def give(finding: Finding, by, **fields) -> None:
        fresh = Finding.objects.select_related("dataset").get(pk=finding.pk)
        decision = Decision(Verdict.DISMISS, fresh.version, **fields)
        give_verdict(finding=fresh, by=by, decision=decision)

    give(plain, rita)
    give(known, rita, reason="duplicate", causes=["blur", "blur"], note=" seen ")
    world.dataset.overlap = 2
    world.dataset.save()
    give(judged, rita)
    give(settled, alice)
    give(settled, rita)
    return world


def test_every_kind_is_in_the_list_and_says_all_that_was_said(all_kinds, rita):
    rows = last_given(dataset=all_kinds.dataset, by=rita)
    assert [row.kind for row in rows] == ["review", "opinion", "attempt", "review"]
    tried = rows[2]
    said = (tried.reason, tried.causes, tried.note)
    assert said == ("duplicate", ["blur"], "seen")
    assert len({row.name for row in rows}) == 4


def test_every_kind_counts_as_done_today(all_kinds, rita, alice):
    hour_ago = timezone.now() - timedelta(hours=1)
    assert count_given(by=rita, since=hour_ago) == 4
    assert count_given(by=alice, since=hour_ago) == 2
    assert count_given(by=rita, since=timezone.now() + timedelta(hours=1)) == 0
    take_back_last(dataset=all_kinds.dataset, by=rita)
    assert count_given(by=rita, since=hour_ago) == 3
