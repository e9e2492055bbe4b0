"""Imports: a file of predictions becomes a scan like any other, or nothing at all."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import OperationalError
from django.utils import timezone

from mining.artefact import iter_outcomes
from mining.exceptions import ArtefactError
from mining.predictions import BadPredictions
from mining.types import Outcome
from reviewapp import checking, importing, tasks
from reviewapp.actions import imports as actions
from reviewapp.actions.imports import (
    abandon_import,
    request_import,
    requeue_silent_imports,
)
from reviewapp.actions.scans import (
    cancel_scan,
    forgotten_shards,
    requeue_silent_shards,
    resume_scan,
    start_scan,
)
from reviewapp.exceptions import AlreadyRunning, Refused
from reviewapp.importing import run_import
from reviewapp.models import (
    Confusion,
    Dataset,
    Event,
    Finding,
    Import,
    Label,
    ModelVersion,
    RegisteredModel,
    Registration,
    Sample,
    Scan,
    Shard,
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


@pytest.mark.parametrize(("kind", "key", "probs"), BAD)
def test_a_bad_row_refuses_the_file(
    dataset: Dataset,
    samples: list[Sample],
    kind: str,
    key: str,
    probs: Sequence[float],
) -> None:
    rows = [(key, probs), *list(PREDICTIONS.items())[1:]]
    job = run(ask(dataset, rows))
    assert job.state == Import.State.REFUSED
    counts = {"no prediction": 1, kind: 2 if kind == "duplicate key" else 1}
    if key == "cat-0.png":
        del counts["no prediction"]
    assert job.report["counts"] == counts
    listed = job.report["listed"][kind][0]
    assert (listed["row"], listed["key"]) == (1, key)
    assert f": {kind}" in job.message
    assert "Nothing was imported." in job.message
    assert job.scan is None
    assert not Scan.objects.exists()
    assert not RegisteredModel.objects.exists()
    assert not Finding.objects.exists()
    assert job.file == ""
    assert not default_storage.exists(f"imports/{job.pk}/predictions.csv")


def test_a_partial_import_leaves_bad_rows_out(
    dataset: Dataset, samples: list[Sample]
) -> None:
    rows = [(key, probs) for _, key, probs in BAD[1:]] + list(PREDICTIONS.items())[1:5]
    job = run(ask(dataset, rows, allow_partial=True))
    assert job.state == Import.State.DONE, job.message
    # cat-0 has two bad rows, cat-1 two good ones that differ, fox-1 none.
    assert job.report["counts"] == {
        "negative": 1,
        "wrong sum": 1,
        "unknown key": 1,
        "duplicate key": 2,
        "no prediction": 1,
    }
    assert job.report["bad_rows"] == 5
    duplicate = job.report["listed"]["duplicate key"]
    assert duplicate == [
        {"row": 4, "key": "cat-1.png", "reason": "row 5 has it too"},
        {"row": 5, "key": "cat-1.png", "reason": "row 4 has it too"},
    ]
    scan = job.scan
    assert scan is not None
    assert (scan.correct, scan.errors, scan.unreadable, scan.samples) == (3, 0, 3, 6)
    assert scan.message == "5 bad rows were left out."
    reasons = UnreadableSample.objects.values_list("sample__key", "reason")
    assert dict(reasons) == dict.fromkeys(
        ("cat-0.png", "cat-1.png", "fox-1.png"), "no prediction in the import"
    )


def test_a_file_without_a_good_row_is_refused_in_any_case(
    dataset: Dataset, samples: list[Sample]
) -> None:
    job = run(ask(dataset, {"owl.png": (1, 0, 0)}, allow_partial=True))
    assert job.state == Import.State.REFUSED
    assert job.message.endswith("Nothing was imported. Mend the file.")
    job = run(ask(dataset, {}, allow_partial=True))
    assert job.state == Import.State.REFUSED
    assert job.report["counts"] == {"no prediction": 6}


def test_only_the_first_hundred_bad_rows_are_listed(
    dataset: Dataset, samples: list[Sample]
) -> None:
    job = run(ask(dataset, [(f"owl-{n}", (1, 0, 0)) for n in range(150)]))
    assert job.report["counts"]["unknown key"] == 150
    assert len(job.report["listed"]["unknown key"]) == 100


def test_a_key_of_another_split_is_unknown(
    dataset: Dataset, samples: list[Sample]
) -> None:
    Sample.objects.filter(key="cat-0.png").update(split="train")
    job = run(ask(dataset, split="test"))
    (listed,) = job.report["listed"]["unknown key"]
    assert listed["reason"] == "no sample of the split test has it"
    Sample.objects.filter(key="cat-0.png").update(removed_at=timezone.now())
    job = run(ask(dataset))
    (listed,) = job.report["listed"]["unknown key"]
    assert listed["reason"] == "no sample of the data set has it"


def test_a_file_that_cannot_be_used_at_all_fails_with_the_reason(
    dataset: Dataset, samples: list[Sample]
) -> None:
    job = run(ask(dataset, b"key,cat,dog\na,1,0\n", name="../../etc/passwd.csv"))
    assert job.state == Import.State.FAILED
    assert job.file_name == "passwd.csv"
    assert job.message.startswith("passwd.csv: its classes are not the data set's")
    assert not Scan.objects.exists()


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


def stop_at(
    monkeypatch: pytest.MonkeyPatch, name: str, call: int, error: BaseException
) -> None:
    """Let one of the steps of an import end with an error at its n-th call, once."""
    step = getattr(importing, name)
    calls = iter(range(1, 1000))

    def stopping(**kwargs: object) -> object:
        if next(calls) == call:
            raise error
        return step(**kwargs)

    monkeypatch.setattr(importing, name, stopping)


class Killed(BaseException):
    """What `kill -9` leaves: nothing is tidied up."""


def lose(job: Import) -> None:
    """Let the lease of a job run out."""
    Import.objects.filter(pk=job.pk).update(
        heartbeat_at=timezone.now() - timedelta(hours=1),
        created_at=timezone.now() - timedelta(hours=2),
    )


STEPS = [
    ("begin_import_scan", 1),
    ("claim_shard", 1),
    ("store_part", 1),
    ("record_shard", 1),
    ("record_shard", 3),
    ("finish_scan", 1),
    ("end_import", 1),
]


@pytest.mark.parametrize(("step", "call"), STEPS)
def test_a_killed_import_goes_on_and_counts_nothing_twice(
    dataset: Dataset,
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    call: int,
) -> None:
    undisturbed = import_rows(dataset, model="undisturbed")
    job = ask(dataset)
    with monkeypatch.context() as patch:
        stop_at(patch, step, call, Killed())
        with pytest.raises(Killed):
            run_import(import_id=job.pk)
    assert requeue_silent_imports() == []  # its lease still runs
    lose(job)
    assert requeue_silent_imports() == [job.pk]
    ended = run(job)
    assert ended.state == Import.State.DONE, ended.message
    assert ended.attempts == 2
    scan = ended.scan
    assert scan is not None
    assert Scan.objects.count() == 2
    assert artefact_of(scan) == artefact_of(undisturbed)
    facts = ("correct", "errors", "near_misses", "unreadable")
    assert [getattr(scan, f) for f in facts] == [getattr(undisturbed, f) for f in facts]
    assert Finding.objects.filter(registered_model__name="remote").count() == 2
    assert Sighting.objects.filter(scan=scan).count() == 2
    _, parts = default_storage.listdir(f"scans/{scan.pk}")
    assert parts == ["outcomes.parquet"]


def test_an_import_that_another_worker_took_over_writes_nothing(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    check = checking.leave_out_duplicates

    def frozen(limit: int) -> object:
        Import.objects.filter(pk=job.pk).update(attempts=2)  # it woke up too late
        return check(limit)

    monkeypatch.setattr(checking, "leave_out_duplicates", frozen)
    ended = run(job)
    assert (ended.state, ended.scan) == (Import.State.RUNNING, None)
    assert not Scan.objects.exists()


def test_the_storage_may_fail_once(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    stop_at(monkeypatch, "store_part", 2, ArtefactError("the store is away"))
    ended = run(job)
    assert (ended.state, ended.message) == ("queued", "the store is away")
    lose(job)
    assert requeue_silent_imports() == [job.pk]
    ended = run(job)
    assert ended.state == Import.State.DONE, ended.message
    assert ended.scan is not None
    assert (ended.scan.correct, ended.scan.errors) == (5, 1)


def test_an_import_fails_after_too_many_attempts(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MAX_ATTEMPTS", 2)
    job = ask(dataset)
    for state in ("queued", "failed"):
        stop_at(monkeypatch, "store_part", 1, ArtefactError("the store is away"))
        assert run(job).state == state
    scan = Scan.objects.get()
    assert scan.state == Scan.State.FAILED
    assert scan.message == "The import ended: the store is away"
    assert not default_storage.exists(f"imports/{job.pk}/predictions.csv")


def test_without_the_database_the_lease_decides(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    stop_at(monkeypatch, "store_part", 1, OperationalError("gone"))
    with pytest.raises(OperationalError):
        run_import(import_id=job.pk)
    job.refresh_from_db()
    assert job.state == Import.State.RUNNING


def test_the_sweeps_of_shards_leave_an_import_alone(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    stop_at(monkeypatch, "record_shard", 2, Killed())
    with pytest.raises(Killed):
        run_import(import_id=job.pk)
    long_ago = timezone.now() - timedelta(days=1)
    Scan.objects.update(created_at=long_ago)
    Shard.objects.exclude(state="queued").update(heartbeat_at=long_ago)
    assert requeue_silent_shards() == []
    assert forgotten_shards(messages=0) == []


def test_a_command_that_died_leaves_nothing_waiting(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset, keep=False)
    Import.objects.filter(pk=job.pk).update(state="running")
    lose(job)
    assert requeue_silent_imports() == []
    job.refresh_from_db()
    assert job.state == Import.State.FAILED
    assert job.message.endswith("Import the file again.")


def test_one_that_is_abandoned_takes_its_scan_along(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    stop_at(monkeypatch, "record_shard", 2, Killed())
    with pytest.raises(Killed):
        run_import(import_id=job.pk)
    abandon_import(import_id=job.pk, message="Interrupted.")
    job.refresh_from_db()
    assert job.state == Import.State.FAILED
    assert Scan.objects.get().state == Scan.State.FAILED


def test_cancelling_the_scan_ends_the_import(
    dataset: Dataset,
    samples: list[Sample],
    lena: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = ask(dataset)
    store = importing.store_part

    def cancelling(*, shard: Shard, **kwargs: object) -> None:
        store(shard=shard, **kwargs)
        if shard.number == 1:
            cancel_scan(scan=shard.scan, by=lena)

    monkeypatch.setattr(importing, "store_part", cancelling)
    ended = run(job)
    assert ended.state == Import.State.FAILED
    assert ended.scan is not None
    assert ended.scan.state == Scan.State.CANCELLED
    assert "Cancelled by lena" in ended.message
    with pytest.raises(Refused, match=r"[Ii]mport"):
        resume_scan(scan=ended.scan, by=lena)


def test_a_registration_meanwhile_ends_it(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    check = checking.index_rows

    def registering() -> None:
        check()
        factories.RegistrationFactory(dataset=dataset)

    monkeypatch.setattr(checking, "index_rows", registering)
    ended = run(job)
    assert ended.state == Import.State.FAILED
    assert "was registered again while the file was checked" in ended.message
    assert not Scan.objects.exists()
    assert not ModelVersion.objects.exists()


def test_it_refuses_while_the_data_set_is_registered(
    dataset: Dataset, samples: list[Sample]
) -> None:
    factories.RegistrationFactory(dataset=dataset, state=Registration.State.RUNNING)
    with pytest.raises(AlreadyRunning, match="is being registered"):
        ask(dataset)


@pytest.mark.parametrize("model", ["", "   ", "x" * 101, "a\0b"])
def test_it_refuses_a_model_without_a_name(dataset: Dataset, model: str) -> None:
    with pytest.raises(Refused, match="Give the model a name"):
        ask(dataset, model=model)


def test_it_refuses_a_file_that_is_too_large(dataset: Dataset, settings) -> None:
    settings.IMPORT_MAX_BYTES = 10
    with pytest.raises(Refused, match="more than the 10 that this server takes"):
        ask(dataset)
    assert not Import.objects.exists()


def test_it_refuses_a_file_of_another_kind(dataset: Dataset) -> None:
    with pytest.raises(BadPredictions, match="its content is not npz"):
        ask(dataset, name="p.npz")
    assert not Import.objects.exists()


def test_predictions_cannot_be_scanned(
    dataset: Dataset, samples: list[Sample], lena: User
) -> None:
    scan = import_rows(dataset)
    with pytest.raises(Refused, match="no checkpoint"):
        start_scan(
            dataset=dataset,
            version=scan.model_version,
            trigger=Scan.Trigger.PAGE,
            by=lena,
        )


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


def test_the_sweep_sends_a_lost_import_to_a_worker(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(
        tasks.run_import, "apply_async", lambda args, **_: sent.extend(args)
    )
    job = ask(dataset)
    tasks.recover_lost_work()
    assert sent == []
    lose(job)
    tasks.recover_lost_work()
    assert sent == [job.pk]
    tasks.run_import(job.pk)
    assert Scan.objects.get().is_done


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


def test_the_sweep_removes_the_file_of_an_import_that_died_at_its_end(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(names: object) -> None:
        raise Killed

    job = ask(dataset)
    with monkeypatch.context() as patch:
        patch.setattr(actions, "delete_files", killed)
        with pytest.raises(Killed):
            run_import(import_id=job.pk)
    assert default_storage.exists(job.file)
    assert requeue_silent_imports() == []
    assert not default_storage.exists(job.file)
    ended = Import.objects.get(pk=job.pk)
    assert (ended.state, ended.file) == (Import.State.DONE, "")
