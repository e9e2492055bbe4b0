"""What a finished scan prepares for the desk: lanes, exemplars, lookalikes, pictures."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from mining.artefact import iter_outcomes, write_outcomes
from reviewapp import tasks
from reviewapp.actions.aids import make_aids, take_due
from reviewapp.actions.imports import request_import
from reviewapp.celery import app
from reviewapp.models import (
    Exemplar,
    Label,
    Lookalike,
    Preparation,
    Sample,
    Scan,
    Standing,
)
from reviewapp.storage import fetch_file, store_file
from tests import factories, scanning
from tests.images import LEVELS, write_animals, write_brightness_model
from tests.reviewapp.artefacts import FAR, looks, pictured
from tests.reviewapp.conftest import WRONG

What = Preparation.What


@pytest.fixture
def scan(net) -> Scan:
    """A finished scan of four of each class right, three cats and two foxes wrong."""
    return scanning.scan(net)


def test_a_finished_scan_asks_for_its_preparation_once(scan, sent):
    assert take_due(What.AIDS) == [scan.pk]
    assert take_due(What.AIDS) == []  # put off, as somebody is at it
    assert make_aids(scan=scan)
    assert not Preparation.objects.filter(what=What.AIDS).exists()
    assert take_due(What.PICTURES) == [scan.pk]
    tasks.make_pictures(scan.pk)
    assert not Preparation.objects.exists()


def test_the_tasks_hand_on_to_each_other(net, sent):
    scan = scanning.scan(net)
    tasks.finish_scan(scan.pk)  # again, as after a worker's death
    assert sent == [("prepare_desk", scan.pk)]
    tasks.prepare_desk(scan.pk)
    assert sent[1:] == [("make_pictures", scan.pk)]
    tasks.make_pictures(scan.pk)
    assert all(all(pictured(row)) for row in Exemplar.objects.all())
    assert not Preparation.objects.exists()


def test_pictures_are_made_where_the_images_can_be_read():
    queues = {
        name: app.amqp.router.route({}, f"reviewapp.tasks.{name}")["queue"].name
        for name in ("make_pictures", "prepare_desk", "fit_ranker")
    }
    assert queues == {
        "make_pictures": "scan",
        "prepare_desk": "default",
        "fit_ranker": "default",
    }


def test_the_sweep_sends_what_got_lost(scan, sent):
    make_aids(scan=scan)
    Preparation.objects.create(
        scan=scan, what=What.AIDS, due_at=timezone.now() - timedelta(seconds=1)
    )
    tasks.recover_lost_work()
    assert sent == [("prepare_desk", scan.pk), ("make_pictures", scan.pk)]


def test_what_failed_for_a_day_is_left_to_the_next_scan(scan):
    ended = timezone.now() - timedelta(days=1, seconds=1)
    Scan.objects.filter(pk=scan.pk).update(finished_at=ended)
    assert take_due(What.AIDS) == []


def test_the_sweep_sends_models_whose_order_is_to_be_learned(scan, sent):
    make_aids(scan=scan)
    Preparation.objects.all().delete()
    model = scan.model_version.registered_model
    Standing.objects.filter(registered_model=model).update(reviewed=60)
    tasks.recover_lost_work()
    assert sent == [("fit_ranker", model.pk)]
    tasks.fit_ranker(model.pk)
    assert model.ranker.weights["reviewed"] == 120


def test_twice_makes_the_same_once(scan):
    assert make_aids(scan=scan)
    before = list(Exemplar.objects.order_by("pk").values())
    assert make_aids(scan=scan)
    assert list(Exemplar.objects.order_by("pk").values()) == before
    assert len(before) == 12


def test_an_artefact_that_is_gone_is_tried_again(scan, caplog):
    default_storage.delete(scan.artefact)
    take_due(What.AIDS)
    assert not make_aids(scan=scan)
    assert "no help for its findings yet" in caplog.text
    later = timezone.now() + timedelta(minutes=14)
    assert scan.preparations.get(what=What.AIDS).due_at > later


def test_an_older_scan_says_nothing_after_a_newer_one(net, scan):
    newer = scanning.scan(net)
    assert make_aids(scan=newer)
    assert not make_aids(scan=scan)
    assert not scan.preparations.exists()
    assert {row.scan_id for row in Exemplar.objects.all()} == {newer.pk}


def test_a_newer_scan_of_another_split_does_not_replace_it(net, scan):
    factories.ScanFactory(model_version=net, split="train")
    assert make_aids(scan=scan)


def test_a_scan_for_the_record_prepares_nothing(net, scan):
    scan.for_record = True
    assert not make_aids(scan=scan)
    assert not Exemplar.objects.exists()


def test_imported_predictions_prepare_what_they_can(net, sent, data_root):
    dataset = net.registered_model.dataset
    keys = Sample.objects.order_by("key").values_list("key", "label__name")
    rows = [
        f"{key},{','.join('0.8' if c == name else '0.1' for c in LEVELS)}"
        for key, name in keys
    ]
    folder = data_root / "animals/test/cat"
    shutil.copy(folder / "000.png", folder / "001.png")
    scanning.register_again(dataset, factories.UserFactory())
    file = ContentFile("\n".join(["key,cat,dog,fox", *rows]).encode(), name="p.csv")
    job = request_import(dataset=dataset, file=file, model="remote", by=None)
    tasks.run_import(job.pk)
    scan = Scan.objects.get()
    assert sent == [("prepare_desk", scan.pk)]
    tasks.prepare_desk(scan.pk)
    tasks.make_pictures(scan.pk)
    cats = Exemplar.objects.filter(label__name="cat")
    # Seven are right and equally sure. Two are copies, and there are six places.
    assert [Path(row.sample.key).stem for row in cats.order_by("place")] == [
        "000", "002", "003", "012", "013", "014",
    ]  # fmt: skip
    assert all(all(pictured(row)) for row in cats)


def test_lanes_begin_at_the_class_mean(scan, tmp_path):
    path = tmp_path / "outcomes.parquet"
    fetch_file(scan.artefact, path)
    rows = list(iter_outcomes(path))
    make_aids(scan=scan)
    for (true, predicted), count in WRONG.items():
        standing = Standing.objects.get(
            true_label__name=true, predicted_label__name=predicted
        )
        index = list(LEVELS).index(predicted)
        of_class = [row.p_true for row in rows if row.true == index]
        assert standing.present == count
        assert standing.label_from == pytest.approx(sum(of_class) / len(of_class))


def test_a_scan_says_in_which_order_wrong_labels_come_first(scan, monkeypatch):
    model = scan.model_version.registered_model
    make_aids(scan=scan)
    model.refresh_from_db()
    assert model.doubt_order == ""  # too few errors to tell
    monkeypatch.setattr("reviewapp.actions.aids.read_doubt_order", lambda *_: "hardest")
    make_aids(scan=scan)
    model.refresh_from_db()
    assert model.doubt_order == "hardest"
    monkeypatch.undo()
    make_aids(scan=scan)
    model.refresh_from_db()
    assert model.doubt_order == "hardest"  # as an earlier scan said


def test_a_class_that_a_scan_does_not_cover_keeps_its_lane(net, scan):
    make_aids(scan=scan)
    Standing.objects.update(label_from=0.875)
    Sample.objects.filter(label__name="dog").update(split="train")
    later = scanning.scan(net, split="test")
    make_aids(scan=later)
    kept = Standing.objects.get(predicted_label__name="dog")
    moved = Standing.objects.get(predicted_label__name="cat")
    assert (kept.label_from, moved.label_from != 0.875) == (0.875, True)


def test_near_misses_have_no_lane_of_labels(scan):
    dog = Label.objects.get(name="dog")
    sample = Sample.objects.filter(label=dog).first()
    factories.FindingFactory(
        sample=sample,
        predicted_label=dog,
        registered_model=scan.model_version.registered_model,
    )
    make_aids(scan=scan)
    assert Standing.objects.get(kind="near_miss").label_from == 1.0


def alike() -> list[tuple[str, str, int]]:
    rows = Lookalike.objects.order_by("sample__key", "other__key")
    names = rows.values_list("sample__key", "other__key", "distance")
    return [(Path(a).stem, Path(b).stem, distance) for a, b, distance in names]


def test_findings_that_look_alike_are_stored_both_ways(scan, tmp_path):
    # 12 to 14 are the wrong cats, 15 and 16 the wrong foxes.
    looks(scan, tmp_path, n000=7, n012=7, n013=6, n014=None, n016=FAR)
    make_aids(scan=scan)
    assert alike() == [("012", "013", 1), ("013", "012", 1)]


def test_a_later_scan_forgets_what_is_true_no_more(net, scan, tmp_path):
    looks(scan, tmp_path, n012=7, n013=6, n014=3)
    make_aids(scan=scan)
    kept = list(Lookalike.objects.order_by("pk"))
    assert len(kept) == 6
    later = scanning.scan(net)
    looks(later, tmp_path, n012=7, n013=6, n014=FAR)
    make_aids(scan=later)
    assert alike() == [("012", "013", 1), ("013", "012", 1)]
    assert set(Lookalike.objects.all()) < set(kept)  # the rows are the same


def test_a_scan_that_saw_no_image_forgets_nothing(net, scan, tmp_path, monkeypatch):
    looks(scan, tmp_path, n012=7, n013=6)
    make_aids(scan=scan)
    later = scanning.scan(net)
    path = tmp_path / "outcomes.parquet"
    fetch_file(later.artefact, path)
    rows = [
        type(row)(**{n: getattr(row, n) for n in row.__slots__} | {"look": None})
        for row in iter_outcomes(path)
    ]
    write_outcomes(path, rows, classes=net.classes)
    store_file(later.artefact, path)
    make_aids(scan=later)
    assert len(alike()) == 2


def test_copies_are_at_no_distance(net, data_root):
    folder = data_root / "animals/test/cat"
    shutil.copy(folder / "012.png", folder / "099.png")
    scanning.register_again(net.registered_model.dataset, factories.UserFactory())
    make_aids(scan=scanning.scan(net))
    assert ("012", "099", 0) in alike()


def test_a_scan_without_errors_prepares_exemplars_only(data_root, model_root, db):
    write_animals(data_root / "right")
    staff = factories.UserFactory(username="staff", is_staff=True)
    dataset = scanning.register(data_root / "right", staff, name="Right")
    checkpoint = write_brightness_model(model_root / "right.onnx")
    scan = scanning.scan(scanning.add_version(dataset, checkpoint))
    assert make_aids(scan=scan)
    assert (Exemplar.objects.count(), Lookalike.objects.count()) == (12, 0)
