"""One's own verdicts, and taking them back from a list."""

from __future__ import annotations

import re
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.urls import reverse

from reviewapp.actions.bulk import decide_many
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.known import add_known_answer
from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.reviews import Decision
from reviewapp.models import Finding, FixSet, KnownAttempt, Review, Sample, Verdict
from tests.reviewing import decide

LIST = reverse("review-verdicts", args=["animals"])
UNDO = reverse("review-verdict-undo", args=["animals"])


@pytest.fixture
def client(client_of, rita):
    return client_of(rita)


def entries(client):
    return client.get(LIST).context["entries"]


def test_an_empty_list_says_what_to_do(world, client):
    assert b"No verdict<" in client.get(LIST).content


def test_lines_say_what_was_said(world, labels, rita, client):
    first, second, third = world.findings
    decide(finding=first, by=rita, verdict=Verdict.RELABEL, new_label=labels[2])
    decide_many(
        dataset=world.dataset,
        by=rita,
        findings=[(second.pk, 0), (third.pk, 0)],
        decision=Decision(Verdict.DISMISS, 0, reason="out_of_scope", key=uuid4()),
    )
    as_one, alone = entries(client)
    assert (as_one.said, as_one.pairs) == (
        "2 dismissed as one: out of scope",
        "cat → dog",
    )
    assert (alone.said, alone.key, as_one.key) == ("relabelled to fox", "2", "1")
    assert [finding.pk for finding in as_one.others] in ([second.pk], [third.pk])


def test_a_list_of_others_is_their_own(world, lena, client):
    decide(finding=world.findings[0], by=lena, verdict=Verdict.CONFIRM)
    assert entries(client) == []


def test_a_line_is_undone_once_and_leaves_the_list(world, rita, client):
    review = decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    line = entries(client)[0].first.name
    page = client.post(UNDO, {"line": line}, follow=True)
    assert "1 undone." in page.content.decode()
    assert page.context["entries"] == []
    assert Finding.objects.get(pk=review.finding_id).review_state == "open"
    again = client.post(UNDO, {"line": line}, follow=True)
    assert "This verdict was undone already." in again.content.decode()


def test_nothing_tells_a_known_answer_from_a_finding(world, rita, lena, alice, client):
    """Both are dismissed for the same reason with the same note, and undone."""
    known, plain, _ = world.findings
    decide(finding=known, by=alice, verdict=Verdict.CONFIRM)
    known.refresh_from_db()
    add_known_answer(finding=known, by=lena)
    said = {"reason": "duplicate", "causes": ["blur"], "note": "seen before"}
    for finding in (known, plain):
        give_verdict(
            finding=finding,
            by=rita,
            decision=Decision(Verdict.DISMISS, finding.version, **said),
        )
    assert (Review.objects.by(rita).count(), KnownAttempt.objects.count()) == (1, 1)

    def lines(page):
        html = page.content.decode().split('<li class="line">')[1:]
        words = [re.sub(r"[0-9a-f]{64}|test/\d+", "", line) for line in html]
        return [re.sub(r"\d+", "1", line.partition("</li>")[0]) for line in words]

    one, other = lines(client.get(LIST))
    assert one == other
    assert "duplicate" in one
    assert "seen before" in one
    answers = [
        client.post(UNDO, {"line": entry.first.name}, follow=True).content.decode()
        for entry in [*entries(client), *entries(client)]
    ]
    notices = [re.search(r'(?s)id="notices".*?</div>', page)[0] for page in answers]
    assert notices[0] == notices[1] != notices[2] == notices[3]
    assert entries(client) == []


def test_it_says_what_stands_against_an_undo(world, labels, rita, lena, client):
    first, second, _ = world.findings
    decide(finding=first, by=rita, verdict=Verdict.CONFIRM)
    decide(finding=first, by=lena, verdict=Verdict.DISMISS, version=1)
    decide(finding=second, by=rita, verdict=Verdict.RELABEL, new_label=labels[2])
    Sample.objects.filter(pk=second.sample_id).update(label=labels[1])
    relabelled, confirmed = entries(client)
    assert relabelled.why_not == "The label was changed to dog since."
    assert confirmed.why_not == "lena gave the verdict dismiss later."
    assert not confirmed.can_undo
    assert (relabelled.key, confirmed.key) == ("", "")


def test_a_batch_says_how_much_of_it_cannot_be_undone(world, rita, lena, client):
    decide_many(
        dataset=world.dataset,
        by=rita,
        findings=[(finding.pk, 0) for finding in world.findings],
        decision=Decision(Verdict.DISMISS, 0, key=uuid4()),
    )
    decide(finding=world.findings[0], by=lena, verdict=Verdict.CONFIRM, version=1)
    (entry,) = entries(client)
    assert entry.can_undo
    assert entry.why_not == (
        "1 of them cannot be undone: lena gave the verdict confirm later."
    )
    page = client.post(UNDO, {"line": entry.first.name}, follow=True).content.decode()
    assert "2 undone. 1 stay as they are. The finding got another verdict" in page


def test_a_frozen_set_is_named_and_marked_stale(world, rita, lena, client):
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    freeze_fix_set(
        dataset=world.dataset,
        name="week 7",
        findings=Finding.objects.all(),
        by=lena,
    )
    (entry,) = entries(client)
    assert entry.frozen_in == ["week 7"]
    client.post(UNDO, {"line": entry.first.name})
    assert "rita took back" in FixSet.objects.get().stale_because


def test_a_blind_opinion_is_a_line_like_any_other(world, rita, client):
    world.dataset.overlap = 2
    world.dataset.save()
    decide_many(
        dataset=world.dataset,
        by=rita,
        findings=[(world.findings[0].pk, 0)],
        decision=Decision(Verdict.CONFIRM, 0, key=uuid4()),
    )
    (entry,) = entries(client)
    assert entry.said == "confirmed"
    page = client.post(UNDO, {"line": entry.first.name}, follow=True)
    assert b"1 undone." in page.content
    assert entries(client) == []


NOW = "20260102T030405.000006"
NOT_THERE = ["", "1", "1-", "-1", "review-1", f"x-{NOW}", f"1-{NOW}", f"{9**20}-{NOW}"]


@pytest.mark.parametrize("line", [*NOT_THERE, f"1-{NOW}\0", "\ud800-1"])
def test_a_line_that_is_not_there_is_refused(world, rita, client, line):
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    sent = urlencode({"line": line}, errors="surrogatepass")
    form = "application/x-www-form-urlencoded"
    assert client.post(UNDO, sent, content_type=form).status_code == 302
    assert Review.objects.standing().count() == 1


def test_a_line_of_somebody_else_is_refused(world, rita, lena, client, client_of):
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    client_of(lena).post(UNDO, {"line": entries(client)[0].first.name})
    assert Review.objects.standing().count() == 1


def test_no_keys_for_who_wants_none(world, rita, client):
    rita.keys = {"off": "1"}
    rita.save()
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    (entry,) = entries(client)
    assert (entry.key, entry.can_undo) == ("", True)


def test_sixty_verdicts_take_as_many_queries_as_three(
    world, rita, client, django_assert_max_num_queries
):
    for finding in world.add_findings(57):
        decide(finding=finding, by=rita, verdict=Verdict.CONFIRM)
    # Session, person, data set; reviews, their findings, samples and undos; opinions,
    # attempts; later verdicts, fix sets.
    with django_assert_max_num_queries(11):
        assert len(entries(client)) == 50
