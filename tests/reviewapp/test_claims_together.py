"""Reviewers who ask for findings at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from reviewapp.actions.orders import next_ids
from reviewapp.actions.reviews import (
    claim,
    hold,
    release,
    renew,
)
from reviewapp.models import (
    Claim,
    Review,
    User,
)
from tests import factories
from tests.reviewapp.test_claims import (
    CONFIRM,
    ids_of,
)
from tests.reviewing import decide, queue_of


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("order", ["", "random"])
def test_ten_reviewers_at_the_same_time_never_share_a_finding(world, order):
    world.add_findings(47)
    world.add_findings(30, predicted=2)
    reviewers = [factories.UserFactory() for _ in range(10)]
    queue = queue_of(world.dataset, order=order)

    def work(reviewer: User) -> tuple[list[int], list[int]]:
        handed_out, done = [], []
        try:
            while findings := claim(queue=queue, by=reviewer, limit=3):
                for finding in findings:
                    handed_out.append(finding.pk)
                    decide(finding=finding, by=reviewer, verdict=CONFIRM)
                    done.append(finding.pk)
        finally:
            connection.close()
        return handed_out, done

    with ThreadPoolExecutor(10) as pool:
        shares = list(pool.map(work, reviewers))
    handed_out = [pk for share, _ in shares for pk in share]
    assert len(handed_out) == len(set(handed_out)) == 80
    assert [share for share, _ in shares] == [share for _, share in shares]
    assert Review.objects.count() == 80
    assert not Claim.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_reviewers_who_start_together_all_get_their_batch(world):
    world.add_findings(57)
    reviewers = [factories.UserFactory() for _ in range(10)]
    queue = queue_of(world.dataset)

    def work(reviewer: User) -> list[int]:
        try:
            return ids_of(claim(queue=queue, by=reviewer, limit=5))
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        batches = list(pool.map(work, reviewers))
    assert [len(batch) for batch in batches] == [5] * 10
    assert len({pk for batch in batches for pk in batch}) == 50


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", [renew, release])
def test_nobody_waits_for_a_claim_that_another_tab_works_on(world, rita, act):
    hold(findings=ids_of(world.findings), by=rita)

    def other_tab() -> int:
        try:
            return act(dataset=world.dataset, by=rita)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        taken = Claim.objects.select_for_update().order_by("pk").first()
        assert pool.submit(other_tab).result(timeout=10) == 2
        assert taken is not None


def test_what_is_given_back_while_it_is_asked_for_comes_once(
    world, rita, monkeypatch
) -> None:
    queue = queue_of(world.dataset)
    held = claim(queue=queue, by=rita, limit=2)

    def let_go(*args):
        monkeypatch.undo()
        release(dataset=world.dataset, by=rita)  # a page that was left, a moment late
        return next_ids(*args)

    monkeypatch.setattr("reviewapp.actions.claims.next_ids", let_go)
    again = claim(queue=queue, by=rita, limit=3)
    assert again[:2] == held
    assert len({finding.pk for finding in again}) == len(again) == 3
