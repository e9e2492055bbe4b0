"""What a manifest says of a scan's samples, as columns that can be parted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from mining.slices import Column, Ints
from reviewapp.models import Dataset, Sample

MOST: Final = 30  # attributes; each is held in memory for every sample
FEW: Final = 20  # values of a text that get a line of their own
LONGEST: Final = 200  # characters of a value that are kept
ROWS: Final = 10_000


@dataclass(slots=True)
class Attributes:
    """The attributes of N samples.

    Attributes:
        columns: Name -> values, (N,): numbers with nan, or texts with None.
        left_out: Name -> why it is no column.
        samples: How many samples have any attribute.
    """

    columns: dict[str, Column] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    samples: int = 0


def read_attributes(dataset: Dataset, ids: Ints) -> Attributes:
    """Read the manifest's attributes of samples, by id."""
    found = Attributes()
    if not len(ids):
        return found
    places = {pk: place for place, pk in enumerate(ids.tolist())}
    rows = (
        Sample.objects.filter(dataset=dataset, pk__range=(ids.min(), ids.max()))
        .exclude(attributes={})
        .values_list("pk", "attributes")
    )
    raw: dict[str, list[Any]] = {}
    for pk, attributes in rows.iterator(chunk_size=ROWS):
        place = places.get(pk)
        if place is None:
            continue
        found.samples += 1
        for name, value in attributes.items():
            if name in raw or len(raw) < MOST:
                raw.setdefault(name, [None] * len(ids))[place] = value
            else:
                found.left_out[name] = f"only {MOST} attributes are looked at"
    for name in list(raw):
        column, why = column_of(raw.pop(name))
        if column is None:
            found.left_out[name] = why
        else:
            found.columns[name] = column
    return found


def column_of(values: list[Any]) -> tuple[Column | None, str]:
    """Return values as a column, or why they make none.

    A CSV knows no numbers: texts that are all numbers become numbers, unless they are few
    and so rather names.

    >>> column_of(["1", "x", ""])[0]
    ['1', 'x', None]
    >>> column_of([True, True])
    (None, 'it is the same for every sample')
    """
    if any(isinstance(value, list | dict) for value in values):
        return None, "its values are lists or tables"
    texts = [_text(value) for value in values]
    present = [text for text in texts if text is not None]
    distinct = set(present)
    if not distinct or (len(distinct) == 1 and len(present) == len(values)):
        return None, "it is the same for every sample"
    # Python reads "2024_01" as a number; it is a name.
    is_name = any("_" in text for text in distinct)
    numbers = None if is_name else _numbers(texts)
    is_typed = all(isinstance(v, int | float | None) for v in values)
    is_typed &= not any(isinstance(v, bool) for v in values)
    if numbers is not None and (is_typed or len(distinct) > FEW):
        return numbers, ""
    if len(distinct) == len(present) > FEW:
        return None, "every sample has its own value"
    return [None if text is None else text[:LONGEST] for text in texts], ""


def _text(value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _numbers(texts: list[str | None]) -> Column | None:
    """Return numbers, nan where there is none; None when a text is no number."""
    try:
        numbers = np.array([math.nan if t is None else float(t) for t in texts])
    except ValueError:
        return None
    is_known = np.array([text is not None for text in texts])
    return numbers if np.isfinite(numbers[is_known]).all() else None
