"""Registering a data set, and registering it again."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.exceptions import OutsideRoot
from reviewapp.actions.datasets import (
    natural_order,
    register_again,
    register_dataset,
    run_registration,
)
from reviewapp.exceptions import AlreadyRunning, Refused
from reviewapp.models import (
    Dataset,
    Finding,
    Membership,
    Registration,
    Sample,
    Scan,
    User,
    Verdict,
)
from tests import factories, scanning
from tests.images import LEVELS, write_animals, write_image
from tests.reviewing import decide


@pytest.fixture
def staff(db: None) -> User:
    return factories.UserFactory(username="staff", is_staff=True)


def failed(root: Path, by: User, manifest: str = "") -> Registration:
    registration = register_dataset(
        name="Broken", root=str(root), manifest=manifest, by=by
    )
    run_registration(registration=registration)
    assert registration.state == Registration.State.FAILED
    assert not Sample.objects.exists()
    return registration


def rows() -> dict[str, tuple[str, str]]:
    return {
        s.key: (s.label.name, s.split)
        for s in Sample.objects.present().select_related("label")
    }


def test_it_registers_a_folder_per_class_below_splits(data_root, staff):
    write_animals(data_root / "a", right=1)
    write_image(data_root / "a/train/cat/x.png", 60)
    dataset = scanning.register(data_root / "a", staff)
    assert rows() == {
        "test/cat/000.png": ("cat", "test"),
        "test/dog/001.png": ("dog", "test"),
        "test/fox/002.png": ("fox", "test"),
        "train/cat/x.png": ("cat", "train"),
    }
    assert dataset.class_names() == ["cat", "dog", "fox"]
    assert Membership.objects.get(dataset=dataset).role == "admin"


def test_it_registers_a_folder_per_class_without_splits(data_root, staff):
    write_image(data_root / "a/cat/1.png", 60)
    scanning.register(data_root / "a", staff)
    assert rows() == {"cat/1.png": ("cat", "")}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_it_registers_a_manifest(data_root, staff, kind):
    write_image(data_root / "a/images/1.png", 60)
    write_image(data_root / "a/images/2.png", 130)
    records = [
        {"path": "images/1.png", "label": "cat", "split": "train", "site": "north"},
        {"path": "images/2.png", "label": "dog", "split": "test", "site": "south"},
    ]
    path = data_root / f"a/m.{kind}"
    if kind == "csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, records[0])
            writer.writeheader()
            writer.writerows(records)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(r) for r in records))
    else:
        pq.write_table(pa.Table.from_pylist(records), path)
    scanning.register(data_root / "a", staff, manifest=f"m.{kind}")
    assert rows() == {
        "images/1.png": ("cat", "train"),
        "images/2.png": ("dog", "test"),
    }
    assert Sample.objects.get(key="images/1.png").attributes == {"site": "north"}


def test_registering_again_changes_nothing(data_root, staff):
    write_animals(data_root / "a")
    dataset = scanning.register(data_root / "a", staff)
    before = list(Sample.objects.order_by("pk").values())
    again = scanning.register_again(dataset, staff)
    assert list(Sample.objects.order_by("pk").values()) == before
    assert (again.total, again.added, again.changed, again.removed, again.relabelled) == (
        12, 0, 0, 0, 0,
    )  # fmt: skip


def test_registering_again_reports_what_changed(data_root, staff):
    write_animals(data_root / "a")
    dataset = scanning.register(data_root / "a", staff)
    test = data_root / "a/test"
    write_image(test / "cat/new.png", 60)
    write_image(test / "cat/000.png", 61, seed=5)
    (test / "dog/004.png").unlink()
    registration = scanning.register_again(dataset, staff)
    assert (registration.added, registration.changed, registration.removed) == (1, 1, 1)
    (test / "dog/004.png").write_bytes((test / "dog/005.png").read_bytes())
    assert scanning.register_again(dataset, staff).added == 1


def test_a_new_label_in_the_source_is_reported_and_taken(data_root, staff):
    manifest = data_root / "a/m.csv"
    write_image(data_root / "a/1.png", 60)
    write_image(data_root / "a/2.png", 60)
    manifest.write_text("path,label\n1.png,cat\n2.png,dog\n")
    dataset = scanning.register(data_root / "a", staff, manifest="m.csv")
    manifest.write_text("path,label\n1.png,dog\n2.png,dog\n")
    assert scanning.register_again(dataset, staff).relabelled == 1
    assert rows()["1.png"] == ("dog", "")
    assert dataset.class_names() == ["dog"]


def test_a_reviewers_correction_survives_registering_again(world, alice, data_root):
    finding = world.findings[0]
    fox = world.labels[2]
    decide(finding=finding, by=alice, verdict=Verdict.RELABEL, new_label=fox, version=0)
    manifest = data_root / "m.csv"
    lines = [f"{f.sample.key},cat,test" for f in world.findings]
    manifest.write_text(
        "path,label,split\n" + "\n".join([*lines, "d.png,dog,test", "f.png,fox,test"])
    )
    world.dataset.root, world.dataset.manifest = str(data_root), "m.csv"
    world.dataset.save()
    scanning.register_again(world.dataset, alice)
    finding.sample.refresh_from_db()
    assert (finding.sample.label, finding.sample.original_label.name) == (fox, "cat")


@pytest.mark.parametrize("fault", [ConnectionError, TimeoutError])
def test_a_storage_that_goes_away_makes_no_sample_unreadable(
    data_root, staff, monkeypatch, fault
):
    write_animals(data_root / "animals")
    dataset = scanning.register(data_root / "animals", staff)
    before = list(dataset.samples.order_by("id").values_list("key", "digest"))

    def away(url: str) -> tuple[str, int]:
        raise fault(f"{url} cannot be reached")

    monkeypatch.setattr("reviewapp.actions.datasets.sha256", away)
    again = register_again(dataset=dataset, by=staff)
    run_registration(registration=again)
    assert again.state == Registration.State.FAILED
    assert "cannot be reached" in again.message
    assert "was left as it was" in again.message
    assert list(dataset.samples.order_by("id").values_list("key", "digest")) == before


def test_a_file_that_cannot_be_read_is_registered_as_unreadable(data_root, staff):
    (data_root / "a").mkdir()
    (data_root / "a/m.csv").write_text("path,label\ngone.png,cat\n")
    dataset = scanning.register(data_root / "a", staff, manifest="m.csv")
    assert Sample.objects.get().digest == ""
    assert dataset.registrations.get().unreadable == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("file,label\n1.png,cat\n", "path"),
        ("path,label\n1.png,cat\n1.png,dog\n", "1.png"),
        ("path,label\n../1.png,cat\n", "../1.png"),
        ("path,label,split\n1.png,cat,holdout\n", "holdout"),
        ("path,label\n1.png,\n", "line 2"),
        ("path,label\n", "m.csv"),
    ],
    ids=["column", "duplicate", "escape", "split", "label", "empty"],
)
def test_a_bad_manifest_is_refused_whole(data_root, staff, content, expected):
    (data_root / "a").mkdir()
    (data_root / "a/m.csv").write_text(content)
    message = failed(data_root / "a", staff, "m.csv").message
    assert expected in message
    assert "was left as it was" in message


def test_an_empty_folder_is_refused(data_root, staff):
    (data_root / "a").mkdir()
    assert "a" in failed(data_root / "a", staff).message


def test_a_missing_folder_is_refused(data_root, staff):
    assert "missing" in failed(data_root / "missing", staff).message


def test_a_failed_registration_leaves_the_data_set_as_it_was(data_root, staff):
    write_animals(data_root / "a")
    dataset = scanning.register(data_root / "a", staff)
    (data_root / "a").rename(data_root / "b")
    registration = register_again(dataset=dataset, by=staff)
    run_registration(registration=registration)
    assert registration.state == Registration.State.FAILED
    assert Sample.objects.present().count() == 12


def test_hostile_file_names_are_kept_as_text(data_root, staff):
    folder = data_root / "a/cat"
    names = [b"new\nline.png", b"quote'\".png", b"\xff\xfe.png", b"x" * 251 + b".png"]
    source = write_image(folder / "plain.png", 60)
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(
            source.read_bytes()
        )
    scanning.register(data_root / "a", staff)
    samples = Sample.objects.present()
    assert samples.count() == 5
    assert not samples.filter(digest="").exists()
    assert "cat/new\nline.png" in rows()
    assert "cat/\\xff\\xfe.png" in rows()


def test_a_root_outside_the_configured_ones_is_refused(staff, tmp_path):
    with pytest.raises(OutsideRoot, match="HARDMINE_DATA_ROOTS"):
        register_dataset(name="x", root=str(tmp_path), by=staff)
    with pytest.raises(OutsideRoot):
        register_dataset(name="x", root="/etc", by=staff)
    assert not Dataset.objects.exists()


def test_a_root_that_climbs_out_is_refused(staff, data_root):
    with pytest.raises(OutsideRoot):
        register_dataset(name="x", root=f"{data_root}/../../../etc", by=staff)


@pytest.mark.parametrize("name", ["", "  ", "!!!", "New", "x" * 101])
def test_it_refuses_a_name_without_an_address(staff, data_root, name):
    with pytest.raises(Refused, match="name"):
        register_dataset(name=name, root=str(data_root), by=staff)


def test_it_refuses_a_taken_name(staff, data_root):
    register_dataset(name="Cells", root=str(data_root), by=staff)
    with pytest.raises(Refused, match="already"):
        register_dataset(name="cells", root=str(data_root), by=staff)


def test_it_refuses_an_address_that_is_taken(staff, data_root):
    register_dataset(name="My cells", root=str(data_root), by=staff)
    with pytest.raises(Refused, match="same address"):
        register_dataset(name="my-cells", root=str(data_root), by=staff)


def test_only_staff_may_register(rita, data_root):
    with pytest.raises(Refused, match="staff"):
        register_dataset(name="Cells", root=str(data_root), by=rita)


def test_it_waits_for_a_running_scan(world, alice):
    factories.ScanFactory(
        model_version=world.scan.model_version, state=Scan.State.RUNNING
    )
    with pytest.raises(AlreadyRunning, match="still running"):
        register_again(dataset=world.dataset, by=alice)


def test_it_runs_once_at_a_time(dataset, alice):
    register_again(dataset=dataset, by=alice)
    with pytest.raises(AlreadyRunning, match="already"):
        register_again(dataset=dataset, by=alice)


def test_a_changed_image_takes_its_finding_out_of_the_queue(world, alice, data_root):
    lines = [f"{f.sample.key},cat,test" for f in world.findings]
    extra = ["d.png,dog,test", "f.png,fox,test"]
    (data_root / "m.csv").write_text("\n".join(["path,label,split", *lines, *extra]))
    write_image(data_root / world.findings[0].sample.key, LEVELS["cat"])
    world.dataset.root, world.dataset.manifest = str(data_root), "m.csv"
    world.dataset.save()
    scanning.register_again(world.dataset, alice)
    assert world.findings[0] not in Finding.objects.waiting()


def test_classes_are_in_natural_order():
    names = ["grade 10", "grade 9", "Grade 1", "b", "10", "9"]
    assert sorted(names, key=natural_order) == [
        "9", "10", "b", "Grade 1", "grade 9", "grade 10",
    ]  # fmt: skip


def test_a_slow_source_renews_its_lease_before_a_batch_is_full(
    data_root, staff, monkeypatch
):
    write_animals(data_root / "a")
    monkeypatch.setattr("reviewapp.actions.datasets.BATCH_SECONDS", -1.0)
    registration = register_dataset(name="A", root=str(data_root / "a"), by=staff)
    seen = []
    run_registration(
        registration=registration, on_progress=lambda r: seen.append(r.done)
    )
    assert seen == list(range(1, 13))
    assert (registration.state, registration.added) == (Registration.State.DONE, 12)
