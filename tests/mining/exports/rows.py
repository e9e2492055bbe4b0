"""Rows of a fix set, with made-up images, and what writers make of them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable

from mining.fixset import FixRow


def image(row: FixRow) -> bytes:
    return f"pixels of {row.sample_key}".encode()


def row(key: str = "a/1.png", **changes: object) -> FixRow:
    values = {
        "sample_key": key, "digest": hashlib.sha256(f"pixels of {key}".encode()).hexdigest(),
        "split": "train", "original_label": "cat", "true_label": "cat", "label": "dog",
        "predicted": "dog", "verdict": "relabel", "causes": ("blur", "background"),
        "p_true": 0.125, "confidence": 0.75, "reviewer": "alice",
        "reviewed_at": "2024-05-01T10:00:00+00:00", "note": "",
    }  # fmt: skip
    return FixRow(**(values | changes))


ROWS = [
    row("a/1.png"),
    row("b/2.png", label="cat", verdict="confirm", split="val"),
    row("é/3.png", split=""),
]


def written(write: Callable[..., int], rows: list[FixRow], *args, **options) -> bytes:
    """Return what a writer writes, having checked that it counts the rows."""
    file = io.BytesIO()
    assert write(iter(rows), file, *args, **options) == len(rows)
    return file.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == len(names)
        return {name: archive.read(name) for name in names}
