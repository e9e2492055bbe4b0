"""A fix set as files to train from: what people confirmed and relabelled, frozen."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import BinaryIO, Final, Literal, TextIO

from mining.exceptions import ArtefactError

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
_UNSAFE: Final = re.compile(r"[^\w.-]+")
_NAME_LENGTH: Final = 80
# The oldest time that ZIP knows; a fixed one keeps the bytes the same.
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)


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


COLUMNS: Final = tuple(field.name for field in fields(FixRow))


def _json_line(row: FixRow) -> str:
    """Return a row as JSON with one spelling only."""
    data = asdict(row) | {"causes": sorted(row.causes)}
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _ordered(rows: Iterable[FixRow]) -> list[FixRow]:
    return sorted(
        rows, key=lambda row: (row.sample_key, row.predicted, _json_line(row))
    )


def fix_set_digest(rows: Iterable[FixRow]) -> str:
    """Return the SHA-256 in hex of a fix set; the order of rows does not matter.

    >>> fix_set_digest([])
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    digest = hashlib.sha256()
    for row in _ordered(rows):
        digest.update(f"{_json_line(row)}\n".encode())
    return digest.hexdigest()


def write_jsonl(rows: Iterable[FixRow], file: TextIO) -> int:
    """Write one JSON object per line, sorted by key, and return how many.

    Values are exact here, unlike in the CSV.
    """
    ordered = _ordered(rows)
    file.writelines(f"{_json_line(row)}\n" for row in ordered)
    return len(ordered)


def write_csv(rows: Iterable[FixRow], file: TextIO) -> int:
    """Write a CSV for people, sorted by key, and return how many rows it has.

    A text cell that a spreadsheet would take for a formula (it starts with = + - @, a tab
    or a carriage return) gets a leading apostrophe. Programs should read the JSONL.

    Args:
        rows: In any order.
        file: Opened with newline="".
    """
    ordered = _ordered(rows)
    _write_table(file, COLUMNS, (_cells(row) for row in ordered))
    return len(ordered)


def write_zip(
    rows: Iterable[FixRow],
    file: BinaryIO,
    open_image: Callable[[FixRow], bytes],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a ZIP with one folder per label and return how many rows it has.

    Images lie at `<label>/<digest, 16 digits>-<name>`; `manifest.csv` says in its column
    `file` where each row's image is, otherwise as `write_csv`. The same rows give the same
    bytes. Characters that some file system refuses are replaced; a label or name that this
    changes gets a few digits of its own digest, so that two never become one.

    Args:
        rows: In any order.
        file: Opened for writing bytes.
        open_image: Returns the bytes of a row's image.
        progress: Called with (images done, all) after each.

    Raises:
        ArtefactError: An image changed since it was reviewed; the file must be thrown away.
    """
    ordered = _ordered(rows)
    places: list[str] = []
    written: set[str] = set()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for done, row in enumerate(ordered, start=1):
            name = row.sample_key.rpartition("/")[2]
            place = f"{_safe(row.label)}/{row.digest[:16]}-{_safe(name)}"
            places.append(place)
            if place not in written:
                written.add(place)
                _add(archive, place, _checked_image(row, open_image))
            if progress is not None:
                progress(done, len(ordered))
        table = io.StringIO(newline="")
        cells = (
            [place, *_cells(row)] for place, row in zip(places, ordered, strict=True)
        )
        _write_table(table, ("file", *COLUMNS), cells)
        _add(archive, "manifest.csv", table.getvalue().encode())
    return len(ordered)


def _checked_image(row: FixRow, open_image: Callable[[FixRow], bytes]) -> bytes:
    data = open_image(row)
    if hashlib.sha256(data).hexdigest() != row.digest:
        raise ArtefactError(
            f"{row.sample_key} changed since it was reviewed. Nothing was exported; the"
            " reviews are kept. Put the old image back, or register the data set again."
        )
    return data


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _ZIP_TIME)
    info.create_system = 3  # Unix, whatever runs this
    info.external_attr = 0o100644 << 16
    archive.writestr(info, data)


def _safe(name: str) -> str:
    """Return a name that is one harmless path component on every system.

    >>> _safe("night-07.png"), _safe("../etc")
    ('night-07.png', '_etc-f7f9121f')
    """
    clean = _UNSAFE.sub("_", name).strip(".")[-_NAME_LENGTH:]
    if clean == name and name:
        return name
    stem, dot, suffix = clean.rpartition(".")
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{stem}-{mark}{dot}{suffix}" if dot else f"{clean}-{mark}"


def _cells(row: FixRow) -> list[object]:
    values = asdict(row) | {"causes": ";".join(sorted(row.causes))}
    return list(values.values())


def _write_table(
    file: TextIO, header: Iterable[str], rows: Iterable[list[object]]
) -> None:
    # With "\n" alone Python 3.11 leaves a carriage return in a cell unquoted.
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_guard(cell) for cell in row])


def _guard(cell: object) -> object:
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return f"'{cell}"
    return cell
