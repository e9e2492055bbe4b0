"""Predictions as Parquet: a column per class, a list of probabilities, or a top-k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mining.predictions.blocks import Block, Floats, block_rows
from mining.predictions.layout import BadPredictions, Names
from mining.predictions.ragged import full_rows, top_rows
from mining.text import shown

ReadBatch: TypeAlias = Callable[[pa.RecordBatch, int, float], Block]

_BUFFER: Final = 1 << 18  # bytes; without it the whole of a row group is held
_SPARE: Final = 4  # how much longer than they should lists may be in all


def read_parquet(path: Path, names: Names) -> Iterator[Block]:
    """Yield the rows of a Parquet file in blocks, in constant memory.

    Raises:
        BadPredictions: It is no such file, or its columns do not fit.
    """
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            read = _layout(file, names)
            total, row = file.metadata.num_rows, 0
            size = block_rows(len(names.classes))
            # Threads are no faster here, and each keeps memory of its own.
            for batch in file.iter_batches(batch_size=size, use_threads=False):
                first, row = row + 1, row + batch.num_rows
                yield read(batch, first, row / total)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise BadPredictions(
            names.file, f"it is not a readable Parquet file: {error}."
        ) from error


def _layout(file: pq.ParquetFile, names: Names) -> ReadBatch:
    """Return how to read a batch of this file.

    Raises:
        BadPredictions: Its columns are none that are known.
    """
    schema = file.schema_arrow
    twice = [name for name, n in Counter(schema.names).items() if n > 1]
    if twice:
        raise BadPredictions(
            names.file, f"the column {shown(twice[0])} is there twice."
        )
    if "key" not in schema.names:
        there = ", ".join(map(shown, schema.names[:20])) or "none"
        raise BadPredictions(
            names.file, f"the column key is missing; there are: {there}."
        )
    others = [name for name in schema.names if name != "key"]
    if "pred_probs" in others:
        _check_lists(file, names, "pred_probs")
        return _full_reader(names)
    if "top_classes" in others and "top_probs" in others:
        _check_lists(file, names, "top_classes")
        _check_lists(file, names, "top_probs")
        return _top_reader(names)
    return _wide_reader(names, others)


def _check_lists(file: pq.ParquetFile, names: Names, column: str) -> None:
    """Refuse a column of no lists, and lists that would unpack to far too much."""
    kind = file.schema_arrow.field(column).type
    if not (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
    ):
        raise BadPredictions(
            names.file, f"the column {column} holds {kind}, not lists."
        )
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        most = _SPARE * (group.num_rows + 1) * len(names.classes)
        for at in range(group.num_columns):
            chunk = group.column(at)
            inside = chunk.path_in_schema.split(".")[0] == column
            if inside and chunk.num_values > most:
                raise BadPredictions(
                    names.file,
                    f"the lists of {column} hold {chunk.num_values:,} values for "
                    f"{group.num_rows:,} rows, far more than there are classes.",
                )


def _full_reader(names: Names) -> ReadBatch:
    columns, order = names.columns(None)

    def read(batch: pa.RecordBatch, first: int, share: float) -> Block:
        lengths, flat = _unnest(batch.column("pred_probs"))
        probs, faults = full_rows(lengths, _floats(flat), len(columns))
        return Block(first, _keys(batch), probs[:, columns], None, share, order, faults)

    return read


def _wide_reader(names: Names, others: Sequence[str]) -> ReadBatch:
    _, order = names.columns(others)

    def read(batch: pa.RecordBatch, first: int, share: float) -> Block:
        values = [_floats(batch.column(name)) for name in names.classes]
        probs = np.column_stack(values)
        return Block(first, _keys(batch), probs, None, share, order)

    return read


def _top_reader(names: Names) -> ReadBatch:
    known = pa.array(names.classes, pa.string())

    def read(batch: pa.RecordBatch, first: int, share: float) -> Block:
        lengths, named = _unnest(batch.column("top_classes"))
        prob_lengths, flat = _unnest(batch.column("top_probs"))
        found = pc.index_in(named.cast(pa.string()), value_set=known)
        indices = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        tops, probs, faults = top_rows(
            lengths, prob_lengths, indices, _floats(flat), len(known)
        )
        return Block(first, _keys(batch), probs, tops, share, "file", faults)

    return read


def _keys(batch: pa.RecordBatch) -> list[str]:
    column = batch.column("key")
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"the column key holds {column.type}, not text")
    return [key or "" for key in column.to_pylist()]


def _unnest(column: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return how long each list is, none being 0, and the values of all."""
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64), column.flatten()


def _floats(column: pa.Array) -> Floats:
    """Return numbers, NaN for none."""
    numbers: Any = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, np.float64)
