"""Verdicts: one per version, undone exactly, never two people on one finding."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, transaction

from reviewapp.actions.reviews import claim, last_review, undo
from reviewapp.exceptions import FindingChanged, FindingHeld, NotAllowed, Refused
from reviewapp.models import Confusion, Event, Finding, Review, Verdict
from tests import factories
from tests.reviewing import decide, queue_of

CONFIRM, RELABEL, DISMISS = Verdict.CONFIRM, Verdict.RELABEL, Verdict.DISMISS


@pytest.mark.parametrize(
    ("verdict", "state"), [(CONFIRM, "confirmed"), (DISMISS, "dismissed")]
)
def test_a_verdict_leaves_the_queue(world, rita, verdict, state):
    finding = world.findings[0]
    review = decide(
        finding=finding, by=rita, verdict=verdict, version=0, causes=["pose", "blur"]
    )
    finding.refresh_from_db()
    assert (finding.review_state, finding.version) == (state, 1)
    assert finding not in Finding.objects.waiting()
    assert (review.causes, review.state_before) == (["pose", "blur"], "open")


def test_a_relabel_corrects_the_sample_and_keeps_the_original(world, rita):
    finding, fox = world.findings[0], world.labels[2]
    decide(finding=finding, by=rita, verdict=RELABEL, new_label=fox, version=0)
    finding.sample.refresh_from_db()
    assert finding.sample.label == fox
    assert finding.sample.original_label == world.labels[0]


def test_a_relabel_takes_the_samples_other_findings_out(world, rita):
    other = factories.FindingFactory(
        sample=world.findings[0].sample,
        predicted_label=world.labels[2],
        registered_model=factories.RegisteredModelFactory(dataset=world.dataset),
    )
    review = decide(
        finding=world.findings[0],
        by=rita,
        verdict=RELABEL,
        new_label=world.labels[1],
        version=0,
    )
    other.refresh_from_db()
    assert other.presence == "superseded"
    with pytest.raises(FindingChanged):
        decide(finding=other, by=rita, verdict=CONFIRM, version=0)
    undo(review=review, by=rita)
    world.findings[0].sample.refresh_from_db()
    assert world.findings[0].sample.label == world.labels[0]


def test_a_verdict_on_a_changed_finding_is_refused_with_what_changed(world, rita, lena):
    finding = world.findings[0]
    decide(finding=finding, by=lena, verdict=DISMISS, version=0)
    with pytest.raises(FindingChanged, match="lena gave the verdict dismiss") as caught:
        decide(finding=finding, by=rita, verdict=CONFIRM, version=0)
    assert "not recorded" in str(caught.value)
    assert Review.objects.count() == 1


def test_a_verdict_on_a_relabelled_sample_is_refused(world, rita):
    finding = world.findings[0]
    finding.sample.label = world.labels[2]
    finding.sample.save(update_fields=["label"])
    with pytest.raises(FindingChanged, match="is fox now, no longer cat"):
        decide(finding=finding, by=rita, verdict=CONFIRM, version=0)


def test_a_finding_that_another_holds_is_refused(world, rita, lena):
    claim(queue=queue_of(world.dataset), by=lena, limit=1)
    with pytest.raises(FindingHeld, match="lena is looking"):
        decide(finding=world.findings[0], by=rita, verdict=CONFIRM, version=0)


def test_a_double_click_is_one_verdict(world, rita):
    decide(finding=world.findings[0], by=rita, verdict=CONFIRM, version=0)
    with pytest.raises(FindingChanged):
        decide(finding=world.findings[0], by=rita, verdict=CONFIRM, version=0)
    assert Review.objects.count() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verdict": RELABEL}, "Choose the label"),
        ({"verdict": CONFIRM, "new_label": 1}, "Only the verdict relabel"),
        ({"verdict": RELABEL, "new_label": 0}, "is cat already"),
        ({"verdict": CONFIRM, "causes": ["boredom"]}, "Unknown cause: boredom"),
    ],
)
def test_an_incomplete_verdict_is_refused(world, rita, options, message):
    if "new_label" in options:
        options = {**options, "new_label": world.labels[options["new_label"]]}
    with pytest.raises(Refused, match=message):
        decide(finding=world.findings[0], by=rita, version=0, **options)
    assert not Review.objects.exists()


def test_a_relabel_to_another_data_sets_class_is_refused(world, rita):
    with pytest.raises(Refused, match="not a class of this data set"):
        decide(
            finding=world.findings[0],
            by=rita,
            verdict=RELABEL,
            new_label=factories.LabelFactory(),
            version=0,
        )


@pytest.mark.parametrize("verdict", [CONFIRM, RELABEL, DISMISS])
def test_undo_restores_everything(world, rita, verdict):
    finding = world.findings[0]
    before = Finding.objects.filter(pk=finding.pk).values().get()
    label = world.labels[2] if verdict is RELABEL else None
    review = decide(
        finding=finding, by=rita, verdict=verdict, new_label=label, version=0
    )
    assert last_review(dataset=world.dataset, by=rita) == review
    undo(review=review, by=rita)
    after = Finding.objects.filter(pk=finding.pk).values().get()
    assert after.pop("version") == before.pop("version") + 2
    assert after == before
    finding.sample.refresh_from_db()
    assert finding.sample.label == world.labels[0]
    assert last_review(dataset=world.dataset, by=rita) is None
    assert Event.objects.get(action="verdict undone").actor == rita


def test_undo_is_once_and_for_oneself(world, rita, lena):
    review = decide(finding=world.findings[0], by=rita, verdict=CONFIRM, version=0)
    with pytest.raises(NotAllowed):
        undo(review=review, by=lena)
    undo(review=review, by=rita)
    with pytest.raises(Refused, match="undone already"):
        undo(review=review, by=rita)


def test_the_ledger_follows_reviews(world, rita):
    line = Confusion.objects.get()
    review = decide(finding=world.findings[0], by=rita, verdict=CONFIRM, version=0)
    line.refresh_from_db()
    assert line.state == "in_review"
    undo(review=review, by=rita)
    line.refresh_from_db()
    assert line.state == "open"
    assert [e.new_state for e in line.events.order_by("id")] == ["in_review", "open"]


def test_the_database_keeps_one_verdict_per_version(world, rita, lena):
    review = decide(finding=world.findings[0], by=rita, verdict=CONFIRM, version=0)
    copy = Review(
        dataset=world.dataset,
        finding=review.finding,
        finding_version=0,
        reviewer=lena,
        verdict=CONFIRM,
        label_before=review.label_before,
        state_before="open",
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        copy.save()


def second_models_finding(world, *, presence="seen"):
    """Another model's finding of the first finding's image, cat -> fox, in the ledger."""
    model = factories.RegisteredModelFactory(dataset=world.dataset)
    line = factories.ConfusionFactory(
        registered_model=model, true_label=world.labels[0],
        predicted_label=world.labels[2],
    )  # fmt: skip
    finding = factories.FindingFactory(
        sample=world.findings[0].sample,
        predicted_label=world.labels[2],
        registered_model=model,
        presence=presence,
    )
    return finding, line


@pytest.mark.parametrize("presence", ["seen", "regressed", "superseded", "fixed"])
def test_undoing_a_relabel_restores_the_samples_other_findings(world, rita, presence):
    other, line = second_models_finding(world, presence=presence)
    review = decide(
        finding=world.findings[0], by=rita, verdict=RELABEL,
        new_label=world.labels[1], version=0,
    )  # fmt: skip
    if presence in ("seen", "regressed"):
        line.refresh_from_db()
        assert line.present == 0
    undo(review=review, by=rita)
    other.refresh_from_db()
    line.refresh_from_db()
    assert other.presence == presence
    if presence in ("seen", "regressed"):
        assert line.present == 1


@pytest.mark.django_db(transaction=True)
def test_two_relabels_of_one_image_at_once_take_turns(world):
    reviewers = [factories.UserFactory() for _ in range(2)]
    for _ in range(6):
        finding = world.add_findings(1)[0]
        other = factories.FindingFactory(
            sample=finding.sample,
            predicted_label=world.labels[2],
            registered_model=factories.RegisteredModelFactory(dataset=world.dataset),
        )

        def work(job):
            target, reviewer, label = job
            try:
                decide(
                    finding=target, by=reviewer, verdict=RELABEL, new_label=label,
                    version=0,
                )  # fmt: skip
            except FindingChanged:
                return "refused"
            else:
                return "taken"
            finally:
                connection.close()

        jobs = [
            (finding, reviewers[0], world.labels[1]),
            (other, reviewers[1], world.labels[2]),
        ]
        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(work, jobs)) == ["refused", "taken"]
