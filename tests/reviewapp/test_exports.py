"""Exports: the same set is the same bytes, whole or not at all."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import zipfile
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from reviewapp.actions.exports import (
    request_export,
    requeue_silent_exports,
    run_export,
)
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.makings import Hold
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Confusion,
    Dataset,
    Export,
    Finding,
    FixSet,
    Recipe,
    Verdict,
)
from reviewapp.models.fixsets import ItemQuerySet
from tests.images import write_image
from tests.reviewing import decide


def export(fix_set, kind, by) -> tuple[Export, bytes]:
    made = run_export(export=request_export(fix_set=fix_set, format=kind, by=by))
    assert made.state == Export.State.DONE, made.message
    with default_storage.open(made.file) as file:
        content = file.read()
    assert hashlib.sha256(content).hexdigest() == made.sha256
    assert len(content) == made.size
    return made, content


@pytest.fixture
def labelled(fix_set, data_root) -> FixSet:
    """The fix set, of a data set with a manifest, with a recipe."""
    dataset = fix_set.dataset
    dataset.manifest = "labels.csv"
    dataset.save()
    keys = dataset.samples.order_by("key").values_list("key", flat=True)
    lines = ["path,label", *(f"{key},cat" for key in keys)]
    (data_root / "labels.csv").write_text("\n".join(lines))
    Recipe.objects.create(
        fix_set=fix_set, settings={}, state="done", digest="0" * 64, content='{"é":1}'
    )
    return fix_set


@pytest.mark.parametrize("kind", Export.Format.values)
def test_the_same_set_always_exports_the_same_bytes(labelled, fix_set, alice, kind):
    assert export(fix_set, kind, alice)[1] == export(fix_set, kind, alice)[1]


def test_csv_and_json_lines_say_the_same(fix_set, alice):
    rows = list(csv.DictReader(io.StringIO(export(fix_set, "csv", alice)[1].decode())))
    objects = [
        json.loads(line) for line in export(fix_set, "jsonl", alice)[1].splitlines()
    ]
    assert [r["sample_key"] for r in rows] == [o["sample_key"] for o in objects]
    assert [r["label"] for r in rows] == [o["label"] for o in objects] == ["cat", "fox"]
    assert [float(r["p_true"]) for r in rows] == pytest.approx(
        [o["p_true"] for o in objects]
    )


def test_the_zip_holds_each_image_in_its_class_folder(
    fix_set, reviewed, alice, data_root
):
    archive = zipfile.ZipFile(io.BytesIO(export(fix_set, "zip", alice)[1]))
    images = {n: archive.read(n) for n in archive.namelist() if n.endswith(".png")}
    assert sorted(n.split("/")[0] for n in images) == ["cat", "fox"]
    originals = [(data_root / f.sample.key).read_bytes() for f in reviewed.findings[:2]]
    assert sorted(images.values()) == sorted(originals)


def test_a_missing_image_fails_the_export_and_keeps_the_set(
    fix_set, reviewed, alice, data_root
):
    (data_root / reviewed.findings[0].sample.key).unlink()
    made = run_export(export=request_export(fix_set=fix_set, format="zip", by=alice))
    assert made.state == Export.State.FAILED
    assert reviewed.findings[0].sample.key in made.message
    assert not default_storage.exists(f"exports/{fix_set.pk}/{made.pk}.zip")


def test_a_changed_image_fails_the_export(fix_set, reviewed, alice, data_root):
    write_image(data_root / reviewed.findings[0].sample.key, 99)
    made = run_export(export=request_export(fix_set=fix_set, format="zip", by=alice))
    assert made.state == Export.State.FAILED
    assert reviewed.findings[0].sample.key in made.message


def test_a_full_disk_leaves_nothing_half_written(fix_set, alice, monkeypatch):
    def full(name, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("reviewapp.storage._replace_on_disk", full)
    made = run_export(export=request_export(fix_set=fix_set, format="csv", by=alice))
    assert made.state == Export.State.FAILED
    assert "disk is full" in made.message
    assert made.file == ""


def test_running_an_export_twice_writes_it_once(fix_set, alice):
    made, _ = export(fix_set, "csv", alice)
    finished = made.finished_at
    assert run_export(export=made).finished_at == finished


def test_a_worker_that_was_given_up_writes_nothing_over_its_successor(
    fix_set, alice, monkeypatch
):
    made = request_export(fix_set=fix_set, format="csv", by=alice)

    def slow(*_):
        monkeypatch.undo()
        Export.objects.update(heartbeat_at=timezone.now() - timedelta(days=1))
        requeue_silent_exports()
        assert run_export(export=Export.objects.get()).state == Export.State.DONE
        raise OSError("the folder is gone")

    monkeypatch.setattr("reviewapp.actions.exports.write_export", slow)
    made = run_export(export=made)
    assert (made.state, made.message) == (Export.State.DONE, "")
    assert default_storage.exists(made.file)


def test_it_refuses_an_unknown_format(fix_set, alice):
    with pytest.raises(Refused, match="csv, jsonl, parquet, zip"):
        request_export(fix_set=fix_set, format="exe", by=alice)


def test_exporting_a_whole_confusion_tells_the_ledger(fix_set, reviewed, alice):
    export(fix_set, "csv", alice)
    assert Confusion.objects.get().state == "fix_exported"


@pytest.mark.parametrize("kind", Export.Format.values)
def test_every_format_tells_its_progress(labelled, alice, kind, monkeypatch):
    told = []
    monkeypatch.setattr(Hold, "tell", lambda hold, done: told.append(done))
    export(labelled, kind, alice)
    assert told == sorted(told)
    assert told[-1] == {"recipe": 0, "patch": 1, "manifest": 1}.get(kind, 2)


def test_names_come_in_the_order_of_the_digest(world, rita, alice):
    for finding, key in zip(world.findings, ["é.png", "Z.png", "a.png"], strict=True):
        finding.sample.key = key
        finding.sample.save()
        decide(finding=finding, by=rita, verdict=Verdict.CONFIRM, version=0)
    fix_set = freeze_fix_set(
        dataset=world.dataset, name="x", findings=Finding.objects.all(), by=alice
    )
    made, content = export(fix_set, "jsonl", alice)
    keys = [json.loads(line)["sample_key"] for line in content.splitlines()]
    assert keys == ["Z.png", "a.png", "é.png"]
    assert made.sha256 == fix_set.digest


def test_the_patch_and_the_manifest_say_what_was_relabelled(
    labelled, reviewed, alice, data_root
):
    key = reviewed.findings[1].sample.key
    before = (data_root / "labels.csv").read_text()
    after = export(labelled, "manifest", alice)[1].decode()
    assert after == before.replace(f"{key},cat", f"{key},fox")
    lines = export(labelled, "patch", alice)[1].decode().splitlines()
    assert lines[:2] == ["--- a/labels.csv", "+++ b/labels.csv"]
    assert [line for line in lines[2:] if line[0] in "-+"] == [
        f"-{key},cat",
        f"+{key},fox",
    ]


def test_of_folders_the_moves_are_listed(fix_set, reviewed, alice):
    rows = export(fix_set, "manifest", alice)[1].decode().splitlines()
    key = reviewed.findings[1].sample.key
    assert rows == ["path,old_label,new_label", f"{key},cat,fox"]


@pytest.mark.parametrize(
    ("kind", "manifest", "said"),
    [
        ("recipe", "", "no finished recipe"),
        ("patch", "", "no manifest"),
        ("patch", "labels.parquet", "a Parquet file"),
    ],
)
def test_it_refuses_a_format_that_has_nothing_to_say(
    fix_set, alice, kind, manifest, said
):
    fix_set.dataset.manifest = manifest
    with pytest.raises(Refused, match=said):
        request_export(fix_set=fix_set, format=kind, by=alice)
    assert not Export.objects.exists()


def test_it_refuses_to_correct_a_manifest_that_is_right(world, rita, alice):
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM, version=0)
    fix_set = freeze_fix_set(
        dataset=world.dataset, name="x", findings=Finding.objects.all(), by=alice
    )
    with pytest.raises(Refused, match="No label"):
        request_export(fix_set=fix_set, format="manifest", by=alice)


def test_a_manifest_that_changed_fails_the_export(labelled, alice, data_root):
    (data_root / "labels.csv").write_text("path,label\na.png,cat\n")
    made = run_export(export=request_export(fix_set=labelled, format="patch", by=alice))
    assert made.state == Export.State.FAILED
    assert "lists 0 of the 1 images" in made.message


def test_label_studio_opens_local_files_and_buckets(fix_set, alice):
    def urls() -> list[str]:
        data = export(fix_set, "labelstudio", alice)[1]
        tasks = zipfile.ZipFile(io.BytesIO(data)).read("tasks.json")
        return [task["data"]["image"] for task in json.loads(tasks)]

    item = fix_set.items.first()
    assert urls()[0] == f"/data/local-files/?d={item.sample_key}"
    Dataset.objects.update(root="s3://pictures/zoo")
    assert urls()[0] == f"s3://pictures/zoo/{item.sample_key}"


def test_a_set_that_lost_rows_is_not_exported(fix_set, alice, monkeypatch):
    monkeypatch.setattr(ItemQuerySet, "in_export_order", lambda items: items.all()[:1])
    made = run_export(export=request_export(fix_set=fix_set, format="csv", by=alice))
    assert made.state == Export.State.FAILED
    assert "1 of 2 items" in made.message
