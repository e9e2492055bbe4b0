"""Out-of-fold scans in the browser, and the mark on scans that are not."""

from __future__ import annotations

import pytest
from django.utils import timezone

from reviewapp.models import FoldRun, Scan
from tests import factories
from tests.browser.holding import problems_at_all_sizes

pytestmark = pytest.mark.browser
URL = "/datasets/animals/scans/"


@pytest.fixture
def run(pets) -> FoldRun:
    """A run at its second fold; the scan that there is covers the train split."""
    version = pets.scan.model_version
    type(version).objects.update(format="safetensors")
    Scan.objects.update(covers_train=True)
    return factories.FoldRunFactory(
        parent=version,
        state="running",
        worker="gpu-1:77",
        heartbeat_at=timezone.now(),
        progress={"fold": 2, "epoch": 3, "done": 500, "all": 1000},
    )


def test_a_run_is_stopped_on_its_live_page(run, alice, sign_in):
    page = sign_in(alice)
    page.goto(URL)
    page.get_by_role("link", name=f"Out-of-fold run {run.pk}").click()
    page.wait_for_selector("#progress:has-text('Fold 2 of 5, epoch 3')")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Stop the run").click()
    page.wait_for_selector("#progress .tag--cancelled")
    page.get_by_role("button", name="Resume").click()
    page.wait_for_selector("#progress:has-text('Waiting for a worker')")
    assert page.problems == []


def test_the_pages_hold_up(run, pets, alice, sign_in):
    pages = {
        "scans": URL,
        "scan-in-sample": f"{URL}{pets.scan.pk}/",
        "folds-new": f"{URL}out-of-fold/new/",
        "folds": f"{URL}out-of-fold/{run.pk}/",
    }
    wrong = problems_at_all_sizes(sign_in, alice, pages, axe=True, pictured=pages)
    assert "\n".join(wrong) == ""
