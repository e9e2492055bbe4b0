"""Fix sets: frozen means frozen."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from reviewapp.actions.fixsets import freeze_fix_set, preview_fix_set
from reviewapp.actions.reviews import undo
from reviewapp.exceptions import Refused
from reviewapp.models import Finding, FixItem, FixSet, Verdict
from tests import factories
from tests.reviewing import decide


def test_the_preview_counts_what_freezing_holds(reviewed):
    preview = preview_fix_set(dataset=reviewed.dataset, findings=Finding.objects.all())
    assert preview.size == 2
    assert preview.by_verdict == {"confirm": 1, "relabel": 1}
    assert preview.by_label == {"cat": 1, "fox": 1}
    assert (preview.by_cause, preview.by_split) == ({"pose": 1}, {"test": 2})
    assert not FixSet.objects.exists()


def test_it_holds_confirmed_and_relabelled_findings(fix_set, reviewed):
    assert (fix_set.size, fix_set.is_frozen) == (2, True)
    rows = {
        i.sample_key: (i.verdict, i.original_label, i.label, i.predicted)
        for i in fix_set.items.all()
    }
    a, b, _ = reviewed.findings
    assert rows == {
        a.sample.key: ("confirm", "cat", "cat", "dog"),
        b.sample.key: ("relabel", "cat", "fox", "dog"),
    }


def test_its_digest_depends_on_the_content_alone(fix_set, reviewed, alice):
    again = freeze_fix_set(
        dataset=reviewed.dataset,
        name="second",
        findings=Finding.objects.all(),
        by=alice,
    )
    assert again.digest == fix_set.digest


def test_later_verdicts_do_not_change_it(fix_set, reviewed, rita):
    undo(review=reviewed.findings[0].reviews.get(), by=rita)
    assert fix_set.items.count() == 2


def test_the_database_refuses_to_change_a_frozen_set(fix_set):
    changes = [
        lambda: FixItem.objects.filter(fix_set=fix_set).update(label="dog"),
        lambda: FixSet.objects.filter(pk=fix_set.pk).update(size=7),
        lambda: FixSet.objects.filter(pk=fix_set.pk).update(frozen_at=None, digest=""),
        lambda: FixItem.objects.create(
            fix_set=fix_set, sample_key="x", p_true=0, confidence=0,
            reviewed_at=fix_set.frozen_at,
        ),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(IntegrityError, match="frozen"), transaction.atomic():
            change()


def test_an_image_that_changed_since_its_verdict_is_left_out(reviewed, alice):
    sample = reviewed.findings[0].sample
    sample.digest = "0" * 64
    sample.save()
    assert (
        preview_fix_set(dataset=reviewed.dataset, findings=Finding.objects.all()).lost
        == 1
    )


def test_it_refuses_an_empty_set(world, alice):
    with pytest.raises(Refused, match="No confirmed"):
        freeze_fix_set(
            dataset=world.dataset, name="x", findings=Finding.objects.all(), by=alice
        )
    assert not FixSet.objects.exists()


def test_it_refuses_a_taken_name(fix_set, reviewed, alice):
    with pytest.raises(Refused, match="already"):
        freeze_fix_set(
            dataset=reviewed.dataset,
            name="first",
            findings=Finding.objects.all(),
            by=alice,
        )


def test_two_answers_for_one_image_never_meet_in_one_set(reviewed, rita):
    confirmed = reviewed.findings[0]
    other = factories.FindingFactory(
        sample=confirmed.sample,
        predicted_label=reviewed.labels[2],
        registered_model=factories.RegisteredModelFactory(dataset=reviewed.dataset),
    )
    decide(
        finding=other, by=rita, verdict=Verdict.RELABEL, new_label=reviewed.labels[1],
        version=0,
    )  # fmt: skip
    preview = preview_fix_set(dataset=reviewed.dataset, findings=Finding.objects.all())
    assert (preview.by_label, preview.lost) == ({"dog": 1, "fox": 1}, 1)
