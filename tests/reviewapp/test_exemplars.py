"""What each class looks like: the surest right samples, and their pictures."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from reviewapp import tasks
from reviewapp.actions import exemplars as exemplars_action
from reviewapp.actions.aids import make_aids, make_pictures_of
from reviewapp.actions.exemplars import make_pictures
from reviewapp.models import (
    Exemplar,
    Finding,
    Label,
    Preparation,
    Sample,
    Scan,
)
from reviewapp.rows import exemplars_for
from reviewapp.thumbnails import SIZES, thumbnail_name
from tests import scanning
from tests.images import write_image
from tests.reviewapp.artefacts import FAR, looks, pictured


@pytest.fixture
def scan(net) -> Scan:
    """A finished scan of four of each class right, three cats and two foxes wrong."""
    return scanning.scan(net)


def sample_ids(**filters) -> list[int]:
    return list(
        Sample.objects.filter(**filters).order_by("key").values_list("pk", flat=True)
    )


def test_each_class_gets_its_surest_right_samples(scan):
    make_aids(scan=scan)
    for label in Label.objects.all():
        rows = list(Exemplar.objects.filter(label=label).order_by("place"))
        assert [row.place for row in rows] == [0, 1, 2, 3]
        sure = [row.confidence for row in rows]
        assert sure == sorted(sure, reverse=True)
        assert {row.sample.label_id for row in rows} == {label.pk}
    wrong = Finding.objects.values("sample")
    assert not Exemplar.objects.filter(sample__in=wrong).exists()


def test_samples_that_changed_since_are_no_exemplars(scan):
    cats = sample_ids(label__name="cat")[:4]
    Sample.objects.filter(pk=cats[0]).update(removed_at=timezone.now())
    Sample.objects.filter(pk=cats[1]).update(label=Label.objects.get(name="dog"))
    Sample.objects.filter(pk=cats[2]).update(digest="f" * 64)
    make_aids(scan=scan)
    rows = Exemplar.objects.filter(label__name="cat")
    assert [row.sample_id for row in rows] == [cats[3]]


def test_exemplars_are_different_images(scan, tmp_path):
    looks(scan, tmp_path, n000=5, n001=4, n002=FAR, n003=FAR + 1)
    make_aids(scan=scan)
    assert Exemplar.objects.filter(label__name="cat").count() == 2


def test_a_later_scan_replaces_only_the_classes_it_covers(net, scan):
    make_aids(scan=scan)
    Sample.objects.filter(label__name="dog").update(split="train")
    cat = Sample.objects.filter(label__name="cat").order_by("key").first()
    Sample.objects.filter(pk=cat.pk).update(removed_at=timezone.now())
    later = scanning.scan(net, split="test")
    make_aids(scan=later)
    found = Exemplar.objects.order_by("label__name", "place")
    assert [(row.label.name, row.scan_id) for row in found] == [
        *[("cat", later.pk)] * 3,
        *[("dog", scan.pk)] * 4,
        *[("fox", later.pk)] * 4,
    ]


def test_the_desk_sees_both_classes_as_they_are_now(scan, django_assert_num_queries):
    make_aids(scan=scan)
    finding = Finding.objects.filter(true_label__name="cat").first()
    gone = Exemplar.objects.filter(label__name="dog").order_by("place")[0]
    Sample.objects.filter(pk=gone.sample_id).update(removed_at=timezone.now())
    itself = Exemplar.objects.filter(label__name="cat", place=3)
    itself.update(sample=finding.sample, digest=finding.digest)
    with django_assert_num_queries(1):  # the exemplars
        rows = [(row.label_id, row.place) for row in exemplars_for(finding)]
    cat, dog = finding.true_label_id, finding.predicted_label_id
    assert rows == sorted(
        [(cat, n) for n in range(3)] + [(dog, n) for n in range(1, 4)]
    )


def test_pictures_are_made_in_both_sizes_and_not_twice(scan, monkeypatch):
    make_aids(scan=scan)
    model = scan.model_version.registered_model
    assert make_pictures(model=model, seconds=60)
    assert all(all(pictured(row)) for row in Exemplar.objects.all())
    monkeypatch.setattr(
        exemplars_action, "read_bytes", lambda url: pytest.fail(f"{url} is read again")
    )
    assert make_pictures(model=model, seconds=60)


def test_findings_of_an_import_get_pictures_too(scan, monkeypatch):
    make_aids(scan=scan)
    found = list(Finding.objects.filter(sightings__scan=scan))
    for finding in found:
        for size in SIZES:
            default_storage.delete(thumbnail_name(finding.digest, size))
    assert found
    assert make_pictures_of(scan=scan, seconds=60)
    assert not any(any(pictured(finding)) for finding in found)  # its shards made them
    scan.trigger = Scan.Trigger.IMPORT
    assert make_pictures_of(scan=scan, seconds=60)
    assert all(all(pictured(finding)) for finding in found)


def test_a_root_that_is_not_here_is_given_up(scan, monkeypatch):
    scan.trigger = Scan.Trigger.IMPORT
    asked = []

    def read_bytes(url: str) -> bytes:
        asked.append(url)
        raise FileNotFoundError(url)

    monkeypatch.setattr(exemplars_action, "MISSING", 1)
    monkeypatch.setattr(exemplars_action, "PICTURES_AT_ONCE", 1)
    monkeypatch.setattr(exemplars_action, "read_bytes", read_bytes)
    monkeypatch.setattr(exemplars_action, "_is_stored", lambda digest: False)
    assert make_pictures_of(scan=scan, seconds=60)
    assert len(asked) == 1


def test_a_budget_that_is_spent_leaves_the_rest(scan, sent, monkeypatch):
    make_aids(scan=scan)
    model = scan.model_version.registered_model
    clock = iter([0.0, *[1.0] * 5, *[9.0] * 20])
    monkeypatch.setattr(exemplars_action.time, "monotonic", lambda: next(clock))
    assert not make_pictures(model=model, seconds=5)
    assert sum(all(pictured(row)) for row in Exemplar.objects.all()) == 5


def test_the_task_goes_on_until_all_are_made(scan, sent, monkeypatch):
    make_aids(scan=scan)
    monkeypatch.setattr(tasks, "make_pictures_of", lambda *, scan, seconds: False)
    tasks.make_pictures(scan.pk)
    assert sent == [("make_pictures", scan.pk)]


def test_images_that_cannot_be_read_are_left_out(scan, data_root, caplog):
    make_aids(scan=scan)
    caplog.set_level("INFO")
    cats = list(Exemplar.objects.filter(label__name="cat").order_by("place"))
    gone, other, broken = (data_root / "animals" / row.sample.key for row in cats[:3])
    gone.unlink()
    write_image(other, 99)
    data = b"not an image"
    broken.write_bytes(data)
    Exemplar.objects.filter(pk=cats[2].pk).update(
        digest=hashlib.sha256(data).hexdigest()
    )
    model = scan.model_version.registered_model
    assert make_pictures(model=model, seconds=60)
    shown = [all(pictured(row)) for row in Exemplar.objects.filter(label__name="cat")]
    assert shown.count(True) == 1
    assert "has no picture" in caplog.text


def test_a_root_that_this_host_cannot_reach_is_left_alone(scan, monkeypatch, caplog):
    make_aids(scan=scan)
    caplog.set_level("INFO")

    def read(url):
        raise ConnectionError("s3://photos cannot be reached")

    monkeypatch.setattr(exemplars_action, "read_bytes", read)
    tasks.make_pictures(scan.pk)
    assert not Preparation.objects.exists()
    assert caplog.text.count("no exemplars from this host") <= 2  # one per thread
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_folder_that_is_gone_makes_no_noise(scan, data_root, caplog):
    make_aids(scan=scan)
    shutil.rmtree(data_root / "animals")
    tasks.make_pictures(scan.pk)
    assert not Preparation.objects.exists()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
