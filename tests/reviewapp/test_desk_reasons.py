"""Why a finding is on the desk, word for word."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from reviewapp.desk_reasons import (
    PLACES,
    Comeback,
    comeback_of,
    lane_of,
    place_of,
    why_here,
)
from reviewapp.models import Claim, Finding, Sample, Standing, UnreadableSample
from reviewapp.queues import Lane
from tests import factories

COAT, PULLOVER = "Coat", "Pullover"


@pytest.fixture
def finding(dataset, registered_model) -> Finding:
    """An error Pullover -> Coat."""
    labels = [
        factories.LabelFactory(dataset=dataset, name=name) for name in (PULLOVER, COAT)
    ]
    return factories.FindingFactory(
        sample=factories.SampleFactory(label=labels[0]),
        predicted_label=labels[1],
        registered_model=registered_model,
        priority=0.99,
        confidence=0.98,
    )


@pytest.fixture
def near_miss(finding) -> Finding:
    return factories.FindingFactory(
        sample=factories.SampleFactory(label=finding.predicted_label),
        predicted_label=finding.predicted_label,
        registered_model=finding.registered_model,
        priority=0.48,
        confidence=0.52,
    )


def standing(**fields) -> Standing:
    return Standing(**{"present": 53, "label_from": 1.0} | fields)


def test_an_error_says_its_scores_its_kind_and_its_place(finding):
    assert why_here(finding, standing(), 3, "") == (
        "Predicted Coat at 0.98; label Pullover has 0.01; 53 of this kind; 4th in the "
        "queue"
    )


def test_the_lane_label_says_what_the_model_usually_gives(finding):
    assert why_here(finding, standing(label_from=0.91), 0, Lane.LABEL) == (
        "Predicted Coat at 0.98; label Pullover has 0.01; 53 of this kind; 1st in the "
        "queue; the model is surer of Coat than it usually is of real Coat (0.98 against "
        "0.91)"
    )


def test_among_all_errors_a_card_says_its_own_lane(finding):
    assert why_here(finding, standing(label_from=0.91), 0).endswith("0.91)")
    assert why_here(finding, standing(label_from=0.99), 0).endswith("the queue")


def test_figures_that_look_equal_are_left_out(finding):
    said = why_here(finding, standing(label_from=0.981), 0, Lane.LABEL)
    assert said.endswith("than it usually is of real Coat")


def test_a_near_miss_says_how_sure_the_model_was(near_miss):
    assert why_here(near_miss, standing(present=12), 1, Lane.NEAR_MISS) == (
        "Coat is right, but only at 0.52; 12 near misses of this class; 2nd in the queue"
    )
    assert "; 1 near miss of this class;" in why_here(near_miss, standing(present=1), 0)


def test_what_is_back_says_since_when(finding):
    finding.presence = Finding.Presence.REGRESSED
    assert why_here(finding, None, 2, "", Comeback(fixed_in=7, back_since=9)) == (
        "Predicted Coat at 0.98; label Pullover has 0.01; 3rd in the queue; was fixed in "
        "scan 7, back since scan 9"
    )
    assert why_here(finding, None, 2).endswith("; was fixed before and is back")


def test_what_was_opened_again_says_why(finding):
    finding.reopened_because = "the image changed since it was dismissed"
    assert why_here(finding, None, 0).endswith(
        "; 1st in the queue; open again: the image changed since it was dismissed"
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("flagged", "flagged for a second opinion"),
        ("disputed", "reviewers disagree on it"),
        ("confirmed", "53 of this kind"),
    ],
)
def test_what_does_not_wait_has_no_place_in_the_queue(finding, state, words):
    finding.review_state = state
    said = why_here(finding, standing(), 0)
    assert said.endswith(f"; {words}")
    assert "queue" not in said


def test_what_is_fixed_has_no_place_either(finding):
    finding.presence = Finding.Presence.FIXED
    assert "queue" not in why_here(finding, standing(), 0)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (10, "11th in the queue"),
        (11, "12th in the queue"),
        (12, "13th in the queue"),
        (20, "21st in the queue"),
        (21, "22nd in the queue"),
        (110, "111th in the queue"),
        (PLACES, "more than 1,000 come before it in the queue"),
    ],
)
def test_places_are_said_as_people_do(finding, place, words):
    assert why_here(finding, None, place).endswith(f"; {words}")


@pytest.mark.parametrize(
    ("confidence", "priority", "words"),
    [
        (1.0, 1.0, "Coat at 1.00; label Pullover has 0.00;"),
        (0.9999, 0.9999, "Coat at over 0.99; label Pullover has under 0.01;"),
    ],
)
def test_only_what_is_certain_is_called_certain(finding, confidence, priority, words):
    finding.confidence, finding.priority = confidence, priority
    assert words in why_here(finding, None, 0)


def test_each_finding_has_one_lane(finding, near_miss):
    assert lane_of(finding, standing(label_from=0.98)) == Lane.LABEL
    assert lane_of(finding, standing(label_from=0.99)) == Lane.MODEL
    assert lane_of(finding, None) == Lane.MODEL
    assert lane_of(near_miss, standing(label_from=0.1)) == Lane.NEAR_MISS


def test_its_place_counts_the_harder_ones_that_are_free(world, rita, lena):
    world.add_findings(2, true=1, predicted=0)
    last = world.findings[2]
    assert place_of(last, rita) == 2
    Claim.objects.create(
        finding=world.findings[0],
        reviewer=lena,
        expires_at=timezone.now() + timedelta(minutes=1),
    )
    assert place_of(last, rita) == 1
    assert place_of(world.findings[1], rita) == 0


def many(world, n: int) -> list[Finding]:
    """Add n findings of one confusion, all equally hard, and half as many of another."""
    found = []
    for predicted, count in ((1, n), (2, n // 2)):
        samples = Sample.objects.bulk_create(
            factories.SampleFactory.build_batch(count, label=world.labels[0])
        )
        found += Finding.objects.bulk_create(
            factories.FindingFactory.build(
                sample=sample,
                predicted_label=world.labels[predicted],
                registered_model=world.model,
                priority=1.0,
            )
            for sample in samples
        )
    with connection.cursor() as cursor:
        for table in ("finding", "claim", "skip"):
            cursor.execute(f"ANALYZE reviewapp_{table}")
    return found[:n]


@pytest.mark.parametrize("place", [0, 5, 1500])
def test_its_place_is_read_from_an_index(world, rita, place):
    findings = many(world, 1600)
    finding = findings[-1 - place]
    with CaptureQueriesContext(connection) as queries:
        assert place_of(finding, rita) == min(place, PLACES)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {queries[-1]['sql']}")
        ((plan,),) = cursor.fetchall()
    scans = [node for node in nodes(plan[0]["Plan"]) if "Relation Name" in node]
    (read,) = (n for n in scans if n["Relation Name"] == "reviewapp_finding")
    assert read["Node Type"] in ("Index Scan", "Index Only Scan")
    assert read["Actual Rows"] <= min(place, PLACES)
    assert read.get("Rows Removed by Filter", 0) == 0


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def test_its_place_is_of_its_own_model(world, rita):
    other = factories.RegisteredModelFactory(dataset=world.dataset)
    Finding.objects.filter(pk=world.findings[0].pk).update(registered_model=other)
    assert place_of(world.findings[2], rita) == 1


def seen(world, finding, pattern: str, **fields) -> list[int]:
    """Add a scan for each letter, "s" for one that saw the finding; return their ids."""
    pks = []
    for letter in pattern:
        version = world.scan.model_version
        scan = factories.ScanFactory(model_version=version, **fields)
        if letter == "s":
            factories.SightingFactory(finding=finding, scan=scan)
        pks.append(scan.pk)
    return pks


@pytest.fixture
def back(world) -> Finding:
    finding = world.findings[0]
    finding.presence = Finding.Presence.REGRESSED
    finding.save(update_fields=["presence"])
    return finding


@pytest.mark.parametrize(
    ("pattern", "fixed", "since"),
    [("-s", 0, 1), ("--ss", 0, 2), ("-s--s", 2, 4), ("s-s", 1, 2)],
)
def test_it_knows_when_an_error_was_gone(world, back, pattern, fixed, since):
    pks = seen(world, back, pattern)
    assert comeback_of(back) == Comeback(fixed_in=pks[fixed], back_since=pks[since])


def test_scans_that_say_nothing_of_the_image_do_not_count(
    world, back, django_assert_num_queries
):
    other = factories.ModelVersionFactory(
        registered_model=factories.RegisteredModelFactory(dataset=world.dataset)
    )
    pks = seen(world, back, "-s")
    seen(world, back, "-", split="train")
    seen(world, back, "-", for_record=True)
    seen(world, back, "-", state="cancelled")
    factories.ScanFactory(model_version=other)
    (unread,) = seen(world, back, "-")
    UnreadableSample.objects.create(scan_id=unread, sample=back.sample, reason="gone")
    with django_assert_num_queries(1):  # the scans, each with whether it saw it
        assert comeback_of(back) == Comeback(fixed_in=pks[0], back_since=pks[1])


def test_an_error_that_was_never_gone_has_no_comeback(
    world, back, django_assert_num_queries
):
    seen(world, back, "ss")
    assert comeback_of(back) is None
    with django_assert_num_queries(0):  # not regressed: nothing is read
        assert comeback_of(world.findings[1]) is None
