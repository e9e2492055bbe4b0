"""Two scans of the same samples, written by hand, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from django.core.files.storage import default_storage

from mining.artefact import write_outcomes
from mining.types import Look, Outcome
from reviewapp.models import Dataset, Label, ModelVersion, Sample, Scan
from reviewapp.storage import store_file
from tests import factories


def add_samples(labels: Sequence[Label], true: str, **fields: object) -> list[Sample]:
    """Add a sample for each letter of `true`, the first one of its class's name."""
    by_letter = {label.name[0]: label for label in labels}
    return [factories.SampleFactory(label=by_letter[c], **fields) for c in true]


def add_scan(
    version: ModelVersion,
    samples: Sequence[Sample],
    predicted: str,
    *,
    hashes: dict[int, int] | None = None,
    **fields: object,
) -> Scan:
    """Add a finished scan that predicts a letter for each sample; "-": unreadable.

    The labels are those that the samples have now. `hashes`: sample id -> perceptual hash.
    """
    dataset: Dataset = version.registered_model.dataset
    classes = list(dataset.labels.current())
    index = {label.name[0]: place for place, label in enumerate(classes)}
    place_of = {label.pk: place for place, label in enumerate(classes)}
    rows = [
        _outcome(sample, place_of[sample.label_id], index.get(c), hashes or {})
        for sample, c in zip(samples, predicted, strict=True)
    ]
    right = sum(row.true == row.predicted for row in rows)
    unreadable = predicted.count("-")
    scan = factories.ScanFactory(
        model_version=version,
        correct=right,
        unreadable=unreadable,
        errors=len(rows) - right - unreadable,
        **fields,
    )
    scan.artefact = f"scans/{scan.pk}/outcomes.parquet"
    scan.save(update_fields=["artefact"])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "outcomes.parquet"
        write_outcomes(path, rows, classes=[label.name for label in classes])
        store_file(scan.artefact, path)
    return scan


def lose(scan: Scan) -> None:
    default_storage.delete(scan.artefact)


def _outcome(
    sample: Sample, true: int, predicted: int | None, hashes: dict[int, int]
) -> Outcome:
    random = int(sample.digest[:16], 16) - 2**63  # no two within some bits
    phash = hashes.get(sample.pk, random)
    return Outcome(
        id=sample.pk,
        key=sample.key,
        digest=sample.digest,
        true=true,
        predicted=predicted,
        confidence=0.9,
        p_true=0.9 if true == predicted else 0.1,
        margin=0.8,
        loss=0.1,
        top_classes=(0,),
        top_probs=(0.9,),
        error="" if predicted is not None else "cut",
        look=None if predicted is None else Look(phash, 0.5, 0.1, 3.0, 8, 8, "PNG", 99),
    )
