"""A fix set: what people confirmed and relabelled, frozen, with a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal


@dataclass(frozen=True, slots=True)
class FixRow:
    """One sample of a fix set.

    Attributes:
        sample_key: Key of the sample in its data set.
        digest: SHA-256 of its bytes in hex.
        split: As the data set says.
        original_label: The label that the sample came with.
        true_label: The label it had when the scan ran.
        label: The label to train with.
        predicted: What the model said.
        verdict: "confirm" (the label is right) or "relabel" (it was wrong).
        causes: Why the model failed.
        p_true: Probability given to the true label, 0-1; lower is harder.
        confidence: Probability of the predicted class, 0-1.
        reviewer: Who decided.
        reviewed_at: When, in ISO 8601.
        note: Free text.
    """

    sample_key: str
    digest: str
    split: str
    original_label: str
    true_label: str
    label: str
    predicted: str
    verdict: Literal["confirm", "relabel"]
    causes: tuple[str, ...]
    p_true: float
    confidence: float
    reviewer: str
    reviewed_at: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return field -> value in the order of the fields; causes as a sorted list."""
        values = {name: getattr(self, name) for name in COLUMNS}
        return values | {"causes": sorted(self.causes)}


COLUMNS: Final = tuple(field.name for field in fields(FixRow))


_encoded = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False
).encode


def json_line(row: FixRow) -> str:
    """Return a row as JSON with one spelling only."""
    return _encoded(row.as_dict())


def fix_set_digest(rows: Iterable[FixRow]) -> str:
    """Return the SHA-256 in hex of a fix set; the order of rows does not matter.

    >>> fix_set_digest([])
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    ordered = sorted((row.sample_key, row.predicted, json_line(row)) for row in rows)
    digest = hashlib.sha256()
    for *_, line in ordered:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
