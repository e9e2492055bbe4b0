"""Scans with outcomes, for what is made from what the model gets right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mining.artefact import write_outcomes
from mining.types import Look, Outcome
from reviewapp.models import Sample, Scan
from reviewapp.storage import scratch_folder, store_file


def give_outcomes(
    scan: Scan, samples: Sequence[Sample], **changes: Mapping[int, Any]
) -> None:
    """Store an artefact in which the model is right and sure, but for some changes.

    Args:
        scan: Finished.
        samples: What it saw.
        changes: Field of an outcome, or "brightness" -> place among the samples -> value.
    """
    places = {pk: place for place, pk in enumerate(scan.classes)}
    rows = []
    for n, sample in enumerate(samples):
        true = places[sample.label_id]
        fields: dict[str, Any] = {
            "id": sample.pk, "key": sample.key, "digest": sample.digest, "true": true,
            "predicted": true, "confidence": 0.99, "p_true": 0.99, "margin": 0.98,
            "loss": 0.01, "top_classes": (true,), "top_probs": (0.99,), "error": "",
        }  # fmt: skip
        given = {name: of[n] for name, of in changes.items() if n in of}
        light = given.pop("brightness", 0.4 + n / 1000)
        look = Look(n, light, 0.1, 10.0 + n, 8, 8, "PNG", 100)
        rows.append(Outcome(**fields | given, look=look))
    with scratch_folder() as folder:
        path = Path(folder) / "outcomes.parquet"
        write_outcomes(path, rows, classes=scan.model_version.classes)
        scan.artefact = f"scans/{scan.pk}/outcomes.parquet"
        store_file(scan.artefact, path)
    scan.save(update_fields=["artefact"])
