"""Verdicts that come while a scan ends: none is lost, and the counts are right."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.db import connection

from reviewapp.actions import finishing
from reviewapp.actions.bulk import decide_many
from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.reviews import Decision
from reviewapp.actions.standings import fold_standings, miscounts
from reviewapp.models import Confusion, Finding, Review, Scan, Verdict
from tests.faults import run_all, run_shards, start

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


def test_verdicts_given_while_a_scan_ends_are_all_there(net, staff, monkeypatch):
    """One on a finding that the scan moves, one on another, and two as one."""
    run_all(start(net))
    findings = list(Finding.objects.select_related("dataset").order_by("pk"))
    moved, still, *others = findings
    Finding.objects.filter(pk=moved.pk).update(presence="fixed")
    scan = start(net)
    run_shards(scan)

    def alone(finding: Finding) -> list[int]:
        decision = Decision(Verdict.CONFIRM, finding.version)
        try:
            give_verdict(finding=finding, by=staff, decision=decision)
        finally:
            connection.close()
        return [finding.pk]

    def as_one(chosen: list[Finding]) -> list[int]:
        try:
            done = decide_many(
                dataset=net.registered_model.dataset,
                by=staff,
                findings=[(one.pk, one.version) for one in chosen],
                decision=Decision(Verdict.DISMISS, 0),
            )
        finally:
            connection.close()
        return done.decided

    given: list[Future[list[int]]] = []
    ends = finishing.update_ledger

    def with_verdicts(**fields):
        if fields.get("scan"):  # the findings are moved, nothing is committed
            given.extend(pool.submit(alone, one) for one in (moved, still))
            given.append(pool.submit(as_one, others))
            time.sleep(0.5)
        return ends(**fields)

    monkeypatch.setattr(finishing, "update_ledger", with_verdicts)
    with ThreadPoolExecutor(3) as pool:
        finishing.finish_scan(scan=scan)
        recorded = [pk for one in given for pk in one.result()]
    assert sorted(recorded) == [finding.pk for finding in findings]
    assert Scan.objects.get(pk=scan.pk).state == Scan.State.DONE
    assert Review.objects.standing().by(staff).count() == len(findings) == 5
    states = dict(Finding.objects.values_list("pk", "review_state"))
    assert states[moved.pk] == states[still.pk] == "confirmed"
    assert {states[one.pk] for one in others} == {"dismissed"}
    assert set(Finding.objects.values_list("presence", flat=True)) == {
        "seen",
        "regressed",
    }
    fold_standings()
    assert not miscounts()
    assert set(Confusion.objects.values_list("state", flat=True)) == {"in_review"}
