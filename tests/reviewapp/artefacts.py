"""Artefacts of scans, changed for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.core.files.storage import default_storage

from mining.artefact import iter_outcomes, write_outcomes
from mining.types import Look
from reviewapp.models import Exemplar, Scan
from reviewapp.storage import fetch_file, store_file
from reviewapp.thumbnails import SIZES, thumbnail_name

FAR = 0x5555555555555554  # a hash far from small ones


def looks(scan: Scan, tmp_path: Path, **phashes: int | None) -> None:
    """Give the samples of a scan's artefact perceptual hashes, by file name."""
    path = tmp_path / "outcomes.parquet"
    fetch_file(scan.artefact, path)
    rows = []
    for row in iter_outcomes(path):
        apart = int.from_bytes(hashlib.sha256(row.key.encode()).digest()[:7])
        phash = phashes.get(f"n{Path(row.key).stem}", apart)
        look = Look(phash, 0.5, 0.1, 1.0, 8, 8, "PNG", 100)
        fields = {name: getattr(row, name) for name in row.__slots__}
        rows.append(type(row)(**fields | {"look": look}))
    write_outcomes(path, rows, classes=scan.model_version.classes)
    store_file(scan.artefact, path)


def pictured(exemplar: Exemplar) -> list[bool]:
    names = [thumbnail_name(exemplar.digest, size) for size in SIZES]
    return [default_storage.exists(name) for name in names]
