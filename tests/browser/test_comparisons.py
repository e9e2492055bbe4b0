"""The comparison of two scans at two sizes and in two schemes."""

from __future__ import annotations

import pytest

from reviewapp import tasks
from reviewapp.actions.comparisons import start_comparison
from reviewapp.models import Comparison, Scan, User
from tests.browser.holding import problems_at_all_sizes
from tests.browser.test_pages import cells
from tests.comparing import add_samples, add_scan

__all__ = ["cells"]


@pytest.fixture
def pages(cells) -> dict[str, str]:
    """Two models compared, what was seen before among it, and two scans that differ."""
    candidate, baseline = Scan.objects.newest_first()
    labels = list(cells.labels.current())
    fewer = add_scan(candidate.model_version, add_samples(labels, "fm"), "fm")
    for against in (baseline, fewer):
        comparison = start_comparison(baseline=against, candidate=candidate, by=None)
        tasks.run_comparison(comparison.pk)
    assert set(Comparison.objects.values_list("state", flat=True)) == {
        "done",
        "refused",
    }
    base = f"/datasets/{cells.slug}/compare"
    return {
        "compare": f"{base}/",
        "comparison": f"{base}/{baseline.pk}/{candidate.pk}/",
        "comparison-both-wrong": f"{base}/{baseline.pk}/{candidate.pk}/?cell=both_wrong",
        "comparison-refused": f"{base}/{fewer.pk}/{candidate.pk}/",
        "comparison-none": f"{base}/{candidate.pk}/{baseline.pk}/",
    }


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_pages_hold_up_and_one_shows_its_result_by_itself(
    pages, sign_in, monkeypatch
) -> None:
    admin = User.objects.get(username="admin")
    wrong = problems_at_all_sizes(sign_in, admin, pages, axe=True, pictured=pages)
    assert wrong == []

    monkeypatch.setattr(tasks, "_send", lambda *args, **options: None)
    page = sign_in(admin)
    page.goto(pages["comparison-none"])
    page.click("button:text('Compare')")
    page.wait_for_selector("[role=status]")

    tasks.run_comparison(Comparison.objects.newest_first()[0].pk)

    page.wait_for_selector("#classes")
    assert not page.query_selector("[hx-trigger]")
    page.click("a:has-text('both wrong')")
    page.wait_for_selector("[aria-current=true]:has-text('both wrong')")
    assert page.problems == []
