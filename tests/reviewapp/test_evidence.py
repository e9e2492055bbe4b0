"""What scans prove of the ledger's lines, read from sightings; the rule is tested apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.finishing import finish_scan
from reviewapp.actions.reviews import undo
from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Finding,
    FixSet,
    Label,
    ModelVersion,
    Sample,
    Scan,
    User,
    Verdict,
)
from tests import answering
from tests.comparing import add_samples
from tests.reviewing import decide

CATS = 30


RIGHT = [0] * CATS


def dogs(*places: int) -> list[int]:
    """Return the answers of a model that takes these cats for dogs."""
    return [int(place in places) for place in range(CATS)]


@pytest.fixture
def cats(labels: list[Label]) -> list[Sample]:
    return add_samples(labels, "c" * CATS)


@pytest.fixture
def scan(version: ModelVersion, cats: list[Sample]) -> Callable[..., Scan]:
    def scan(*places: int, **options: object) -> Scan:
        return answering.scan(version, cats, dogs(*places), **options)

    return scan


@pytest.fixture
def export(lena: User) -> Callable[..., None]:
    """Confirm what waits and export it."""
    numbers = itertools.count()

    def export() -> None:
        findings = list(Finding.objects.select_related("dataset"))
        for finding in findings:
            if finding.review_state == "open":
                decide(
                    finding=finding, by=lena, verdict=Verdict.CONFIRM,
                    version=finding.version,
                )  # fmt: skip
        answering.export(findings, lena, f"fix {next(numbers)}")

    return export


def line() -> Confusion:
    return Confusion.objects.get(true_label__name="cat", predicted_label__name="dog")


def states() -> list[str]:
    events = ConfusionEvent.objects.filter(confusion=line()).order_by("id")
    return [event.new_state for event in events]


def numbers() -> tuple[object, ...]:
    said = line().evidence
    return tuple(said.get(name) for name in ("why", "b", "c", "samples"))


def test_a_claimed_confusion_that_fell_for_sure_is_fixed(scan, export):
    first = scan(*range(10))
    export()
    assert line().state == "fix_exported"
    second = scan(9, 10)
    found = line()
    assert found.state == "fixed"
    assert found.evidence == {
        "says": "fixed",
        "why": "proved",
        "scan": second.pk,
        "baseline": first.pk,
        "samples": CATS,
        "b": 9,
        "c": 1,
        "p": pytest.approx(2 * 11 / 2**10),
        "p_corrected": pytest.approx(2 * 11 / 2**10),
        "family": 1,
        "count": 2,
        "support": CATS,
        "baseline_count": 10,
        "baseline_support": CATS,
        "proved_by": second.pk,
    }
    event = found.events.order_by("id").last()
    assert (event.scan, event.new_state) == (second, "fixed")
    counts = {"present": 2, "waiting": 1, "reviewed": 10, "count_in_scan": 2}
    assert event.evidence == found.evidence | counts
    assert states() == ["open", "in_review", "fix_exported", "fixed"]


def test_the_same_fall_without_a_fix_proves_nothing(scan):
    scan(*range(10))
    scan(9, 10)
    assert (line().state, line().evidence) == ("open", {})


def test_a_fall_that_could_be_luck_is_improving_and_the_baseline_stays(scan, export):
    first = scan(*range(5))
    export()
    scan(0)
    assert (line().state, *numbers()) == ("improving", "fewer", 4, 0, CATS)
    scan(0, 1, 2, 3, 4)
    assert (line().state, *numbers()) == ("fix_exported", "not_fewer", 0, 0, CATS)
    scan(0)
    assert line().evidence["baseline"] == first.pk


def test_none_twice_is_fixed_and_none_once_is_not(scan):
    scan(0)
    scan()
    assert (line().state, line().evidence["why"]) == ("improving", "zero_once")
    scan()
    assert (line().state, line().evidence["why"]) == ("fixed", "zero_twice")
    assert states() == ["open", "improving", "fixed"]


def test_more_than_the_target_is_not_fixed(scan, export):
    scan(*range(10))
    Confusion.objects.update(target=1)
    export()
    scan(9, 10)
    assert (line().state, line().evidence["why"]) == ("improving", "above_target")
    Confusion.objects.update(target=2)
    scan(9, 10)
    assert (line().state, line().evidence["target"]) == ("fixed", 2)


def test_what_was_fixed_is_back_when_it_stays_higher(scan, export):
    scan(*range(10))
    export()
    proof = scan(9)
    scan(9, 10)
    found = line()
    assert (found.state, found.evidence["why"]) == ("fixed", "higher")
    assert (found.evidence["baseline"], numbers()[1:3]) == (proof.pk, (0, 1))
    scan(9, 10)
    found = line()
    assert (found.state, found.evidence["why"]) == ("regressed", "above_twice")
    assert found.claimed_at is None
    assert found.events.order_by("id").last().evidence["above_in_a_row"] == 2


def test_what_was_fixed_is_back_at_once_when_the_rise_is_proved(scan, export):
    scan(*range(10))
    export()
    scan()
    scan(*range(6))
    assert (line().state, *numbers()) == ("regressed", "rose", 0, 6, CATS)


def test_what_is_back_needs_a_new_fix_to_be_claimed(scan, export):
    scan(*range(10))
    export()
    scan()
    back = scan(*range(6))
    scan()
    assert (line().state, line().evidence["why"]) == ("improving", "zero_once")
    scan(*range(6))
    assert line().state == "regressed"
    export()
    assert line().state == "fix_exported"
    scan()
    assert (line().state, line().evidence["why"]) == ("fixed", "proved")
    assert line().evidence["baseline"] > back.pk


def test_an_old_set_that_is_exported_again_claims_nothing(scan, export, lena):
    scan(*range(10))
    export()
    scan()
    scan(*range(6))
    again = request_export(fix_set=FixSet.objects.get(), format="jsonl", by=lena)
    run_export(export=again)
    assert (line().state, line().claimed_at) == ("regressed", None)


def test_verdicts_change_nothing_that_a_scan_has_proved(scan, export, lena, cats):
    scan(*range(10))
    export()
    scan(9, 10)
    proved = line().evidence
    for review in list(Finding.objects.get(sample=cats[9]).reviews.all()):
        undo(review=review, by=lena)
    new = Finding.objects.waiting().first()
    decide(finding=new, by=lena, verdict=Verdict.DISMISS, version=new.version)
    assert (line().state, line().evidence) == ("fixed", proved)


def test_a_scan_that_did_not_look_proves_nothing(scan, export, version, labels):
    other = add_samples(labels, "c", split="val")
    scan(*range(10), split="test")
    export()
    answering.scan(version, other, [0], split="val")
    assert (line().state, line().evidence) == ("fix_exported", {})
    scan(split="test")
    answering.scan(version, other, [0], split="val")
    assert line().evidence["why"] == "proved"


def test_a_scan_of_other_images_takes_nothing_back(scan, export, version, labels):
    other = add_samples(labels, "ccc", split="val")
    scan(*range(10), split="test")
    export()
    scan(*range(6), split="test")
    assert (line().state, line().evidence["why"]) == ("improving", "fewer")
    answering.scan(version, other, [1, 1, 1], split="val")
    assert (line().state, line().evidence["why"]) == ("improving", "fewer")
    scan(9, split="test")
    assert (line().state, line().evidence["why"]) == ("fixed", "proved")
    scan(9, 10, split="test")
    answering.scan(version, other, [0, 0, 0], split="val")
    assert (line().state, line().evidence["why"]) == ("fixed", "higher")
    scan(9, 10, split="test")
    assert (line().state, line().evidence["why"]) == ("regressed", "above_twice")


def test_a_model_that_does_not_know_the_class_proves_nothing(
    scan, export, version, cats, labels
):
    scan(*range(10))
    export()
    known = [labels[0].pk, labels[2].pk]
    started = answering.begin(version, cats)
    Scan.objects.filter(pk=started.pk).update(classes=known)
    answering.answer(started.shards.get(), cats, RIGHT)
    assert finish_scan(scan=Scan.objects.get(pk=started.pk)).state == "done"
    assert (line().state, line().evidence) == ("fix_exported", {})


def test_only_images_that_both_scans_could_read_are_compared(
    scan, export, cats, version, labels
):
    scan(*range(10), unreadable=[cats[29].pk])
    export()
    late = add_samples(labels, "c")
    answering.scan(
        version, [*cats, *late], [*dogs(29), 1], unreadable=[cats[0].pk, cats[1].pk]
    )
    # Two cannot be read now; the last cat could not be read then, the late one was not
    # there.
    assert numbers() == ("proved", 8, 0, CATS - 3)


def test_an_image_or_label_that_changed_is_not_compared(
    scan, export, cats, lena, labels
):
    scan(*range(10))
    export()
    Sample.objects.filter(pk=cats[0].pk).update(digest="0" * 64)
    fox = labels[2]
    finding = Finding.objects.get(sample=cats[1])
    undo(review=finding.reviews.get(), by=lena)
    finding.refresh_from_db()
    decide(
        finding=finding, by=lena, verdict=Verdict.RELABEL, new_label=fox,
        version=finding.version,
    )  # fmt: skip
    scan()
    assert numbers()[1:3] == (8, 0)


def test_a_scan_for_the_record_or_of_half_the_samples_proves_nothing(
    scan, export, cats, version
):
    first = scan(*range(10))
    export()
    started = answering.begin(version, cats, shards=2)
    first_half, second_half = started.shards.order_by("number")
    answering.answer(first_half, cats, dogs())
    second_half.state = "quarantined"
    second_half.save(update_fields=["state"])
    assert finish_scan(scan=started).state == "partial"
    assert (line().state, line().evidence) == ("fix_exported", {})
    scan(9)
    assert line().evidence["baseline"] == first.pk
