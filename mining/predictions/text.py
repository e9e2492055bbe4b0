"""Predictions as CSV and as JSON Lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from mining.predictions.blocks import (
    Block,
    ClassOrder,
    Fault,
    Floats,
    block_rows,
)
from mining.predictions.layout import BadPredictions, Names
from mining.predictions.ragged import full_rows, top_rows
from mining.text import is_storable, shown

MAX_LINE: Final = 2**24  # bytes
_NOT_UTF8: Final = "it is not UTF-8 text; save the file as UTF-8"
_SURROGATES: Final = re.compile("[\udc80-\udcff]")
Layout = Literal["full", "top"]
# A row as it was read: its key, the classes it names (None: every one, in the order of the
# columns), and its numbers, of which text still has to be read.
Parsed: TypeAlias = "tuple[str, Sequence[str] | None, Sequence[object]] | _Bad"


class _Bad(NamedTuple):
    """A row that cannot be used, and its key as far as it has one."""

    fault: Fault
    key: str = ""


@dataclass(slots=True)
class _Rows:
    """The rows of a block in the making."""

    keys: list[str] = field(default_factory=list)
    named: list[Sequence[str]] = field(default_factory=list)
    numbers: list[Sequence[object]] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)

    def add(self, row: Parsed) -> None:
        if isinstance(row, _Bad):
            self.faults[len(self.keys)] = row.fault
            row = (row.key, (), ())
        key, named, numbers = row
        self.keys.append(key)
        self.named.append(named or ())
        self.numbers.append(numbers)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the rows of a file look like."""

    layout: Layout
    columns: Sequence[int]
    order: ClassOrder


def read_csv(path: Path, names: Names) -> Iterator[Block]:
    """Yield the rows of a CSV file in blocks, in constant memory.

    Raises:
        BadPredictions: It cannot be read at all, or its columns do not fit.
    """
    with path.open("rb") as file:
        size = path.stat().st_size or 1
        lines = (
            raw.decode("utf-8", "surrogateescape") for raw in _lines(file, names.file)
        )
        reader = csv.reader(lines, strict=True)
        try:
            header = [column.strip() for column in next(reader, [])]
        except csv.Error as error:
            raise BadPredictions(names.file, f"line 1: {error}.") from error
        shape, parse = _csv_layout(header, names)
        rows = _csv_rows(reader, header, parse)
        yield from _blocks(rows, shape, names, lambda: file.tell() / size)


def _csv_layout(
    header: Sequence[str], names: Names
) -> tuple[_Shape, Callable[[list[str]], Parsed]]:
    if not is_storable("".join(header)):
        raise BadPredictions(names.file, f"line 1: {_NOT_UTF8}.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if "key" not in header or twice:
        there = ", ".join(map(shown, header[:20])) or "none"
        what = (
            f"the column {shown(twice[0])} is there twice"
            if twice
            else (f"the column key is missing; there are: {there}")
        )
        raise BadPredictions(names.file, f"line 1: {what}.")
    at = header.index("key")
    others = [name for name in header if name != "key"]
    if others[:2] == ["top1", "p1"]:
        pairs = [
            f"{what}{n + 1}" for n in range(len(others) // 2) for what in ("top", "p")
        ]
        if others != pairs:
            raise BadPredictions(
                names.file,
                "line 1: beside key the columns must be top1, p1, top2, p2 and so on.",
            )
        return _Shape("top", (), "file"), lambda row: _csv_top(row, at)
    columns, order = names.columns(others)
    shape = _Shape("full", columns.tolist(), order)
    return shape, lambda row: (row[at], None, row[:at] + row[at + 1 :])


def _unread(reason: str, key: str = "") -> _Bad:
    return _Bad(Fault("unreadable row", reason), key)


def _csv_top(row: list[str], at: int) -> Parsed:
    cells = row[:at] + row[at + 1 :]
    named, numbers = cells[::2], cells[1::2]
    while named and not named[-1] and not numbers[-1]:  # fewer classes than columns
        named.pop()
        numbers.pop()
    return row[at], named, numbers


def _csv_rows(
    reader: Iterator[list[str]],
    header: Sequence[str],
    parse: Callable[[list[str]], Parsed],
) -> Iterator[Parsed]:
    width = len(header)
    try:
        for row in reader:
            if not row:
                continue
            if len(row) != width:
                yield _unread(f"{len(row)} fields, but the header has {width}")
            elif _SURROGATES.search("".join(row)):
                yield _unread(_NOT_UTF8)
            else:
                yield parse(row)
    except csv.Error as error:
        # What follows a broken quote cannot be told apart any more.
        yield _unread(f"not valid CSV, nor is what follows: {error}")


def read_jsonl(path: Path, names: Names) -> Iterator[Block]:
    """Yield the rows of a JSON Lines file in blocks, in constant memory.

    Raises:
        BadPredictions: It cannot be read at all.
    """
    with path.open("rb") as file:
        size = path.stat().st_size or 1
        objects = (_json(raw) for raw in _lines(file, names.file) if raw.strip())
        first = next(objects, None)
        if first is None:
            return
        layout, form = _json_layout(first)
        columns: Sequence[int] = range(len(names.classes))
        order: ClassOrder = "file"
        if form == "pred_probs":
            chosen, order = names.columns(None)
            columns = chosen.tolist()
        shape = _Shape(layout, columns, order)
        every = chain([first], objects)
        rows = (_json_row(row, form, names.classes) for row in every)
        yield from _blocks(rows, shape, names, lambda: file.tell() / size)


def _json(raw: bytes) -> dict[str, object] | _Bad:
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return _unread(_NOT_UTF8)
    except (ValueError, RecursionError) as error:
        return _unread(f"not valid JSON: {error}")
    if not isinstance(row, dict):
        return _unread("not a JSON object")
    return row


def _json_layout(first: dict[str, object] | _Bad) -> tuple[Layout, str]:
    """Return the layout of a file by its first row."""
    if isinstance(first, _Bad):
        return "full", "pred_probs"
    if "top_classes" in first:
        return "top", "top_classes"
    return "full", "probs" if "probs" in first else "pred_probs"


def _json_row(
    row: dict[str, object] | _Bad, form: str, classes: Sequence[str]
) -> Parsed:
    if isinstance(row, _Bad):
        return row
    key, found = row.get("key"), row.get(form)
    if not isinstance(key, str):
        return _unread("it has no key")
    if form == "probs":
        return _by_name(key, found, classes)
    if not isinstance(found, list):
        return _unread(f"{form} is no list", key)
    if form == "pred_probs":
        return key, None, found
    probs = row.get("top_probs")
    if not isinstance(probs, list):
        return _unread("top_probs is no list", key)
    if not all(isinstance(name, str) for name in found):
        return _Bad(Fault("unknown class", "top_classes must be names"), key)
    return key, found, probs


def _by_name(key: str, found: object, classes: Sequence[str]) -> Parsed:
    if not isinstance(found, dict):
        return _unread("probs is no object", key)
    try:
        numbers = [found[name] for name in classes]
    except KeyError as error:
        reason = f"there is no {shown(error.args[0])}"
        return _Bad(Fault("missing class", reason), key)
    if len(found) != len(classes):
        unknown = next(name for name in found if name not in set(classes))
        reason = f"{shown(unknown)} is none of the data set's"
        return _Bad(Fault("unknown class", reason), key)
    return key, None, numbers


def _blocks(
    rows: Iterator[Parsed], shape: _Shape, names: Names, share: Callable[[], float]
) -> Iterator[Block]:
    index = names.index()
    n_classes, first = len(names.classes), 1
    while batch := list(islice(rows, block_rows(n_classes))):
        held = _Rows()
        for row in batch:
            held.add(row)
        flat = _numbers(held)
        lengths = np.array([len(numbers) for numbers in held.numbers], np.int64)
        tops = None
        if shape.layout == "top":
            indices = [index.get(name, -1) for name in chain.from_iterable(held.named)]
            tops, probs, faults = top_rows(
                np.array([len(named) for named in held.named], np.int64),
                lengths,
                np.array(indices, np.int32),
                flat,
                n_classes,
            )
        else:
            probs, faults = full_rows(lengths, flat, n_classes)
            probs = probs[:, shape.columns]
        faults |= held.faults
        yield Block(
            first, held.keys, probs, tops, min(share(), 1.0), shape.order, faults
        )
        first += len(batch)


def _numbers(held: _Rows) -> Floats:
    """Return the numbers of all rows; a row with one that is none becomes a fault."""
    kinds = set(map(type, chain.from_iterable(held.numbers)))
    if kinds <= {int, float} or kinds == {str}:
        try:
            return _converted(held.numbers)
        except (ValueError, OverflowError):
            pass
    for row, numbers in enumerate(held.numbers):
        for number in numbers:
            if not _is_number(number):
                reason = f"{shown(number)} is no number"
                held.faults.setdefault(row, Fault("not a number", reason))
                held.numbers[row] = [float("nan")] * len(numbers)
                break
    return _converted(held.numbers)


def _converted(rows: Sequence[Sequence[object]]) -> Floats:
    flat = chain.from_iterable(rows)
    return np.fromiter(map(float, flat), np.float64)  # type: ignore[arg-type]  # numbers or their text


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        float(value)
    except (ValueError, OverflowError):
        return False
    return True


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield lines of bounded length, without the byte-order mark of some editors."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            raise BadPredictions(
                name, f"line {number} is longer than {MAX_LINE:,} bytes."
            )
        yield line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
