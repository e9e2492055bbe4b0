"""From confirmed findings to the report: what the product is for, in one walk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from reviewapp import tasks
from reviewapp.models import Finding, FixSet, Report, Review, TrainingRun
from tests import factories, scanning, schooling
from tests.flows.worker import wait_for

CONFIRMED = 4


@pytest.fixture
def work(monkeypatch) -> Callable[[], None]:
    """Do what was sent to the workers, here and in order, until nothing is left."""
    waiting: deque[tuple] = deque()

    def send(task, pks, **_) -> None:
        waiting.extend((task, pk) for pk in pks)

    def work() -> None:
        while waiting:
            task, pk = waiting.popleft()
            task(pk)

    monkeypatch.setattr(tasks, "_send", send)
    return work


def confirm_some(page) -> None:
    page.goto("/datasets/school/review/?order=hardest")
    page.get_by_role("button", name="Start reviewing").click()
    for n in range(1, CONFIRMED + 1):
        desk = page.wait_for_selector("html.is-ready #desk[data-finding]")
        seen = desk.get_attribute("data-finding")
        page.keyboard.press("c")
        page.wait_for_selector(f"#desk:not([data-finding='{seen}'])")
        wait_for(lambda n=n: Review.objects.count() == n)


def freeze(page) -> None:
    page.goto("/datasets/school/fixsets/new/")
    page.fill("[name=name]", "first fixes")
    page.get_by_role("button", name="Freeze").click()
    page.wait_for_url("**/fixsets/*/")


def retrain(page) -> None:
    page.get_by_role("link", name="Retrain with this recipe").click()
    page.check("[name=with_control]")
    page.get_by_text("More settings").click()
    settings = {"epochs": 12, "lr": 0.01, "batch_size": 8, "patience": 0}
    for name, value in settings.items():
        page.fill(f"[name={name}]", str(value))
    page.get_by_role("button", name="Start the training").click()
    page.wait_for_selector("text=Waiting for a worker")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
def test_from_confirmed_findings_to_the_report(
    data_root, model_root, sign_in, work
) -> None:
    alice = factories.UserFactory(username="alice", is_staff=True)
    version = schooling.school(data_root, model_root, alice)
    scanning.scan(version, split="train")
    assert Finding.objects.misclassified().count() > CONFIRMED
    page = sign_in(alice)

    confirm_some(page)
    freeze(page)
    work()
    page.reload()
    assert FixSet.objects.get().recipes.get().state == "done"
    retrain(page)
    work()
    run = TrainingRun.objects.get(control_of=None)
    assert run.state == "done", run.message
    page.goto(f"/datasets/school/training/{run.pk}/")
    page.get_by_role("link", name="Before and after").click()

    page.wait_for_selector(".claim--gain")
    claim = page.inner_text(".claim__first")
    assert claim.startswith("A gain: on 12 images that nobody reviewed or trained on")
    assert page.locator("text=first fixes").count() == 1
    assert page.locator("h2", has_text="Control").count() == 1
    assert Report.objects.get().figures["seen"]["trained"] == 0
    assert page.problems == []
