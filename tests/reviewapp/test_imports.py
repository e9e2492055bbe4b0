"""Imports: a file of predictions becomes a scan like any other, or nothing at all."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from mining.artefact import iter_outcomes
from mining.types import Outcome
from reviewapp.actions import imports as actions
from reviewapp.actions.imports import (
    request_import,
)
from reviewapp.importing import run_import
from reviewapp.models import (
    Confusion,
    Dataset,
    Event,
    Finding,
    Import,
    Label,
    ModelVersion,
    Sample,
    Scan,
    Sighting,
    UnreadableSample,
    User,
)
from tests import factories

Rows = Mapping[str, Sequence[float]]


# Of two cats, two dogs and two foxes: one cat is taken for a dog, one fox is a near miss.
PREDICTIONS: Rows = {
    "cat-0.png": (0.9, 0.06, 0.04),
    "cat-1.png": (0.25, 0.5, 0.25),
    "dog-0.png": (0.0, 1.0, 0.0),
    "dog-1.png": (0.125, 0.75, 0.125),
    "fox-0.png": (0.25, 0.25, 0.5),
    "fox-1.png": (0.1, 0.1, 0.8),
}


@pytest.fixture
def samples(labels: list[Label]) -> list[Sample]:
    """Two samples of each class, in the split test."""
    return [
        factories.SampleFactory(label=label, key=f"{label.name}-{n}.png")
        for label in labels
        for n in range(2)
    ]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "SHARD_SIZE", 2)


def as_csv(rows: Iterable[tuple[str, Sequence[float]]]) -> bytes:
    lines = [f"{key},{','.join(map(str, probs))}" for key, probs in rows]
    return "\n".join(["key,cat,dog,fox", *lines, ""]).encode()


def ask(
    dataset: Dataset,
    rows: Rows | Iterable[tuple[str, Sequence[float]]] | bytes = PREDICTIONS,
    *,
    name: str = "p.csv",
    model: str = "remote",
    **options: object,
) -> Import:
    if not isinstance(rows, bytes):
        pairs = rows.items() if isinstance(rows, Mapping) else rows
        rows = as_csv(pairs)
    file = ContentFile(rows, name=name)
    return request_import(
        dataset=dataset, file=file, model=model, by=options.pop("by", None), **options
    )


def run(job: Import) -> Import:
    ended = run_import(import_id=job.pk)
    assert ended is not None
    return ended


def import_rows(dataset: Dataset, *args: object, **options: object) -> Scan:
    ended = run(ask(dataset, *args, **options))
    assert ended.state == Import.State.DONE, ended.message
    assert ended.scan is not None
    return ended.scan


def outcomes_of(scan: Scan) -> list[Outcome]:
    with default_storage.open(scan.artefact) as file:
        return list(iter_outcomes(io.BytesIO(file.read())))


def artefact_of(scan: Scan) -> bytes:
    with default_storage.open(scan.artefact) as file:
        return file.read()


def test_a_file_becomes_a_scan_like_any_other(
    dataset: Dataset, samples: list[Sample], lena: User
) -> None:
    scan = import_rows(dataset, by=lena, split="test")

    assert (scan.state, scan.trigger, scan.requested_by) == ("done", "import", lena)
    assert (scan.samples, scan.correct, scan.errors) == (6, 5, 1)
    assert (scan.near_misses, scan.unreadable, scan.message) == (1, 0, "")
    assert scan.settings["near_miss_below"] == 0.6
    assert scan.settings["p_true"] == "exact"
    assert scan.shards.count() == 3
    version = scan.model_version
    assert (str(version), version.format) == ("remote v1", "predictions")
    assert not version.has_checkpoint
    assert version.classes == ["cat", "dog", "fox"]

    error, near = Finding.objects.order_by("-priority")
    assert (error.sample, error.kind) == (samples[1], "misclassified")
    assert str(error.predicted_label) == "dog"
    assert (error.priority, error.confidence, error.presence) == (0.75, 0.5, "seen")
    assert (near.sample, near.kind, near.priority) == (samples[4], "near_miss", 0.5)
    sighting = Sighting.objects.get(finding=error)
    assert sighting.margin == 0.25
    assert sighting.loss == pytest.approx(np.log(4), abs=1e-6)
    assert sighting.top_probs == [0.5, 0.25, 0.25]
    assert sighting.top_labels == [scan.classes[1], scan.classes[0], scan.classes[2]]

    counts = {
        (str(row.true_label), str(row.predicted_label)): row.count
        for row in scan.confusion_counts.all()
    }
    assert counts == {
        ("cat", "cat"): 1,
        ("cat", "dog"): 1,
        ("dog", "dog"): 2,
        ("fox", "fox"): 2,
    }
    assert Confusion.objects.get().present == 1
    outcomes = outcomes_of(scan)
    assert [o.key for o in outcomes] == list(PREDICTIONS)
    assert [o.id for o in outcomes] == [sample.pk for sample in samples]
    assert [o.digest for o in outcomes] == [sample.digest for sample in samples]
    assert [o.predicted for o in outcomes] == [0, 1, 1, 1, 2, 2]
    assert outcomes[2].top_classes == (1, 0, 2)


def test_every_format_gives_the_same_artefact(
    dataset: Dataset, samples: list[Sample], tmp_path: Path
) -> None:
    keys, probs = list(PREDICTIONS), list(PREDICTIONS.values())
    backwards = dict(reversed(PREDICTIONS.items()))
    parquet, npz = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"key": keys, "pred_probs": probs}), parquet)
    np.savez(npz, keys=np.array(keys), pred_probs=np.array(probs))
    jsonl = "".join(
        json.dumps({"key": key, "pred_probs": row}) + "\n"
        for key, row in PREDICTIONS.items()
    )
    files = {
        "p.csv": as_csv(PREDICTIONS.items()),
        "backwards.csv": as_csv(backwards.items()),
        "p.parquet": parquet.getvalue(),
        "p.npz": npz.getvalue(),
        "p.jsonl": jsonl.encode(),
    }
    artefacts = {
        name: artefact_of(import_rows(dataset, data, name=name, model=name))
        for name, data in files.items()
    }
    assert len(set(artefacts.values())) == 1


def test_a_file_without_names_says_whose_order_counted(
    dataset: Dataset, samples: list[Sample]
) -> None:
    rows = [{"key": k, "pred_probs": list(p)[::-1]} for k, p in PREDICTIONS.items()]
    data = "\n".join(map(json.dumps, rows)).encode()
    scan = import_rows(dataset, data, name="p.jsonl", classes=["fox", "dog", "cat"])
    assert (scan.errors, scan.message) == (1, "")
    scan = import_rows(dataset, data, name="p.jsonl", model="wrong order")
    assert scan.errors == 4
    assert scan.message == (
        "p.jsonl names no classes: its probabilities were taken in the order of the data "
        "set's classes."
    )


def test_a_top_k_is_marked_in_the_settings(
    dataset: Dataset, samples: list[Sample]
) -> None:
    lines = [f"{key},dog,0.75" for key in PREDICTIONS]
    data = "\n".join(["key,top1,p1", *lines]).encode()
    scan = import_rows(dataset, data)
    assert scan.settings["p_true"] == "bound"
    assert (scan.correct, scan.errors) == (2, 4)
    assert scan.message.startswith("4 samples have a true label that is not among")
    assert set(Finding.objects.values_list("priority", flat=True)) == {0.75}
    assert outcomes_of(scan)[0].top_classes == (1,)


BAD: list[tuple[str, str, Sequence[float]]] = [
    ("not a number", "cat-0.png", (float("nan"), 0.5, 0.5)),
    ("negative", "cat-0.png", (-0.5, 0.75, 0.75)),
    ("wrong sum", "cat-0.png", (0.5, 0.5, 0.5)),
    ("unknown key", "owl-0.png", (1, 0, 0)),
    ("duplicate key", "cat-1.png", (1, 0, 0)),
]


def test_the_same_file_again_is_the_same_version_and_changes_nothing(
    dataset: Dataset, samples: list[Sample]
) -> None:
    first = import_rows(dataset)
    before = list(Finding.objects.values().order_by("id"))
    again = import_rows(dataset)
    assert again.pk != first.pk
    assert again.model_version == first.model_version
    assert artefact_of(again) == artefact_of(first)
    assert list(Finding.objects.values().order_by("id")) == before
    assert ModelVersion.objects.count() == 1


def test_the_next_file_is_the_next_version_and_settles_presence(
    dataset: Dataset, samples: list[Sample]
) -> None:
    import_rows(dataset)
    better = import_rows(dataset, {**PREDICTIONS, "cat-1.png": (0.9, 0.1, 0)})
    assert str(better.model_version) == "remote v2"
    error = Finding.objects.get(kind="misclassified")
    assert error.presence == "fixed"
    old = import_rows(dataset)
    assert old.for_record
    worse = import_rows(dataset, {**PREDICTIONS, "cat-0.png": (0.9, 0.1, 0)})
    assert str(worse.model_version) == "remote v3"
    error.refresh_from_db()
    assert error.presence == "regressed"


def test_a_label_that_is_gone_is_told_and_not_counted(
    dataset: Dataset, samples: list[Sample]
) -> None:
    owl = factories.LabelFactory(dataset=dataset, index=None, name="owl")
    Sample.objects.filter(key="cat-0.png").update(label=owl)
    scan = import_rows(dataset)
    assert scan.unreadable == 1
    assert UnreadableSample.objects.get().reason == (
        "its label is no class of the data set any more"
    )


def test_only_a_queued_import_runs(dataset: Dataset, samples: list[Sample]) -> None:
    job = run(ask(dataset))
    assert run_import(import_id=job.pk) is None
    assert run_import(import_id=0) is None
    assert Scan.objects.count() == 1


def test_what_happened_is_recorded(
    dataset: Dataset, samples: list[Sample], lena: User
) -> None:
    import_rows(dataset, by=lena)
    run(ask(dataset, {"owl": (1, 0, 0)}, by=lena))
    actions_of_lena = Event.objects.filter(actor=lena, object_type="Import")
    assert list(actions_of_lena.order_by("id").values_list("action", flat=True)) == [
        "import queued",
        "import done",
        "import queued",
        "import refused",
    ]


def test_a_file_in_a_bucket_is_fetched(
    dataset: Dataset, samples: list[Sample], settings
) -> None:
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = settings.STORAGES | {"default": memory}
    job = ask(dataset)
    assert default_storage.exists(job.file)
    ended = run(job)
    assert ended.state == Import.State.DONE, ended.message
    assert not default_storage.exists(job.file)
