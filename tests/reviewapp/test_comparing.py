"""Two scans against each other, with answers counted by hand."""

from __future__ import annotations

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from mining.compare import NothingToCompare
from mining.exceptions import ArtefactError
from mining.pairing import ScansDiffer
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.comparing import (
    compare_scans,
    details_of,
    differences_of,
    figures_of,
)
from reviewapp.exceptions import Refused
from reviewapp.models import Finding, Sample, Scan, Verdict
from tests import factories
from tests.comparing import add_samples, add_scan, lose
from tests.reviewing import decide

TRUE, BEFORE, AFTER = "ccccddddff", "ccdddddfcf", "cdcdddddcf"


@pytest.fixture
def later(registered_model, version):
    return factories.ModelVersionFactory(registered_model=registered_model)


@pytest.fixture
def samples(labels) -> list[Sample]:
    return add_samples(labels, TRUE)


@pytest.fixture
def scans(version, later, samples) -> tuple[Scan, Scan]:
    return add_scan(version, samples, BEFORE), add_scan(later, samples, AFTER)


def compared(scans, labels="corrected", **options):
    baseline, candidate = scans
    return compare_scans(
        baseline=baseline, candidate=candidate, labels=labels, **options
    )


def figures(scans, labels="corrected", **options):
    return figures_of(compared(scans, labels, **options))


def found(samples, registered_model, place, predicted) -> Finding:
    """Return a finding of one sample, ready for a verdict."""
    return factories.FindingFactory(
        sample=samples[place],
        predicted_label=predicted,
        registered_model=registered_model,
    )


def test_the_figures_are_those_counted_by_hand(scans) -> None:
    said = figures(scans)

    assert said["samples"] == 10
    cells = {name: said[name] for name in ("both_right", "fixed", "broken")}
    assert cells == {"both_right": 5, "fixed": 2, "broken": 1}
    assert said["both_wrong"] == 2
    assert said["negative_flip_rate"] == 0.1
    assert (said["baseline"]["right"], said["candidate"]["right"]) == (6, 7)
    assert said["baseline"]["accuracy"] == 0.6
    assert said["candidate"]["accuracy"] == 0.7
    assert said["difference"]["value"] == pytest.approx(0.1)
    assert said["difference"]["p"] == 1.0  # 2 against 1
    assert said["baseline"]["macro_f1"] == pytest.approx((4 / 7 + 6 / 9 + 2 / 4) / 3)
    assert said["candidate"]["macro_f1"] == pytest.approx((4 / 7 + 8 / 10 + 2 / 3) / 3)
    assert said["changes"] == {
        "fixed": 1,
        "fewer": 0,
        "unchanged": 2,
        "more": 0,
        "broken": 0,
    }
    assert said["seen"]["samples"] == said["left_out"] == said["unreadable"] == 0


def test_the_tables_name_images_classes_and_confusions(scans, samples) -> None:
    tables = details_of(compared(scans))

    def ids(cell: str) -> list[int]:
        return [row[0] for row in tables["images"][cell]]

    assert tables["images"]["broken"] == [[samples[1].pk, "cat", "cat", "dog"]]
    assert ids("fixed") == [samples[2].pk, samples[7].pk]
    assert ids("both_wrong") == [samples[3].pk, samples[8].pk]
    assert len(ids("both_right")) == 5
    assert tables["confusions"]["fixed"] == [["dog", "fox", 1, 0, 0, 1.0, 1.0]]
    assert tables["confusions"]["unchanged"] == [
        ["cat", "dog", 2, 2, 1, 1.0, 1.0],
        ["fox", "cat", 1, 1, 1, 1.0, 1.0],
    ]
    names = [row[0] for row in tables["classes"]]
    assert names == ["fox", "dog", "cat"]  # the F1 that changed most first
    dog = tables["classes"][1]
    assert dog[1:] == pytest.approx([4, 3 / 5, 3 / 4, 6 / 9, 4 / 6, 1.0, 8 / 10])


def test_the_reference_case_is_told_exactly(version, later, labels) -> None:
    """467 errors of 2,451 whose top confusion is 23; after the fix 312."""
    true = "c" * 1000 + "d" * 1000 + "f" * 451
    before, after = list(true), list(true)
    before[:23] = "d" * 23  # cat -> dog, of which 20 are fixed and 1 is new
    after[20:24] = "d" * 4
    before[1000:1444] = "f" * 444  # dog -> fox, of which 157 are fixed and 21 are new
    after[1157:1465] = "f" * 308
    samples = Sample.objects.bulk_create(
        factories.SampleFactory.build(
            label=label, dataset=label.dataset, original_label=label
        )
        for label in (labels["cdf".index(letter)] for letter in true)
    )
    scans = (
        add_scan(version, samples, "".join(before)),
        add_scan(later, samples, "".join(after)),
    )
    assert [scan.errors for scan in scans] == [467, 312]

    both = compared(scans)
    said, tables = figures_of(both), details_of(both)

    assert (said["samples"], said["fixed"], said["broken"]) == (2451, 177, 22)
    difference = said["difference"]
    assert round(difference["value"], 3) == 0.063
    assert [round(difference[end], 3) for end in ("low", "high")] == [0.053, 0.075]
    assert difference["p"] < 1e-29
    assert round(said["negative_flip_rate"], 3) == 0.009
    [second, first] = tables["confusions"]["fewer"]
    assert first[:5] == ["cat", "dog", 23, 4, 3]
    assert first[5] == pytest.approx(2 * 22 / 2**21)  # 20 fixed, 1 new
    # Holm over two: the smaller p twice, the larger as it is.
    assert first[6] == first[5] > second[5]
    assert second[6] == pytest.approx(2 * second[5])
    assert second[:5] == ["dog", "fox", 444, 308, 287]


def test_scans_of_other_samples_are_refused_and_say_which(
    version, later, samples, labels
) -> None:
    more = [*samples[1:], *add_samples(labels, "f", key="late.png")]
    scans = add_scan(version, samples, BEFORE), add_scan(later, more, AFTER[1:] + "f")

    with pytest.raises(ScansDiffer) as refused:
        compared(scans)

    assert differences_of(refused.value.differences) == {
        "only_in_baseline": {"count": 1, "keys": (samples[0].key,)},
        "only_in_candidate": {"count": 1, "keys": ("late.png",)},
    }
    common = compared(scans, common=True)
    assert figures_of(common)["samples"] == 9
    assert figures_of(common)["left_out"] == 2
    assert set(details_of(common)["left_out"]) == {
        "only_in_baseline",
        "only_in_candidate",
    }


def test_an_image_that_was_replaced_between_the_scans_is_refused(
    version, later, samples
) -> None:
    first = add_scan(version, samples, BEFORE)
    samples[4].digest = "0" * 64
    scans = first, add_scan(later, samples, AFTER)
    with pytest.raises(ScansDiffer, match=f"other image: 1 .{samples[4].key}"):
        compared(scans)
    assert figures(scans, common=True)["samples"] == 9


def test_a_label_that_the_source_changed_between_the_scans_is_refused(
    version, later, samples, labels
) -> None:
    first = add_scan(version, samples, BEFORE)
    Sample.objects.filter(pk=samples[4].pk).update(
        label=labels[2], original_label=labels[2]
    )
    samples[4].refresh_from_db()
    with pytest.raises(ScansDiffer, match=f"other label: 1 .{samples[4].key}"):
        compared((first, add_scan(later, samples, AFTER)))


@pytest.mark.parametrize("is_before_both", [True, False])
def test_both_scans_are_scored_with_the_same_labels_never_mixed(
    version, later, samples, labels, registered_model, lena, is_before_both
) -> None:
    """The third cat is a dog, it turns out: before the first scan, or between the two."""
    first = None if is_before_both else add_scan(version, samples, BEFORE)
    finding = found(samples, registered_model, 2, labels[1])
    decide(finding=finding, by=lena, verdict=Verdict.RELABEL, new_label=labels[1])
    samples[2].refresh_from_db()
    assert samples[2].label == labels[1]
    first = first or add_scan(version, samples, BEFORE)
    scans = first, add_scan(later, samples, AFTER)

    original, corrected = figures(scans, "original"), figures(scans, "corrected")

    # Of the cat: the baseline said dog, the candidate cat.
    assert (original["fixed"], original["broken"]) == (2, 1)
    assert (corrected["fixed"], corrected["broken"]) == (1, 2)
    for said, right in ((original, (6, 7)), (corrected, (7, 6))):
        assert (said["baseline"]["right"], said["candidate"]["right"]) == right
    assert original["relabelled"] + corrected["relabelled"] == 1
    assert original["seen"]["reviewed"] == 1


def test_a_correction_that_was_taken_back_is_scored_as_it_stands_now(
    version, later, samples, labels, registered_model, lena
) -> None:
    Sample.objects.filter(pk=samples[2].pk).update(label=labels[1])
    samples[2].refresh_from_db()
    between = add_scan(version, samples, BEFORE)
    finding = found(samples, registered_model, 2, labels[0])
    review = decide(
        finding=finding, by=lena, verdict=Verdict.RELABEL, new_label=labels[0]
    )
    assert review.verdict == "relabel"
    samples[2].refresh_from_db()
    assert samples[2].label == samples[2].original_label == labels[0]
    scans = between, add_scan(later, samples, AFTER)
    for name in ("original", "corrected"):
        assert figures(scans, name)["broken"] == 1


def test_reviewed_samples_and_their_lookalikes_are_found_and_left_out(
    version, later, samples, labels, registered_model, lena
) -> None:
    hashes = {samples[1].pk: 0b0, samples[0].pk: 0b1111, samples[4].pk: 0b11111}
    scans = (
        add_scan(version, samples, BEFORE, hashes=hashes),
        add_scan(later, samples, AFTER, hashes=hashes),
    )
    finding = found(samples, registered_model, 1, labels[1])
    open_one = found(samples, registered_model, 9, labels[1])
    assert open_one.review_state == "open"
    decide(finding=finding, by=lena, verdict=Verdict.CONFIRM)

    said = figures(scans)

    # Within 4 bits of the reviewed one is the first, not the fifth.
    seen = said["seen"]
    assert (seen["samples"], seen["reviewed"], seen["trained"]) == (2, 2, 0)
    assert seen["unhashed"] == 0
    assert said["samples"] == 10
    without = seen["without"]
    assert (without["samples"], without["broken"], without["fixed"]) == (8, 0, 2)
    assert without["difference"]["value"] == 0.25


def test_what_a_version_was_trained_on_is_found_by_its_look_in_another_split(
    version, later, samples, labels, registered_model, alice
) -> None:
    train = add_samples(labels, "cd", split="train")
    look = {samples[5].pk: 7, train[0].pk: 7}
    add_scan(version, train, "dd", split="train", hashes=look)
    for sample in train:
        finding = found([sample], registered_model, 0, labels[2])
        decide(finding=finding, by=alice, verdict=Verdict.CONFIRM)
    later.trained_on = freeze_fix_set(
        dataset=later.registered_model.dataset,
        name="fixes",
        findings=Finding.objects.all(),
        by=alice,
    )
    later.save(update_fields=["trained_on"])
    newest = factories.ModelVersionFactory(registered_model=registered_model)
    Finding.objects.update(review_state="open")  # the review alone is not what counts
    scans = (
        add_scan(version, samples, BEFORE, hashes=look),
        add_scan(newest, samples, AFTER, hashes=look),
    )

    seen = figures(scans)["seen"]

    assert (seen["samples"], seen["reviewed"], seen["trained"]) == (1, 0, 1)
    assert seen["unhashed"] == 0
    # The same two scans, but nobody kept how the other split looks.
    lose(Scan.objects.get(split="train"))
    seen = figures(scans)["seen"]
    assert (seen["samples"], seen["unhashed"], seen["without"]) == (0, 2, None)


def test_when_every_sample_was_seen_there_are_no_figures_without_them(
    version, later, labels, registered_model, lena
) -> None:
    [sample] = add_samples(labels, "c")
    scans = add_scan(version, [sample], "c"), add_scan(later, [sample], "d")
    decide(
        finding=found([sample], registered_model, 0, labels[1]),
        by=lena,
        verdict=Verdict.DISMISS,
    )
    seen = figures(scans)["seen"]
    assert (seen["samples"], seen["without"]) == (1, None)


def test_what_one_scan_could_not_read_is_left_out_and_counted(
    version, later, samples
) -> None:
    scans = (
        add_scan(version, samples, "-" + BEFORE[1:]),
        add_scan(later, samples, AFTER),
    )
    said = figures(scans)
    assert (said["samples"], said["unreadable"]) == (9, 1)
    blind = add_scan(version, samples, "-" * 10)
    with pytest.raises(NothingToCompare):
        compared((blind, scans[1]))


def test_a_model_with_other_classes_is_compared_by_name(
    version, later, samples, scans, labels
) -> None:
    for place, label in enumerate(labels):
        type(label).objects.filter(pk=label.pk).update(index=(place + 1) % 3 + 10)
    turned = add_scan(later, samples, AFTER)
    assert figures((scans[0], turned))["difference"] == figures(scans)["difference"]


def test_a_missing_and_a_damaged_artefact_are_named(scans) -> None:
    candidate = scans[1]
    lose(candidate)
    with pytest.raises(ArtefactError, match=f"outcomes of scan {candidate.pk} are not"):
        compared(scans)
    default_storage.save(candidate.artefact, ContentFile(b"PAR1 cut"))
    with pytest.raises(ArtefactError, match="cannot be read"):
        compared(scans)


def test_it_refuses_itself_another_data_set_and_an_unfinished_scan(scans) -> None:
    baseline, candidate = scans
    with pytest.raises(Refused, match="with itself"):
        compared((baseline, baseline))
    with pytest.raises(Refused, match="two data sets"):
        compared((baseline, factories.ScanFactory()))
    candidate.state = Scan.State.PARTIAL
    with pytest.raises(Refused, match=f"Scan {candidate.pk} is partial"):
        compared(scans)
