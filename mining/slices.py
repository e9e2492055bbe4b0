"""Find which attributes and image properties go with errors, one attribute at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mining.artefact import File, read_outcomes
from mining.statistics import Interval, enrichment, holm, wilson

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Column: TypeAlias = npt.NDArray[Any] | Sequence[object]

_NUMBERS = ("brightness", "contrast", "sharpness", "width", "height", "size")


@dataclass(frozen=True, slots=True)
class Part:
    """Some of an attribute's values.

    Attributes:
        kind: "range" of numbers, one "value", all "other" values, or "missing".
        value: The value, as text; "" for the other kinds.
        low: The lowest number of a range, else nan.
        high: The highest number of a range, else nan.
    """

    kind: Literal["range", "value", "other", "missing"]
    value: str = ""
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Parted:
    """An attribute of N samples, parted.

    Attributes:
        name: Of the attribute.
        codes: int64 (N,), the part that each sample is in.
        parts: What the codes mean.
    """

    name: str
    codes: Ints
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """Errors among some of the samples, beside those of all.

    Attributes:
        size: How many samples.
        errors: How many of them are wrong.
        rate: Their share, 0-1.
        interval: Wilson's 95 % interval of the rate.
        covered: Share of all errors that are among these samples, 0-1.
        lift: Rate divided by that of all samples; above 1 there are more errors here.
    """

    size: int
    errors: int
    rate: float
    interval: Interval
    covered: float
    lift: float


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of an attribute's values.

    Attributes:
        part: Which one.
        figures: Its errors.
        p: p value of Fisher's exact test that it has more errors than luck gives, 0-1.
        adjusted: The same, corrected by Holm for all slices of all attributes.
    """

    part: Part
    figures: Rate
    p: float
    adjusted: float


@dataclass(frozen=True, slots=True)
class SliceTable:
    """The slices of one attribute.

    Attributes:
        attribute: Its name.
        slices: Ranges in rising order, or values with the most frequent first; then the
            other values and the samples without one.
    """

    attribute: str
    slices: tuple[Slice, ...]

    @property
    def adjusted(self) -> float:
        """Return the lowest adjusted p value of its slices, 0-1."""
        return min(each.adjusted for each in self.slices)


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What a scan's artefact knows of N images, those that could not be read left out.

    Attributes:
        id: int64 (N,), identity of each sample.
        wrong: bool (N,), which ones the model has wrong.
        columns: Image properties by name, each (N,), nan or None where not known.
    """

    id: Ints
    wrong: Mask
    columns: dict[str, Column]


def read_looks(file: File) -> Looks:
    """Read the image properties and errors of a scan's artefact.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    table = read_outcomes(file, ["id", "true", "predicted", *_NUMBERS, "file_type"])
    table = table.filter(pc.is_valid(table["predicted"]))
    numbers: dict[str, Column] = {
        name: pc.fill_null(table[name].cast(pa.float64()), math.nan).to_numpy()
        for name in _NUMBERS
    }
    aspect = np.asarray(numbers["width"]) / np.asarray(numbers["height"])
    types = table["file_type"].to_pylist()
    return Looks(
        id=table["id"].to_numpy(),
        wrong=table["true"].to_numpy() != table["predicted"].to_numpy(),
        columns={**numbers, "aspect": aspect, "file_type": types},
    )


def slice_tables(
    columns: Mapping[str, Column], wrong: Mask, *, bins: int = 5, top: int = 20
) -> list[SliceTable]:
    """Return a table for each attribute, those that go with errors most surely first.

    Args:
        columns: Values of N samples by attribute. Numbers are parted into quantiles,
            everything else is taken as text; None, nan and "" are missing.
        wrong: bool (N,), which samples are errors.
        bins: Quantiles of a number, 2 or more.
        top: Values of a text that get a line of their own, 1 or more.

    Returns:
        Attributes that are the same for every sample have no table; without an error
        there is none at all.

    Raises:
        ValueError: A length differs or a number is out of its range.

    >>> wrong = np.array([True] * 8 + [False] * 8)
    >>> (table,) = slice_tables({"light": ["night"] * 8 + ["day"] * 8}, wrong)
    >>> [(each.part.value, each.figures.rate) for each in table.slices]
    [('day', 0.0), ('night', 1.0)]
    """
    wrong = checked(columns, wrong)
    if bins < 2 or top < 1:
        raise ValueError(f"bins must be 2 or more and top 1 or more: {bins}, {top}")
    if not wrong.any():
        return []
    parted = [part_values(name, column, bins, top) for name, column in columns.items()]
    parted = [each for each in parted if len(each.parts) > 1]
    figures = [_figures(each, wrong) for each in parted]
    p = [
        enrichment(each.errors, each.size, int(wrong.sum()), len(wrong))
        for rates in figures
        for each in rates
    ]
    adjusted = iter(zip(p, holm(p), strict=True))
    tables = [
        SliceTable(
            each.name,
            tuple(
                Slice(of, rate, *next(adjusted))
                for of, rate in zip(each.parts, rates, strict=True)
            ),
        )
        for each, rates in zip(parted, figures, strict=True)
    ]
    return sorted(tables, key=lambda table: (table.adjusted, table.attribute))


def rate_of(size: int, errors: int, all_errors: int, n: int) -> Rate:
    """Return the figures of `size` samples, at least one, among n with an error."""
    rate = errors / size
    return Rate(
        size,
        errors,
        rate,
        wilson(errors, size),
        covered=errors / all_errors,
        lift=rate / (all_errors / n),
    )


def checked(columns: Mapping[str, Column], wrong: Mask) -> Mask:
    """Return the error mask as booleans.

    Raises:
        ValueError: A column is not as long as the mask.
    """
    wrong = np.asarray(wrong, np.bool_)
    for name, column in columns.items():
        if wrong.ndim != 1 or len(column) != len(wrong):
            raise ValueError(
                f"{name} has {len(column)} values for {wrong.shape} right or wrong"
            )
    return wrong


def part_values(name: str, column: Column, bins: int, top: int) -> Parted:
    """Part an attribute: a number into up to `bins` quantiles, a text into its values."""
    values = _values(column)
    if isinstance(values, pa.Array):
        return _part_texts(name, values, top)
    return _part_numbers(name, values, bins)


def _values(column: Column) -> Floats | pa.Array:
    """Return numbers, missing ones nan, or else texts, missing ones null."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "iuf":
        return column.astype(np.float64)
    plain = [None if value in (None, "") else value for value in column]
    if all(
        isinstance(value, int | float | None) and not isinstance(value, bool)
        for value in plain
    ):
        return np.array(plain, np.float64)  # of None it makes nan
    return pa.array(
        [None if value is None else str(value) for value in plain], pa.string()
    )


def _part_numbers(name: str, values: Floats, bins: int) -> Parted:
    is_missing = np.isnan(values)
    present = np.sort(values[~is_missing])
    last = -(-np.arange(1, bins + 1) * len(present) // bins) - 1
    highest = np.unique(present[last]) if len(present) else present
    codes = np.searchsorted(highest[:-1], values, "left")
    codes[is_missing] = len(highest)
    first = np.searchsorted(present, highest[:-1], "right")
    lowest = [*present[:1], *present[first]]
    parts = [
        Part("range", low=float(low), high=float(high))
        for low, high in zip(lowest, highest, strict=True)
    ]
    if is_missing.any():
        parts.append(Part("missing"))
    return Parted(name, codes, tuple(parts))


def _part_texts(name: str, values: pa.Array, top: int) -> Parted:
    encoded = values.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    found = pc.fill_null(encoded.indices, len(names)).to_numpy()
    counts = np.bincount(found, minlength=len(names) + 1)
    order = sorted(range(len(names)), key=lambda code: (-counts[code], names[code]))
    parts = [Part("value", names[code]) for code in order[:top]]
    meaning = np.full(len(names) + 1, len(parts))
    meaning[order[:top]] = np.arange(len(parts))
    if len(order) > top:
        parts.append(Part("other"))
    meaning[-1] = len(parts)
    if counts[-1]:
        parts.append(Part("missing"))
    return Parted(name, meaning[found], tuple(parts))


def _figures(parted: Parted, wrong: Mask) -> list[Rate]:
    sizes = np.bincount(parted.codes, minlength=len(parted.parts)).tolist()
    errors = np.bincount(parted.codes[wrong], minlength=len(parted.parts)).tolist()
    return [
        rate_of(size, some, int(wrong.sum()), len(wrong))
        for size, some in zip(sizes, errors, strict=True)
    ]
