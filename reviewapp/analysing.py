"""What a finished scan's outcomes say of thresholds and of slices, as figures to keep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from mining.artefact import read_outcomes
from mining.exceptions import ArtefactError
from mining.slice_tree import Condition, slice_tree
from mining.slices import (
    Column,
    Ints,
    Looks,
    Mask,
    Part,
    Rate,
    part_values,
    read_looks,
    slice_tables,
)
from mining.tally import tally, to_bytes
from mining.thresholds import BINNINGS, Confidences, read_confidences, reliability
from mining.types import ScanSettings
from reviewapp.attributes import FEW, read_attributes
from reviewapp.models import Scan
from reviewapp.storage import fetch_file, scratch_folder

QUANTILES: Final = 5
HARDEST: Final = 12  # errors of each slice that are kept
# Of more samples so many are drawn: the columns of all of them are held in memory.
MOST_SAMPLES: Final = 1_000_000
IN_WORDS: Final = {
    "width": "width in pixels",
    "height": "height in pixels",
    "size": "file size in bytes",
    "aspect": "width / height",
    "file_type": "file type",
}


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """Samples whose errors are to be explained.

    Attributes:
        id: int64 (N,), identity of each sample.
        wrong: bool (N,), which ones the model has wrong.
        hardest: int64, the places of the wrong ones, the lowest p(true) first.
    """

    id: Ints
    wrong: Mask
    hardest: Ints

    def first(self, is_in: Mask) -> list[int]:
        """Return the ids of the hardest errors of a slice, of which (N,) says what is in."""
        rows = self.hardest[is_in[self.hardest]][:HARDEST]
        return [int(pk) for pk in self.id[rows]]


def thresholds_of(scan: Scan) -> tuple[dict[str, Any], bytes]:
    """Return the figures of a scan's confidences, and their tally as bytes.

    `reliability`: binning -> expected and largest calibration error and the bins, or null
    without a readable sample. All shares are 0-1.

    Raises:
        ArtefactError: The artefact is damaged or gone.
        OSError: The storage could not be read.
    """
    with _artefact(scan) as path:
        seen = read_confidences(path)
    below = ScanSettings.from_dict(scan.settings).near_miss_below
    figures = {
        "samples": len(seen.id),
        "errors": int((~seen.right).sum()),
        "unreadable": scan.unreadable or 0,
        "near_miss_below": below,
        "reliability": _reliability(seen) if len(seen.id) else None,
    }
    return figures, to_bytes(tally(seen, near_miss_below=below))


def slices_of(scan: Scan) -> dict[str, Any]:
    """Return which attributes and image properties go with a scan's errors.

    `tables`: one for each attribute, the surest first; `leaves`: those of the tree, the
    highest error rate first; `looks` and `attributes`: samples of which the image, or
    something by the manifest, is known; `left_out`: [name, why]. Each slice has the ids of
    its hardest errors.

    Raises:
        ArtefactError: The artefact is damaged or gone.
        OSError: The storage could not be read.
    """
    with _artefact(scan) as path:
        looks = read_looks(path)
        p_true = _p_true(path)
    samples = len(looks.id)
    looks, p_true = _drawn(looks, p_true)
    attributes = read_attributes(scan.dataset, looks.id)
    properties, known = _properties(looks)
    columns = _side_by_side(properties, attributes.columns)
    wrong = looks.wrong
    errors = np.flatnonzero(wrong)
    hardest = errors[np.argsort(p_true[errors], kind="stable")]
    subject = Subject(looks.id, wrong, hardest)
    return {
        "samples": samples,
        "drawn": len(looks.id),
        "errors": int(wrong.sum()),
        "looks": known,
        "attributes": attributes.samples,
        "left_out": sorted(attributes.left_out.items()),
        "tables": _tables(columns, subject),
        "leaves": _leaves(columns, subject),
    }


@contextmanager
def _artefact(scan: Scan) -> Iterator[Path]:
    with scratch_folder() as folder:
        path = folder / "outcomes.parquet"
        try:
            fetch_file(scan.artefact, path)
        except FileNotFoundError as error:
            raise ArtefactError(
                f"The outcomes of scan {scan.pk} are not in the storage any more. "
                f"Nothing was computed. Bring {scan.artefact} back, or scan again."
            ) from error
        yield path


def _reliability(seen: Confidences) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for binning in BINNINGS:
        diagram = reliability(seen, binning=binning)
        found[binning] = {
            "error": diagram.error,
            "largest": diagram.largest,
            "bins": [
                {
                    "from": each.low,
                    "to": each.high,
                    "samples": each.count,
                    "confidence": each.confidence,
                    "accuracy": each.accuracy,
                    "low": each.interval.low,
                    "high": each.interval.high,
                }
                for each in diagram.bins
            ],
        }
    return found


def _p_true(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the probability of the true label, (N,), in the order of `read_looks`."""
    table = read_outcomes(path, ["predicted", "p_true"])
    seen = table.filter(pc.is_valid(table["predicted"]))
    found: np.ndarray[Any, np.dtype[np.float32]] = seen["p_true"].to_numpy()
    return found


def _drawn(looks: Looks, p_true: Column) -> tuple[Looks, np.ndarray[Any, Any]]:
    """Draw as many samples as fit in memory; the same ones each time."""
    p_true = np.asarray(p_true)
    if len(looks.id) <= MOST_SAMPLES:
        return looks, p_true
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(len(looks.id), MOST_SAMPLES, replace=False))
    columns: dict[str, Column] = {
        name: np.asarray(column, object if name == "file_type" else None)[rows]
        for name, column in looks.columns.items()
    }
    return Looks(looks.id[rows], looks.wrong[rows], columns), p_true[rows]


def _properties(looks: Looks) -> tuple[dict[str, Column], int]:
    """Return the image properties by name, and of how many samples they are known.

    Where only some are known, these are mostly the errors (a GPU decoded the images):
    whatever they have in common would look like a cause. Then there are none.
    """
    known = int((~np.isnan(np.asarray(looks.columns["width"]))).sum())
    if known < len(looks.id):
        return {}, known
    named = {IN_WORDS.get(name, name): c for name, c in looks.columns.items()}
    return named, known


def _side_by_side(
    properties: dict[str, Column], attributes: dict[str, Column]
) -> dict[str, Column]:
    """Return both; an attribute called as a property is told apart."""
    return properties | {
        f"{name} (manifest)" if name in properties else name: column
        for name, column in attributes.items()
    }


def _tables(columns: dict[str, Column], subject: Subject) -> list[dict[str, Any]]:
    tables = slice_tables(columns, subject.wrong, bins=QUANTILES, top=FEW)
    found = []
    for table in tables:
        name = table.attribute
        codes = part_values(name, columns[name], QUANTILES, FEW).codes
        slices = [
            {
                **_part(each.part),
                **_rate(each.figures),
                "p": each.adjusted,
                "hardest": subject.first(codes == place),
            }
            for place, each in enumerate(table.slices)
        ]
        found.append({"attribute": name, "p": table.adjusted, "slices": slices})
    return found


def _leaves(columns: dict[str, Column], subject: Subject) -> list[dict[str, Any]]:
    found = []
    for leaf in slice_tree(columns, subject.wrong):
        is_in = np.zeros(len(subject.id), np.bool_)
        is_in[leaf.rows] = True
        found.append(
            {
                "conditions": [_condition(each) for each in leaf.conditions],
                **_rate(leaf.figures),
                "p": leaf.p,
                "hardest": subject.first(is_in),
            }
        )
    return found


def _condition(of: Condition) -> dict[str, Any]:
    return {"attribute": of.attribute, "sign": of.sign, "value": of.value}


def _part(part: Part) -> dict[str, Any]:
    return {
        "kind": part.kind,
        "value": part.value,
        "from": None if math.isnan(part.low) else part.low,
        "to": None if math.isnan(part.high) else part.high,
    }


def _rate(of: Rate) -> dict[str, Any]:
    return {
        "size": of.size,
        "errors": of.errors,
        "rate": of.rate,
        "low": of.interval.low,
        "high": of.interval.high,
        "covered": of.covered,
        "lift": of.lift,
    }
