"""The Parquet artefact of a scan: one row per sample, right, wrong or unreadable."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from mining.exceptions import ArtefactError, ScanCountMismatch
from mining.types import Look, Outcome

File: TypeAlias = str | Path | BinaryIO

OUTCOME_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("true", pa.int32(), nullable=False),
        pa.field("predicted", pa.int32()),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("p_true", pa.float32(), nullable=False),
        pa.field("margin", pa.float32(), nullable=False),
        pa.field("loss", pa.float32(), nullable=False),
        pa.field("top_classes", pa.list_(pa.int32()), nullable=False),
        pa.field("top_probs", pa.list_(pa.float32()), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("phash", pa.int64()),
        pa.field("brightness", pa.float32()),
        pa.field("contrast", pa.float32()),
        pa.field("sharpness", pa.float32()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("file_type", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("fold", pa.int32()),
    ]
)
_LOOK: Final = Look.__slots__
_LATER: Final = (*_LOOK, "fold")  # columns that older artefacts lack
_SEEN: Final = [name for name in OUTCOME_SCHEMA.names if name not in _LOOK]
_ROW_GROUP: Final = 10_000
# Dictionaries of the others, whose values hardly repeat, double the time to write.
_REPEATED: Final = ["true", "predicted", "error", "file_type"]
_CLASSES_KEY: Final = b"hardmine.classes"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

# Arrow's own pool keeps what it was given back: 40 MiB after a merge that needs 11.
pa.set_memory_pool(pa.system_memory_pool())


def write_outcomes(
    path_or_file: File, outcomes: Iterable[Outcome], *, classes: Sequence[str] = ()
) -> int:
    """Write outcomes and return how many there were.

    A path appears whole or not at all. The same outcomes give the same bytes, however they
    come. Numbers are kept as 32-bit floats.

    Args:
        path_or_file: A local path, or a file open for writing bytes.
        outcomes: In any order; taken in constant memory.
        classes: Class names in index order, kept in the file's metadata.

    Raises:
        ArtefactError: The disk is full or cannot be written to.
    """
    rows = iter(outcomes)
    tables = iter(lambda: _table(rows, _ROW_GROUP), None)
    with _writing(path_or_file) as file:
        return _write_tables(file, tables, tuple(classes))


def merge_outcomes(inputs: Sequence[File], output: File, expected_rows: int) -> int:
    """Join the artefacts of a scan's shards, in the order given, in constant memory.

    The result has the bytes that `write_outcomes` gives for all rows at once.

    Args:
        inputs: Paths, or files open for reading; all with the same classes.
        output: As in `write_outcomes`.
        expected_rows: How many samples the scan has.

    Raises:
        ScanCountMismatch: There are more or fewer rows; nothing is written.
        ArtefactError: A file is damaged or of another scan, or the disk is full.
    """
    found = 0
    names: set[tuple[str, ...]] = set()
    for source in inputs:
        with _reading(source) as parquet:
            found += parquet.metadata.num_rows
            names.add(_classes_of(parquet))
    if found != expected_rows:
        raise ScanCountMismatch(expected=expected_rows, found=found)
    if len(names) > 1:
        raise ArtefactError(
            "The shards were scanned with different classes. Nothing was merged; run the"
            " scan again."
        )
    batches = _ahead(chain.from_iterable(_batches(source) for source in inputs))
    with _writing(output) as file:
        return _write_tables(file, _regroup(batches), next(iter(names), ()))


def read_outcomes(path: File, columns: Sequence[str] | None = None) -> pa.Table:
    """Read columns (all when None) of an artefact into memory.

    Columns of `Look` and `fold` that an older artefact does not have are null.

    Raises:
        ArtefactError: The file is missing, damaged or lacks a column.
    """
    with _reading(path) as parquet:
        names = OUTCOME_SCHEMA.names if columns is None else list(columns)
        known = (*parquet.schema_arrow.names, *_LATER)
        lacking = [name for name in names if name not in known]
        if lacking:
            raise ArtefactError(f"{_name(path)} has no column {', '.join(lacking)}.")
        return _with_columns(parquet.read(columns=names), names)


def iter_columns(path: File, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield columns of an artefact in tables of up to 10,000 rows, in constant memory.

    Columns of `Look` and `fold` that an older artefact does not have are null.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    yield from _batches(path, columns)


def iter_outcomes(path: File) -> Iterator[Outcome]:
    """Yield the outcomes of an artefact one by one, in constant memory.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    for table in _batches(path):
        for row in table.to_pylist():
            row["top_classes"] = tuple(row["top_classes"])
            row["top_probs"] = tuple(row["top_probs"])
            look = {name: row.pop(name) for name in _LOOK}
            is_seen = look["width"] is not None
            yield Outcome(**row, look=Look(**look) if is_seen else None)


def read_classes(path: File) -> tuple[str, ...]:
    """Return the class names in an artefact's metadata, in index order.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    with _reading(path) as parquet:
        return _classes_of(parquet)


def _table(rows: Iterator[Outcome], size: int) -> pa.Table | None:
    """Take up to `size` outcomes; None when there are no more."""
    columns: dict[str, list[object]] = {name: [] for name in OUTCOME_SCHEMA.names}
    taken = 0
    for outcome in rows:
        for name in _SEEN:
            columns[name].append(getattr(outcome, name))
        for name in _LOOK:
            columns[name].append(getattr(outcome.look, name, None))
        taken += 1
        if taken == size:
            break
    return pa.table(columns, schema=OUTCOME_SCHEMA) if taken else None


def _ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the tables, each read while the one before is written."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, tables, None)
        while (table := coming.result()) is not None:
            coming = reader.submit(next, tables, None)
            yield table


def _regroup(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables of exactly `_ROW_GROUP` rows, the last one of what is left."""
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += len(table)
        if rows >= _ROW_GROUP:
            joined = pa.concat_tables(held)
            whole = rows - rows % _ROW_GROUP
            for start in range(0, whole, _ROW_GROUP):
                yield joined.slice(start, _ROW_GROUP).combine_chunks()
            held, rows = [joined.slice(whole)], rows - whole
    if rows:
        yield pa.concat_tables(held).combine_chunks()


def _write_tables(
    file: BinaryIO, tables: Iterable[pa.Table], classes: tuple[str, ...]
) -> int:
    metadata = {_CLASSES_KEY: json.dumps(classes, ensure_ascii=False).encode()}
    schema = OUTCOME_SCHEMA.with_metadata(metadata)
    rows = 0
    with pq.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=_REPEATED
    ) as writer:
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=_ROW_GROUP)
            rows += len(table)
    return rows


@contextmanager
def _writing(target: File) -> Iterator[BinaryIO]:
    """Open the target; a path is written beside its place and renamed when it is whole."""
    try:
        if isinstance(target, str | Path):
            path = Path(target)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
            try:
                with temporary.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        else:
            yield target
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            reason = "the disk is full"
        raise ArtefactError(
            f"{_name(target)} could not be written: {reason}. The unfinished file was"
            " removed and everything that was there before is kept. Make room or give"
            " access, then run the scan again."
        ) from error


@contextmanager
def _reading(source: File) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(source) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise ArtefactError(
            f"{_name(source)} cannot be read: {error}. Run the scan again."
        ) from error


def _batches(
    source: File, columns: Sequence[str] = OUTCOME_SCHEMA.names
) -> Iterator[pa.Table]:
    with _reading(source) as parquet:
        for batch in parquet.iter_batches(batch_size=_ROW_GROUP, columns=columns):
            table = _with_columns(pa.Table.from_batches([batch]), columns)
            yield table.replace_schema_metadata(None)


def _with_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return the columns in this order, those that the table lacks null."""
    for name in names:
        if name not in table.schema.names:
            field = OUTCOME_SCHEMA.field(name)
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(names)


def _classes_of(parquet: pq.ParquetFile) -> tuple[str, ...]:
    metadata = parquet.schema_arrow.metadata or {}
    return tuple(json.loads(metadata.get(_CLASSES_KEY, b"[]")))


def _name(target: File) -> str:
    if isinstance(target, str | Path):
        return str(target)
    return str(getattr(target, "name", "The artefact"))
