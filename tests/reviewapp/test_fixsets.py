"""Fix sets: frozen means frozen, and the same set is the same bytes."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import zipfile

import pytest
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction

from reviewapp.actions.fixsets import (
    freeze_fix_set,
    preview_fix_set,
    request_export,
    run_export,
)
from reviewapp.actions.reviews import undo
from reviewapp.exceptions import Refused
from reviewapp.models import Confusion, Export, Finding, FixItem, FixSet, Verdict
from tests import factories
from tests.images import write_image
from tests.reviewing import decide


@pytest.fixture
def reviewed(world, rita, data_root):
    """One confirmed, one relabelled to fox, one dismissed, each with its image."""
    world.dataset.root = str(data_root)
    world.dataset.save()
    for i, finding in enumerate(world.findings):
        path = write_image(data_root / finding.sample.key, 60, seed=i)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        finding.digest = finding.sample.digest = digest
        finding.save()
        finding.sample.save()
    a, b, c = world.findings
    decide(finding=a, by=rita, verdict=Verdict.CONFIRM, version=0, causes=["pose"])
    decide(
        finding=b,
        by=rita,
        verdict=Verdict.RELABEL,
        new_label=world.labels[2],
        version=0,
    )
    decide(finding=c, by=rita, verdict=Verdict.DISMISS, version=0)
    return world


@pytest.fixture
def fix_set(reviewed, alice):
    return freeze_fix_set(
        dataset=reviewed.dataset, name="first", findings=Finding.objects.all(), by=alice
    )


def export(fix_set, kind, by) -> tuple[Export, bytes]:
    made = run_export(export=request_export(fix_set=fix_set, format=kind, by=by))
    assert made.state == Export.State.DONE, made.message
    with default_storage.open(made.file) as file:
        content = file.read()
    assert hashlib.sha256(content).hexdigest() == made.sha256
    assert len(content) == made.size
    return made, content


def test_the_preview_counts_what_freezing_holds(reviewed):
    preview = preview_fix_set(findings=Finding.objects.all())
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
    assert preview_fix_set(findings=Finding.objects.all()).lost == 1


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


@pytest.mark.parametrize("kind", ["csv", "jsonl", "zip"])
def test_the_same_set_always_exports_the_same_bytes(fix_set, alice, kind):
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


def test_it_refuses_an_unknown_format(fix_set, alice):
    with pytest.raises(Refused, match="csv, jsonl, zip"):
        request_export(fix_set=fix_set, format="exe", by=alice)


def test_exporting_a_whole_confusion_tells_the_ledger(fix_set, reviewed, alice):
    export(fix_set, "csv", alice)
    assert Confusion.objects.get().state == "fix_exported"


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
    preview = preview_fix_set(findings=Finding.objects.all())
    assert (preview.by_label, preview.lost) == ({"dog": 1, "fox": 1}, 1)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "zip"])
def test_every_format_tells_its_progress(fix_set, alice, kind, monkeypatch):
    told = []
    monkeypatch.setattr(
        "reviewapp.actions.fixsets._progress",
        lambda export: lambda done, total: told.append((done, total)),
    )
    export(fix_set, kind, alice)
    assert told == [(1, 2), (2, 2)]
