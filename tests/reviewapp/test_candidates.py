"""What a fix set is made from: filters over verdicts, guards, and when it is stale."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.http import QueryDict
from django.utils import timezone

from mining.recipe import RecipeSettings
from reviewapp.actions.fixsets import freeze_fix_set, preview_fix_set
from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.reviews import Decision, undo
from reviewapp.candidates import pick
from reviewapp.fixable import FixableFilter
from reviewapp.models import Finding, Lookalike, Review, Standing, Verdict
from tests import factories, scanning
from tests.images import write_image
from tests.recipes import give_outcomes
from tests.reviewing import decide

pytestmark = pytest.mark.usefixtures("clean_cache")
CONFIRM, RELABEL = Verdict.CONFIRM, Verdict.RELABEL


@pytest.fixture
def judged(world, rita, labels):
    """Confirmed: cat -> dog of test, cat -> fox of train, a near miss; relabelled: one."""
    one, two, _ = world.findings
    (fox,) = world.add_findings(1, predicted=2)
    (near,) = world.add_findings(1, predicted=0)
    world.dataset.samples.filter(pk=fox.sample_id).update(split="train")
    decide(finding=one, by=rita, verdict=CONFIRM, causes=["pose", "blur"])
    decide(finding=two, by=rita, verdict=RELABEL, new_label=labels[2], causes=["pose"])
    decide(finding=fox, by=rita, verdict=CONFIRM, causes=["lighting"])
    decide(finding=near, by=rita, verdict=CONFIRM)
    world.names = {one.pk: "one", two.pk: "two", fox.pk: "fox", near.pk: "near"}
    return world


def found(world, query: str) -> list[str]:
    filtered = FixableFilter(
        QueryDict(query), Finding.objects.all(), dataset=world.dataset
    )
    assert filtered.is_valid(), filtered.errors
    return [world.names[pk] for pk in filtered.qs.fixable().order_by("pk").values_list("pk", flat=True)]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["one", "two", "fox", "near"]),
        ("confusions={0}:{1}", ["one", "two"]),
        ("confusions={0}:{1}&confusions={0}:{0}", ["one", "two", "near"]),
        ("cause=blur&cause=lighting", ["one", "fox"]),
        ("cause=occlusion", []),
        ("split=train&split=val", ["fox"]),
        ("lane=near_miss", ["near"]),
        ("lane=label", ["one", "two"]),
        ("lane=model&lane=near_miss", ["fox", "near"]),
        ("review_state=relabelled", ["two"]),
    ],
)
def test_each_filter_takes_several_values_and_keeps_any(judged, labels, query, names):
    Standing.objects.filter(predicted_label=labels[1]).update(label_from=0.7)
    ids = [label.pk for label in labels]
    assert found(judged, query.format(*ids)) == names


def test_what_is_no_confusion_is_refused(judged):
    for wrong in ("cat:dog", "1", "1:2:3", f"1:{'9' * 19}", "²:1"):
        query = QueryDict(mutable=True)
        query["confusions"] = wrong
        assert not FixableFilter(query, Finding.objects.all()).is_valid()


def test_days_are_those_of_the_verdicts(judged):
    long_ago = timezone.now() - timedelta(days=30)
    Review.objects.filter(verdict="relabel").update(created_at=long_ago)
    day = timezone.localdate()
    month = day - timedelta(days=30)
    assert found(judged, f"reviewed_from={day}") == ["one", "fox", "near"]
    assert found(judged, f"reviewed_to={month}") == ["two"]
    assert found(judged, f"reviewed_from={month}&reviewed_to={month}") == ["two"]


@pytest.fixture
def opinions(world, rita, lena, alice):
    """One seconded, one by one person alone, one settled after a dispute."""
    one, two, three = world.findings
    decide(finding=two, by=rita, verdict=CONFIRM)
    world.dataset.overlap = 2
    world.dataset.save()
    for finding, said in ((one, CONFIRM), (three, Verdict.DISMISS)):
        for by, verdict in ((rita, CONFIRM), (lena, said)):
            finding = Finding.objects.get(pk=finding.pk)
            give_verdict(finding=finding, by=by, decision=Decision(verdict, 0))
    three = Finding.objects.get(pk=three.pk)
    give_verdict(finding=three, by=alice, decision=Decision(CONFIRM, three.version))
    world.names = {one.pk: "seconded", two.pk: "single", three.pk: "settled"}
    return world


@pytest.mark.parametrize(
    ("agreement", "names"),
    [
        ("seconded", ["seconded", "settled"]),  # Rita had said so, too
        ("single", ["single"]),
        ("settled", ["settled"]),
    ],
)
def test_how_many_people_stand_behind_a_verdict(opinions, agreement, names):
    assert found(opinions, f"agreement={agreement}") == names


def reasons(world, **options) -> list[str]:
    picked = {one.finding: one.reason for one in pick(world.dataset, Finding.objects.all(), **options)}  # fmt: skip
    return [picked[finding.pk] for finding in world.findings if finding.pk in picked]


def test_a_label_that_the_scan_doubts_needs_a_second_person(opinions):
    assert reasons(opinions) == ["", "", ""]
    Standing.objects.update(label_from=0.7)
    assert reasons(opinions) == ["", "label_suspect", ""]
    assert reasons(opinions, include=["label_suspect"]) == ["", "", ""]


def test_of_nearly_equal_images_the_hardest_is_kept(world, rita):
    one, _, three = world.findings
    for finding in world.findings:
        decide(finding=finding, by=rita, verdict=CONFIRM)
    for pair in ((one, three), (three, one)):
        sample, other = (finding.sample for finding in pair)
        Lookalike.objects.create(
            dataset=world.dataset, sample=sample, other=other, distance=2
        )
    assert reasons(world) == ["", "", "duplicate"]


@pytest.fixture
def dark(world, rita):
    """Of thirty cats the first finding's is the only dark one."""
    for finding in world.findings:
        decide(finding=finding, by=rita, verdict=CONFIRM)
    more = [factories.SampleFactory(label=world.labels[0]) for _ in range(27)]
    samples = [finding.sample for finding in world.findings] + more
    give_outcomes(world.scan, samples, brightness={0: 0.0})
    return world


def test_an_image_like_no_other_of_its_class_is_held_aside(dark, rita):
    assert reasons(dark) == ["outlier", "", ""]
    review = Review.objects.get(finding=dark.findings[0])
    undo(review=review, by=rita)
    decide(
        finding=dark.findings[0], by=rita, verdict=CONFIRM, version=2,
        causes=["lighting"],
    )  # fmt: skip
    assert reasons(dark) == ["", "", ""]


def test_where_the_outcomes_are_gone_no_outlier_is_known(dark, caplog):
    default_storage.delete(dark.scan.artefact)
    assert reasons(dark) == ["", "", ""]
    assert "outliers" in caplog.text


def test_the_outcomes_are_read_once(dark):
    assert reasons(dark)[0] == "outlier"
    default_storage.delete(dark.scan.artefact)
    assert reasons(dark)[0] == "outlier"


def test_the_preview_counts_what_is_held_and_what_exceeds_a_cap(dark):
    preview = preview_fix_set(
        dataset=dark.dataset,
        findings=Finding.objects.all(),
        settings=RecipeSettings(per_confusion=1, per_class=1),
    )
    assert (preview.size, preview.held, preview.lost) == (2, {"outlier": 1}, 0)
    assert [one.reason_name for one in preview.first_held] == ["outlier"]
    assert preview.by_confusion == [("cat", "dog", 2)]
    assert preview.over == [
        "cat taken for dog: 2 hard samples, the recipe takes the hardest 1."
    ]


def test_what_was_held_aside_is_frozen_with_its_reason(dark, alice):
    fix_set = freeze_fix_set(
        dataset=dark.dataset, name="x", findings=Finding.objects.all(), by=alice
    )
    [held] = fix_set.held_aside.all()
    assert (held.finding, held.reason, held.label) == (dark.findings[0], "outlier", "cat")  # fmt: skip
    assert fix_set.size == fix_set.items.count() == 2
    everything = freeze_fix_set(
        dataset=dark.dataset, name="y", findings=Finding.objects.all(), by=alice,
        include=["outlier"],
    )  # fmt: skip
    assert (everything.size, everything.held_aside.count()) == (3, 0)


@pytest.fixture
def fix_set(judged, alice):
    return freeze_fix_set(
        dataset=judged.dataset, name="all", findings=Finding.objects.all(), by=alice
    )


def stale(fix_set) -> list[str]:
    fix_set.refresh_from_db()
    return [line[17:] for line in fix_set.stale_because.splitlines()]


def test_another_verdict_on_what_it_holds_makes_it_stale(fix_set, judged, lena):
    one = judged.findings[0]
    decide(finding=one, by=lena, verdict=CONFIRM, version=1)
    assert stale(fix_set) == []  # the same again
    decide(finding=one, by=lena, verdict=Verdict.DISMISS, version=2)
    assert stale(fix_set) == [f"lena gave {one.sample.key} the verdict dismiss"]


def test_another_label_makes_it_stale_and_is_said_once(fix_set, judged, lena, labels):
    one = judged.findings[0]
    decide(finding=one, by=lena, verdict=RELABEL, version=1, new_label=labels[2])
    assert stale(fix_set) == [f"the label of {one.sample.key} is fox now"]


def test_undoing_a_relabel_is_said_once_with_the_name(fix_set, judged, rita):
    two = judged.findings[1]
    undo(review=Review.objects.get(finding=two), by=rita)
    assert stale(fix_set) == [f"rita took back the verdict relabel on {two.sample.key}"]


def test_images_that_change_or_go_away_make_it_stale_some_by_name(judged, alice, rita):
    for finding in judged.add_findings(7):
        decide(finding=finding, by=rita, verdict=CONFIRM)
    fix_set = freeze_fix_set(
        dataset=judged.dataset, name="all", findings=Finding.objects.all(), by=alice
    )
    keys = sorted(f.sample.key for f in judged.findings[5:])
    judged.dataset.samples.filter(key__in=keys).update(digest="ef" * 32)
    said = ", ".join(f"the image {key} changed" for key in keys[:5])
    assert stale(fix_set) == [f"{said} and 2 more"]
    gone = judged.findings[0].sample
    judged.dataset.samples.filter(pk=gone.pk).update(removed_at=timezone.now())
    assert stale(fix_set)[1:] == [f"{gone.key} went away"]


def test_what_concerns_no_item_leaves_it_as_it_is(fix_set, judged, rita):
    (other,) = judged.add_findings(1)
    decide(finding=other, by=rita, verdict=Verdict.DISMISS)
    judged.dataset.samples.update(size=7, split="val")
    assert stale(fix_set) == []


def test_a_data_set_registered_again_marks_what_it_changed(data_root, staff):
    for n, name in enumerate(("cat", "dog")):
        write_image(data_root / "pets" / "train" / name / "1.png", 50, seed=n)
    dataset = scanning.register(data_root / "pets", staff, "Pets")
    sample = dataset.samples.get(label__name="cat")
    finding = factories.FindingFactory(
        sample=sample,
        predicted_label=dataset.labels.get(name="dog"),
        registered_model=factories.RegisteredModelFactory(dataset=dataset),
    )
    decide(finding=finding, by=staff, verdict=CONFIRM)
    fix_set = freeze_fix_set(
        dataset=dataset, name="x", findings=Finding.objects.all(), by=staff
    )
    scanning.register_again(dataset, staff)
    assert stale(fix_set) == []
    write_image(data_root / "pets" / sample.key, 90)
    scanning.register_again(dataset, staff)
    assert stale(fix_set) == [f"the image {sample.key} changed"]
