"""Finished scans whose outcomes, confidences and images are given sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mining.artefact import write_outcomes
from mining.types import Look, Outcome
from reviewapp.models import ModelVersion, Scan
from reviewapp.storage import store_file
from tests import factories


@dataclass
class Seen:
    """What a scan sees of one sample; `predicted` None: unreadable."""

    true: int
    predicted: int | None
    confidence: float = 0.9
    brightness: float | None = 0.5  # None: nothing is known of the image
    attributes: dict[str, object] = field(default_factory=dict)
    p_true: float = 0.1


def add_scan(
    version: ModelVersion, seen: Sequence[Seen], *, findings: bool = False, **fields
) -> Scan:
    """Add a finished scan with its artefact; with findings of its errors when asked."""
    dataset = version.registered_model.dataset
    labels = list(dataset.labels.current())
    samples = [
        factories.SampleFactory(label=labels[each.true], attributes=each.attributes)
        for each in seen
    ]
    rows = [_outcome(*pair) for pair in zip(samples, seen, strict=True)]
    right = sum(row.true == row.predicted for row in rows)
    unreadable = sum(row.predicted is None for row in rows)
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
        write_outcomes(path, rows, classes=[label.name for label in labels])
        store_file(scan.artefact, path)
    for sample, each in zip(samples, seen, strict=True):
        if findings and each.predicted not in (None, each.true):
            finding = factories.FindingFactory(
                sample=sample,
                predicted_label=labels[each.predicted],
                registered_model=version.registered_model,
                confidence=each.confidence,
                priority=1 - each.p_true,
            )
            factories.SightingFactory(finding=finding, scan=scan)
    return scan


def _outcome(sample, each: Seen) -> Outcome:
    look = None
    if each.predicted is not None and each.brightness is not None:
        look = Look(None, each.brightness, 0.1, 3.0, 8, 8, "PNG", 99)
    return Outcome(
        id=sample.pk,
        key=sample.key,
        digest=sample.digest,
        true=each.true,
        predicted=each.predicted,
        confidence=each.confidence,
        p_true=each.confidence if each.true == each.predicted else each.p_true,
        margin=0.8,
        loss=0.1,
        top_classes=(0,),
        top_probs=(0.9,),
        error="" if each.predicted is not None else "cut",
        look=look,
    )
