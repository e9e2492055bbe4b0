"""A scan finds what an independent computation finds, once, and remembers it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from django.core.files.storage import default_storage

from mining.exceptions import BadCheckpoint, ClassMismatch
from reviewapp.actions.reviews import undo
from reviewapp.actions.scans import start_scan
from reviewapp.models import (
    Confusion,
    Dataset,
    Finding,
    ModelVersion,
    Scan,
    Shard,
    User,
    Verdict,
)
from reviewapp.thumbnails import thumbnail_name
from tests import factories, scanning
from tests.images import LEVELS, write_animals, write_brightness_model, write_image
from tests.reviewing import decide

WRONG = {("cat", "dog"): 3, ("dog", "fox"): 2, ("fox", "cat"): 1}


@pytest.fixture
def staff(db: None) -> User:
    return factories.UserFactory(username="staff", is_staff=True)


@pytest.fixture
def truth(data_root: Path) -> dict[str, tuple[str, str]]:
    return write_animals(data_root / "animals", wrong=WRONG)


@pytest.fixture
def animals(truth: object, data_root: Path, staff: User) -> Dataset:
    return scanning.register(data_root / "animals", staff)


@pytest.fixture
def net(animals: Dataset, model_root: Path) -> ModelVersion:
    return scanning.add_version(animals, write_brightness_model(model_root / "1.onnx"))


def better_net(animals: Dataset, model_root: Path) -> ModelVersion:
    """A second version that never says dog: cat -> dog is fixed, dogs become cats."""
    levels = {**LEVELS, "cat": 80, "dog": 255}
    return scanning.add_version(
        animals, write_brightness_model(model_root / "2.onnx", levels)
    )


def seen(queryset=None) -> set[tuple[str, str, str]]:
    rows = Finding.objects.all() if queryset is None else queryset
    return {
        (f.sample.key, f.true_label.name, f.predicted_label.name)
        for f in rows.with_names()
    }


def test_it_finds_every_error_and_nothing_else(net, truth):
    scan = scanning.scan(net, split="test", settings={"shard_size": 100})
    expected = {(k, t, p) for k, (t, p) in truth.items() if t != p}
    assert scan.state == Scan.State.DONE
    assert seen(Finding.objects.misclassified()) == expected
    assert (scan.samples, scan.errors, scan.correct) == (18, 6, 12)
    counts = {
        (c.true_label.name, c.predicted_label.name): c.count
        for c in scan.confusion_counts.all()
    }
    assert counts == {("cat", "cat"): 4, ("dog", "dog"): 4, ("fox", "fox"): 4, **WRONG}


def test_its_artefact_holds_every_sample_in_order(net, truth):
    scan = scanning.scan(net, settings={"shard_size": 100, "batch_size": 4})
    with default_storage.open(scan.artefact) as file:
        table = pq.read_table(file).to_pydict()
    assert sorted(table["key"]) == sorted(truth)
    assert table["id"] == sorted(table["id"])
    assert default_storage.listdir(f"scans/{scan.pk}")[1] == ["outcomes.parquet"]


def test_its_shards_cover_each_sample_once(net, truth):
    started = start_scan(
        dataset=net.registered_model.dataset,
        version=net,
        trigger=Scan.Trigger.API,
        by=None,
        settings={"shard_size": 100},
    )
    Shard.objects.filter(scan=started).delete()
    from reviewapp.actions.scans import _make_shards

    shards = _make_shards(started, 5)
    assert [s.samples for s in shards] == [5, 5, 5, 3]
    assert all(a.last_sample < b.first_sample for a, b in pairwise(shards))
    scanning.run(started)
    assert (started.state, started.samples) == (Scan.State.DONE, 18)


def test_the_same_scan_again_sights_each_finding_twice_and_asks_once(net, staff):
    first = scanning.scan(net)
    findings = {f.pk: f for f in Finding.objects.all()}
    confirmed = Finding.objects.misclassified().first()
    decide(finding=confirmed, by=staff, verdict=Verdict.DISMISS, version=0)
    second = scanning.scan(net)
    assert {f.pk for f in Finding.objects.all()} == set(findings)
    for finding in Finding.objects.all():
        assert list(
            finding.sightings.order_by("scan").values_list("scan", flat=True)
        ) == [
            first.pk,
            second.pk,
        ]
    confirmed.refresh_from_db()
    assert confirmed.review_state == "dismissed"
    assert Finding.objects.waiting().misclassified().count() == 5


def test_ten_scans_of_an_unchanged_model_make_no_new_work(net):
    scanning.scan(net)
    before = list(Finding.objects.order_by("pk").values())
    for _ in range(3):
        scanning.scan(net)
    after = list(Finding.objects.order_by("pk").values())
    assert after == before


def test_a_better_model_fixes_and_a_worse_one_brings_it_back(animals, net, model_root):
    """Twice each: once could be luck."""
    scanning.scan(net)
    line = Confusion.objects.get(true_label__name="cat", predicted_label__name="dog")
    assert (line.state, line.present) == ("open", 3)
    better = better_net(animals, model_root)
    scanning.scan(better)
    line.refresh_from_db()
    assert (line.state, line.present) == ("improving", 0)
    scanning.scan(better)
    line.refresh_from_db()
    assert (line.state, line.present) == ("fixed", 0)
    assert {
        f.presence
        for f in Finding.objects.filter(
            true_label__name="cat", predicted_label__name="dog", kind="misclassified"
        )
    } == {"fixed"}
    worse = scanning.add_version(
        animals, write_brightness_model(model_root / "3.onnx", sharpness=150)
    )
    scanning.scan(worse)
    line.refresh_from_db()
    assert (line.state, line.present) == ("fixed", 3)
    scanning.scan(worse)
    line.refresh_from_db()
    assert (line.state, line.present) == ("regressed", 3)
    assert [e.new_state for e in line.events.order_by("id")] == [
        "open",
        "improving",
        "fixed",
        "regressed",
    ]


def test_an_older_version_is_scanned_for_the_record_only(animals, net, model_root):
    scanning.scan(net)
    scanning.scan(better_net(animals, model_root))
    state = list(Finding.objects.order_by("pk").values())
    again = scanning.scan(net)
    assert again.for_record
    assert again.errors == 6
    assert list(Finding.objects.order_by("pk").values()) == state


def test_a_sample_that_another_scan_did_not_cover_says_nothing(
    data_root, staff, model_root
):
    write_image(data_root / "a/train/cat/1.png", LEVELS["dog"])
    for name, level in LEVELS.items():
        write_image(data_root / f"a/test/{name}/1.png", level)
    dataset = scanning.register(data_root / "a", staff)
    net = scanning.add_version(dataset, write_brightness_model(model_root / "1.onnx"))
    scanning.scan(net)
    scanning.scan(net, split="test")
    finding = Finding.objects.misclassified().get()
    assert finding.presence == "seen"
    assert Confusion.objects.get().state == "open"


def test_a_changed_image_opens_a_dismissed_finding_and_says_why(
    animals, net, staff, data_root
):
    scanning.scan(net)
    finding = Finding.objects.misclassified().first()
    decide(finding=finding, by=staff, verdict=Verdict.DISMISS, version=0)
    write_image(
        data_root / "animals" / finding.sample.key,
        LEVELS[finding.predicted_label.name],
        seed=99,
    )
    registration = scanning.register_again(animals, staff)
    assert registration.changed == 1
    scanning.scan(net)
    finding.refresh_from_db()
    assert finding.review_state == "open"
    assert finding.reopened_because == "the image changed since it was dismissed"


def test_a_relabelled_sample_is_scored_against_its_new_label(net, animals, staff):
    scanning.scan(net)
    finding = Finding.objects.misclassified().first()
    predicted = finding.predicted_label
    review = decide(
        finding=finding,
        by=staff,
        verdict=Verdict.RELABEL,
        new_label=predicted,
        version=0,
    )
    scan = scanning.scan(net)
    assert scan.errors == 5
    finding.refresh_from_db()
    assert (finding.presence, finding.review_state) == ("fixed", "relabelled")
    undo(review=review, by=staff)
    assert scanning.scan(net).errors == 6
    finding.refresh_from_db()
    assert (finding.presence, finding.review_state) == ("regressed", "open")


def test_a_new_label_asks_again_and_says_why(net, animals, staff):
    scanning.scan(net)
    finding = Finding.objects.filter(true_label__name="cat").misclassified().first()
    fox = animals.labels.get(name="fox")
    decide(finding=finding, by=staff, verdict=Verdict.RELABEL, new_label=fox, version=0)
    scanning.scan(net)
    new = Finding.objects.get(sample=finding.sample, true_label=fox)
    assert new.reopened_because == (
        "the label changed from cat to fox since it was relabelled"
    )


def test_unreadable_samples_are_outcomes_with_their_reason(
    data_root, staff, model_root
):
    write_animals(data_root / "animals", wrong={("cat", "dog"): 1})
    (data_root / "animals/test/cat/empty.png").write_bytes(b"")
    good = (data_root / "animals/test/cat/000.png").read_bytes()
    (data_root / "animals/test/cat/truncated.png").write_bytes(good[:60])
    dataset = scanning.register(data_root / "animals", staff)
    net = scanning.add_version(dataset, write_brightness_model(model_root / "1.onnx"))
    scan = scanning.scan(net)
    assert (scan.samples, scan.correct, scan.errors, scan.unreadable) == (15, 12, 1, 2)
    reasons = {u.sample.key: u.reason for u in scan.unreadable_samples.all()}
    assert set(reasons) == {"test/cat/empty.png", "test/cat/truncated.png"}
    assert all(reasons.values())


def test_a_missing_file_is_an_unreadable_sample(net, animals, data_root):
    (data_root / "animals/test/cat/000.png").unlink()
    scan = scanning.scan(net)
    assert (scan.samples, scan.unreadable) == (18, 1)


def test_errors_get_thumbnails(net):
    scanning.scan(net)
    for finding in Finding.objects.misclassified():
        for size in ("grid", "focus"):
            assert default_storage.exists(thumbnail_name(finding.digest, size))


def test_a_single_class_is_registered_with_a_warning(data_root, staff, model_root):
    write_image(data_root / "a/test/cat/1.png", LEVELS["cat"])
    dataset = scanning.register(data_root / "a", staff)
    assert "Only one class, cat" in dataset.registrations.get().message
    checkpoint = write_brightness_model(model_root / "1.onnx")
    spec = model_root / "1.onnx.json"
    spec.write_text(spec.read_text().replace('"dog"', "").replace('"fox"', ""))
    with pytest.raises(BadCheckpoint, match=r"1\.onnx\.json"):
        scanning.add_version(dataset, checkpoint)


def test_a_model_of_another_class_count_is_refused(animals, model_root):
    levels = {"cat": 60, "dog": 130}
    with pytest.raises(ClassMismatch, match="fox"):
        scanning.add_version(
            animals, write_brightness_model(model_root / "2.onnx", levels)
        )
    reordered = {"dog": 130, "cat": 60, "fox": 200}
    with pytest.raises(ClassMismatch, match="order"):
        scanning.add_version(
            animals, write_brightness_model(model_root / "3.onnx", reordered)
        )
    assert not ModelVersion.objects.exists()


def test_registering_a_checkpoint_twice_is_one_version(animals, net, model_root):
    assert scanning.add_version(animals, model_root / "1.onnx") == net


def test_a_class_that_vanished_during_a_scan_is_said(net, animals):
    started = start_scan(
        dataset=animals, version=net, trigger=Scan.Trigger.PAGE, by=None
    )
    sample = animals.samples.first()
    stray = factories.LabelFactory(dataset=animals, index=None, name="wolf")
    sample.label = stray
    sample.save(update_fields=["label"])
    scanning.run(started)
    assert (started.state, started.unreadable) == (Scan.State.DONE, 1)
    assert "is not one of" in started.unreadable_samples.get().reason


def test_a_spec_that_changed_after_registering_changes_nothing(net, truth, model_root):
    from reviewapp.scanning import _warm

    _warm.cache_clear()
    spec = model_root / "1.onnx.json"
    spec.write_text(
        spec.read_text().replace("cat", "?").replace("dog", "cat").replace("?", "dog")
    )
    scanning.scan(net)
    expected = {(k, t, p) for k, (t, p) in truth.items() if t != p}
    assert seen(Finding.objects.misclassified()) == expected
    spec.unlink()
    _warm.cache_clear()
    assert scanning.scan(net).errors == len(expected)
