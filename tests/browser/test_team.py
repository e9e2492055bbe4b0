"""The team's pages in Chromium: two people blind to each other, and a lead."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO
from itertools import cycle
from pathlib import Path

import elpv_dataset
import pytest
import time_machine
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image

from reviewapp.actions.known import add_known_answer
from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.reviews import Decision, claim
from reviewapp.models import (
    Cause,
    Finding,
    KnownAttempt,
    Membership,
    Opinion,
    Role,
    User,
    Verdict,
)
from reviewapp.thumbnails import thumbnail_name
from tests import factories
from tests.browser import desks
from tests.browser.holding import problems_at_all_sizes
from tests.reviewing import decide, queue_of


def picture(finding: Finding, image: bytes) -> None:
    """Store the thumbnails of a finding."""
    for size in ("grid", "focus"):
        name = thumbnail_name(finding.digest, size)
        default_storage.save(name, ContentFile(image))


def photographs(n: int) -> list[bytes]:
    """Return photographs of solar cells."""
    folder = Path(elpv_dataset.__file__).parent / "data/images"
    files = []
    for source in sorted(folder.iterdir())[:n]:
        file = BytesIO()
        Image.open(source).convert("L").save(file, "WEBP")
        files.append(file.getvalue())
    return files


def judge(finding: Finding, by: User, verdict: Verdict, at, **fields) -> None:
    fresh = Finding.objects.select_related("dataset").get(pk=finding.pk)
    with time_machine.travel(at, tick=False):
        give_verdict(finding=fresh, by=by, decision=Decision(verdict, 0, **fields))


@pytest.fixture
def crew(world) -> dict[str, User]:
    """An admin, a lead and three reviewers of the data set."""
    roles = {
        "alice": Role.ADMIN,
        "lena": Role.LEAD,
        "rita": Role.REVIEWER,
        "bob": Role.REVIEWER,
        "noor": Role.REVIEWER,
    }
    people = {}
    for name, role in roles.items():
        people[name] = factories.UserFactory(username=name)
        Membership.objects.create(user=people[name], dataset=world.dataset, role=role)
    return people


@pytest.fixture
def busy(transactional_db: None, world, crew):
    """Thirty opinions of two, three disputes, two flags, known answers, holds."""
    findings = [*world.findings, *world.add_findings(60)]
    for finding, image in zip(findings[:60], cycle(photographs(6)), strict=False):
        picture(finding, image)
    world.dataset.overlap = 2
    world.dataset.save()
    now = timezone.now() - timedelta(minutes=20)
    verdicts = cycle([Verdict.CONFIRM, Verdict.CONFIRM, Verdict.DISMISS])
    rita, bob = crew["rita"], crew["bob"]
    for place, finding in enumerate(findings[3:33]):
        said = next(verdicts)
        at = now + timedelta(seconds=place * 7 + place % 3)
        judge(finding, rita, said, at)
        judge(finding, bob, said, at + timedelta(seconds=2 + place % 5))
    for finding in findings[:3]:
        judge(finding, rita, Verdict.CONFIRM, now, causes=[Cause.LIGHTING])
        note = "The crack runs through the busbar; the label says there is none."
        label = world.labels[2]
        judge(finding, bob, Verdict.RELABEL, now, new_label=label, note=note)
    world.dataset.overlap = 1
    world.dataset.known_rate = 0.05
    world.dataset.save()
    for finding in findings[33:35]:
        decide(
            finding=finding, by=rita, verdict=Verdict.FLAG, note="Shadow or inactive?"
        )
    for finding in findings[35:37]:
        decide(finding=finding, by=crew["lena"], verdict=Verdict.CONFIRM)
        finding.refresh_from_db()
        add_known_answer(finding=finding, by=crew["lena"])
        for by, said in ((rita, Verdict.CONFIRM), (bob, Verdict.DISMISS)):
            fresh = Finding.objects.select_related("dataset").get(pk=finding.pk)
            give_verdict(finding=fresh, by=by, decision=Decision(said, 1))
    claim(queue=queue_of(world.dataset), by=rita, limit=5)
    return world


PAGES = {
    "team": "/datasets/animals/team/",
    "flagged": "/datasets/animals/team/second/",
    "disputed": "/datasets/animals/team/second/?show=disputed",
}


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_pages_hold_up_and_a_lead_decides_a_dispute(busy, crew, sign_in) -> None:
    wrong = problems_at_all_sizes(
        sign_in, crew["alice"], PAGES, axe=True, pictured=PAGES
    )
    assert wrong == []

    page = sign_in(crew["lena"])
    page.goto(PAGES["disputed"])
    first = page.locator(".case").first
    assert first.locator(".voice").count() == 2
    assert "rita" not in page.content()
    first.get_by_role("button", name="Relabel to fox").click()
    page.wait_for_selector(".notice--success")
    assert "rita had said confirm, bob had said relabel to fox" in page.inner_text(
        "#notices"
    )
    assert page.locator(".case").count() == 2
    assert "rita: confirm" in page.inner_text(".log")
    assert page.problems == []


@pytest.mark.browser
def test_two_people_judge_the_same_finding_blind(
    transactional_db: None, world, crew, sign_in
) -> None:
    world.dataset.overlap = 2
    world.dataset.save()
    desks.paint_all()
    for name in ("rita", "bob"):
        page = sign_in(crew[name])
        desks.start(page)
        # Nothing tells bob that somebody judged it before him.
        assert "rita" not in page.inner_text("main")
        desks.press(page, "c")
        desks.settle(page)
        assert page.problems == []
        page.close()
    one, other = Opinion.objects.order_by("id")
    assert one.finding == other.finding
    assert one.finding.review_state == Finding.ReviewState.CONFIRMED


@pytest.mark.browser
def test_a_known_answer_looks_and_is_undone_like_any_finding(
    transactional_db: None, world, crew, sign_in, monkeypatch
) -> None:
    monkeypatch.setattr("reviewapp.actions.known._gap", lambda rate, drawn: 0)
    finding = world.findings[0]
    relabel = {"verdict": Verdict.RELABEL, "new_label": world.labels[2]}
    decide(finding=finding, by=crew["alice"], note="a fox for sure", **relabel)
    finding.refresh_from_db()
    add_known_answer(finding=finding, by=crew["lena"])
    world.dataset.known_rate = 0.5
    world.dataset.save()
    desks.paint_all()
    page = sign_in(crew["rita"])
    desks.start(page)
    assert desks.on_desk(page) == finding.pk
    shown = page.inner_text("main").lower()
    for telling in ("alice", "a fox for sure", "relabelled", "known", "no longer"):
        assert telling not in shown
    judged = desks.press(page, "c")
    desks.settle(page)
    tried = KnownAttempt.objects.get()
    assert (judged, tried.is_right) == (finding.pk, False)
    page.keyboard.press("u")
    page.wait_for_function(
        "id => document.getElementById('desk')?.dataset.finding === id",
        arg=str(finding.pk),
    )
    assert not KnownAttempt.objects.exists()
    finding.refresh_from_db()
    assert finding.review_state == Finding.ReviewState.RELABELLED
    assert page.problems == []
