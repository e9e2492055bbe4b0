"""Imports that are refused, in part or as a whole, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from mining.predictions import BadPredictions
from reviewapp.actions.scans import start_scan
from reviewapp.exceptions import AlreadyRunning, Refused
from reviewapp.models import (
    Dataset,
    Finding,
    Import,
    RegisteredModel,
    Registration,
    Sample,
    Scan,
    UnreadableSample,
    User,
)
from tests import factories
from tests.reviewapp.test_imports import (
    BAD,
    PREDICTIONS,
    ask,
    import_rows,
    run,
    samples,
    small_shards,
)

__all__ = ["samples", "small_shards"]


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
