"""Open a file of predictions, whatever its format is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast, get_args

from mining.predictions.blocks import Block
from mining.predictions.columnar import read_parquet
from mining.predictions.layout import BadPredictions, Names
from mining.predictions.npz import read_npz
from mining.predictions.text import read_csv, read_jsonl
from mining.types import MAX_CLASSES

PredictionFormat = Literal["parquet", "csv", "jsonl", "npz"]

_HEAD: Final = 4096
_MAGIC: Final[dict[str, bytes]] = {"parquet": b"PAR1", "npz": b"PK\x03\x04"}
_MAX_CLASSES_BYTES: Final = 2**26


def detect_format(name: str, file: BinaryIO) -> PredictionFormat:
    """Return the format that the suffix names, when the content is of that kind.

    Args:
        name: The file's name; only its suffix is used.
        file: Open for reading; left at its start.

    Raises:
        BadPredictions: The suffix is unknown, or the content is something else.
    """
    suffix = name.lower().rpartition(".")[2]
    if suffix not in get_args(PredictionFormat):
        raise BadPredictions(
            name, "the name must end in .parquet, .csv, .jsonl or .npz."
        )
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(0)
    magic = _MAGIC.get(suffix)
    fits = head.startswith(magic) if magic else bool(head) and b"\0" not in head
    if not fits:
        raise BadPredictions(name, f"its content is not {suffix}, or not UTF-8 text.")
    return cast("PredictionFormat", suffix)


def read_predictions(
    path: Path,
    kind: PredictionFormat,
    *,
    classes: Sequence[str],
    given: Sequence[str] = (),
    name: str = "",
    max_bytes: int,
) -> Iterator[Block]:
    """Yield the rows of a file of predictions in blocks, in constant memory.

    Rows that cannot be read are in the blocks too, each with its fault; what a whole row
    says is for `find_faults`.

    Args:
        path: A local file.
        kind: Its format.
        classes: The data set's classes, in order.
        given: The order of the probabilities where the file has no names; empty: that
            of the data set.
        name: What messages call the file; "": by its path.
        max_bytes: The most that an array of an archive may take once unpacked.

    Raises:
        BadPredictions: The file cannot be used at all.
    """
    names = Names(name or path.name, tuple(classes), tuple(given))
    if given:
        names.columns(None)  # refuses an order that is not the data set's classes
    if kind == "npz":
        return read_npz(path, names, max_bytes=max_bytes)
    readers = {"parquet": read_parquet, "csv": read_csv, "jsonl": read_jsonl}
    return readers[kind](path, names)


def read_class_order(name: str, file: BinaryIO) -> list[str]:
    """Return the names in a JSON file: a list of text.

    Raises:
        BadPredictions: It is anything else.
    """
    data = file.read(_MAX_CLASSES_BYTES)
    try:
        names = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadPredictions(name, f"it is not valid JSON: {error}.") from error
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= MAX_CLASSES
        or not all(isinstance(entry, str) for entry in names)
    ):
        raise BadPredictions(
            name, 'it must be a list of class names, such as ["cat", "dog"].'
        )
    return names
