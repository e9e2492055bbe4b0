"""The ledger, a line of it and the trends, as people see them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from reviewapp.models import Confusion, ConfusionEvent, Scan, Verdict
from tests import factories
from tests.browser.holding import problems_at_all_sizes
from tests.reviewing import decide


@pytest.fixture
def story(transactional_db, clean_cache, world, lena, rita):
    """Twelve scans, a confusion that is proved fixed and a few others."""
    scans = [world.scan]
    for n in range(12):
        scan = factories.ScanFactory(
            model_version=world.scan.model_version,
            correct=2000 + 30 * n,
            errors=451 - 30 * n,
            waiting=451 - 35 * n,
        )
        scan.created_at = timezone.now() - timedelta(days=20 - n)
        scan.save()
        counts = [
            (0, 0, 900),
            (1, 1, 800),
            (2, 2, 300),
            (0, 1, 23 - n),
            (1, 0, 4 + n % 3),
        ]
        counts += [(1, 2, 40 - 3 * n), (2, 0, 1)]
        for true, predicted, count in counts:
            factories.ConfusionCountFactory(
                scan=scan,
                true_label=world.labels[true],
                predicted_label=world.labels[predicted],
                count=count,
            )
        scans.append(scan)
    proved = {
        "says": "fixed",
        "why": "proved",
        "scan": scans[-1].pk,
        "baseline": scans[2].pk,
        "samples": 2451,
        "b": 19,
        "c": 1,
        "p": 0.00004,
        "p_corrected": 0.00024,
        "family": 6,
        "count": 5,
        "support": 912,
        "baseline_count": 23,
        "baseline_support": 922,
    }
    Confusion.objects.update(
        state="fixed",
        evidence=proved,
        owner=rita,
        plan="classes",
        target=10,
        present=12,
    )
    line = Confusion.objects.get()
    ConfusionEvent.objects.create(
        confusion=line, scan=scans[-1], new_state="fixed", evidence=proved
    )
    for true, predicted, state in (
        (1, 0, "open"),
        (1, 2, "regressed"),
        (2, 0, "improving"),
    ):
        factories.ConfusionFactory(
            registered_model=world.model,
            true_label=world.labels[true],
            predicted_label=world.labels[predicted],
            state=state,
            present=40 - 10 * true,
            first_scan=scans[0],
        )
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    return line


@pytest.mark.browser
def test_the_ledger_and_the_trends_hold_up(story, lena, sign_in):
    base = "/datasets/animals"
    pages = {
        "ledger": f"{base}/history/?ordering=value",
        "line": f"{base}/history/{story.pk}/",
        "trends": f"{base}/trends/",
    }
    wrong = problems_at_all_sizes(sign_in, lena, pages, axe=True, pictured=pages.keys())
    assert wrong == []
    assert Scan.objects.count() == 13
