"""The comparison of two scans at two sizes and in two schemes.

With HARDMINE_SCREENSHOTS=folder the pictures are kept there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reviewapp import tasks
from reviewapp.actions.comparisons import start_comparison
from reviewapp.models import Comparison, Scan, User
from tests.axe import problems_of
from tests.browser.test_pages import SCHEMES, SIZES, cells
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
@pytest.mark.timeout(400)
def test_the_pages_of_a_comparison_hold_up(pages, sign_in) -> None:
    admin = User.objects.get(username="admin")
    kept = os.environ.get("HARDMINE_SCREENSHOTS")
    wrong = []
    for scheme in SCHEMES:
        for size, (width, height) in SIZES.items():
            page = sign_in(admin, width=width, height=height, color_scheme=scheme)
            for name, url in pages.items():
                where = f"{name} at {size} {scheme}"
                assert page.goto(url).status == 200, url
                overflow = page.evaluate(
                    "document.documentElement.scrollWidth - window.innerWidth"
                )
                if overflow > 0:
                    wrong.append(f"{where}: {overflow} px too wide")
                wrong += [f"{where}: {problem}" for problem in problems_of(page)]
                if kept:
                    Path(kept).mkdir(parents=True, exist_ok=True)
                    page.screenshot(
                        path=f"{kept}/{name}-{size}-{scheme}.png", full_page=True
                    )
            wrong += [f"{size} {scheme}: {problem}" for problem in page.problems]
            page.context.close()
    assert wrong == []


@pytest.mark.browser
def test_the_page_shows_the_result_by_itself(pages, sign_in, monkeypatch) -> None:
    monkeypatch.setattr(tasks, "_send", lambda *args, **options: None)
    page = sign_in(User.objects.get(username="admin"))
    page.goto(pages["comparison-none"])
    page.click("button:text('Compare')")
    page.wait_for_selector("[role=status]")

    tasks.run_comparison(Comparison.objects.newest_first()[0].pk)

    page.wait_for_selector("#classes")
    assert not page.query_selector("[hx-trigger]")
    page.click("a:has-text('both wrong')")
    page.wait_for_selector("[aria-current=true]:has-text('both wrong')")
    assert page.problems == []
