"""Relabels go back to the owner: the data set's manifest, corrected, or a patch of it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mining.exceptions import ArtefactError, BadManifest, MiningError
from mining.exports.records import Record, key_of, read_records, typed
from mining.exports.rows import by_image
from mining.exports.tables import table
from mining.fixset import FixRow
from mining.sources.files import open_binary
from mining.text import shown

_BATCH: Final = 2_000  # records whose corrections are asked for at once
_CONTEXT: Final = 3  # unchanged lines around a change
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+\Z")
_PLAIN_NAME: Final = re.compile(
    r"[ !#-\[\]-~]+"
)  # printable ASCII but quote, backslash


@dataclass(frozen=True, slots=True)
class Correction:
    """What a manifest says of an image, and what it should say.

    Attributes:
        old: Labels that the image had, as far as is known; the manifest has one of them.
        new: The right one.
    """

    old: frozenset[str]
    new: str


# Keys -> corrections of those of them that have one.
Corrections = Callable[[Sequence[str]], Mapping[str, Correction]]


@dataclass(slots=True)
class _Owner:
    """The owner's manifest, and how much of what it should say was found in it."""

    url: str
    name: str
    corrections: Corrections
    expected: int
    found: int = 0

    def records(self) -> Iterator[tuple[Record, str | None]]:
        """Yield every record with its new text, or None when it stays."""
        with self._opened() as file:
            records = read_records(file, self.name)
            while batch := list(islice(records, _BATCH)):
                wanted = self.corrections(
                    [record.key for record in batch if record.key]
                )
                for record in batch:
                    label = self.right(record.key, record.label, wanted)
                    yield record, None if label is None else record.with_label(label)
        self._check_all_found()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a Parquet manifest with the right labels."""
        with self._opened() as file:
            for batch in pq.ParquetFile(file).iter_batches(_BATCH):
                place = batch.schema.get_field_index("label")
                old = batch.column(place).to_pylist()
                keys = [key_of(path) for path in batch.column("path").to_pylist()]
                wanted = self.corrections(keys)
                new = [
                    typed(self.right(key, str(label).strip(), wanted) or label, label)
                    for key, label in zip(keys, old, strict=True)
                ]
                field = batch.schema.field(place)
                yield batch.set_column(place, field, pa.array(new, field.type))
        self._check_all_found()

    def right(
        self, key: str, label: str, wanted: Mapping[str, Correction]
    ) -> str | None:
        """Return the label that a record should have, None when it has it."""
        correction = wanted.get(key)
        if correction is None:
            return None
        self.found += 1
        if label == correction.new:
            return None
        if label not in correction.old:
            raise ArtefactError(
                f"{self.name} says {shown(label)} of {key} now, which it did not when the"
                " fix set was frozen. Nothing was exported. Register the data set again"
                " and freeze a new fix set."
            )
        return correction.new

    def _opened(self) -> closing[BinaryIO]:
        try:
            return closing(open_binary(self.url))
        except OSError as error:
            raise MiningError(
                f"{self.name} cannot be read any more ({error.strerror or error}). Nothing"
                " was exported; the fix set is kept. Bring the manifest back."
            ) from error

    def _check_all_found(self) -> None:
        if self.found != self.expected:
            raise ArtefactError(
                f"{self.name} lists {self.found:,} of the {self.expected:,} images with"
                " another label now. Nothing was exported. Register the data set again and"
                " freeze a new fix set."
            )


def write_manifest(
    url: str,
    name: str,
    corrections: Corrections,
    file: BinaryIO,
    *,
    expected: int,
    progress: Callable[[int], None],
) -> None:
    """Write a manifest with corrected labels; of text nothing else changes, not a byte.

    Args:
        url: What to open.
        name: The manifest's name; its suffix says what it is.
        corrections: Of the keys that it is given.
        file: Opened for writing bytes.
        expected: How many images have a correction.
        progress: Called with how many of them were found so far.

    Raises:
        ArtefactError: It lacks one of them, or says something else of it by now.
        MiningError: It cannot be read any more.
    """
    owner = _Owner(url, name, corrections, expected)
    if name.lower().endswith(".parquet"):
        _write_parquet(owner, file, progress)
        return
    for record, new in owner.records():
        file.write((record.text if new is None else new).encode())
        progress(owner.found)


def write_patch(
    url: str,
    name: str,
    corrections: Corrections,
    file: BinaryIO,
    *,
    expected: int,
    progress: Callable[[int], None],
) -> None:
    """Write a unified diff of a CSV or JSON Lines manifest, for `git apply` or `patch -p1`.

    Arguments and errors are those of `write_manifest`.
    """
    owner = _Owner(url, name, corrections, expected)
    file.write(f"--- {_diff_name('a', name)}\n+++ {_diff_name('b', name)}\n".encode())
    with _hunks_to(file) as hunks:
        for record, new in owner.records():
            old_lines = _LINE.findall(record.text.encode())
            if new is None:
                hunks.keep(old_lines)
            else:
                hunks.change(old_lines, _LINE.findall(new.encode()))
            progress(owner.found)


def write_moves(rows: Iterable[FixRow], file: BinaryIO) -> int:
    """Write what to move where in a data set of folders: a CSV of path and labels.

    The columns are `path`, `old_label` and `new_label`; rows whose label stays are left
    out. Cells are guarded as in `write_csv`. Returns how many rows were read.
    """
    count = 0
    with table(file, ("path", "old_label", "new_label")) as add:
        for same in by_image(rows):
            row = same[0]
            count += len(same)
            if row.label != row.original_label:
                add([row.sample_key, row.original_label, row.label])
    return count


def _write_parquet(
    owner: _Owner, file: BinaryIO, progress: Callable[[int], None]
) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for batch in owner.batches():
            writer = writer or pq.ParquetWriter(file, batch.schema)
            writer.write_batch(batch)
            progress(owner.found)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise BadManifest(
            owner.name, [f"it cannot be corrected any more: {error}"]
        ) from error
    finally:
        if writer is not None:
            writer.close()


def _diff_name(side: str, name: str) -> str:
    """Return a file's name as git writes it."""
    if _PLAIN_NAME.fullmatch(name):
        return f"{side}/{name}" + ("\t" if " " in name else "")
    octal = "".join(
        chr(byte) if _PLAIN_NAME.fullmatch(chr(byte)) else f"\\{byte:03o}"
        for byte in name.encode()
    )
    return f'"{side}/{octal}"'


@contextmanager
def _hunks_to(file: BinaryIO) -> Iterator[_Hunks]:
    with tempfile.TemporaryFile() as hunk:
        hunks = _Hunks(file, hunk)
        yield hunks
        hunks.finish()


class _Hunks:
    """Writes a unified diff line by line; the hunk in hand lies in a temporary file."""

    def __init__(self, file: BinaryIO, hunk: IO[bytes]) -> None:
        self._file = file
        self._hunk = hunk
        self._is_open = False
        self._near: deque[bytes] = (
            deque()
        )  # unchanged: before a hunk, or in one at its end
        self._read = self._written = 0  # lines of both files before the hunk
        self._old = self._new = 0  # lines of the hunk

    def keep(self, lines: Iterable[bytes]) -> None:
        """Pass lines that stay."""
        for line in lines:
            self._near.append(line)
            if self._is_open and len(self._near) == 2 * _CONTEXT:
                self._close()
            elif not self._is_open and len(self._near) > _CONTEXT:
                self._near.popleft()
                self._read, self._written = self._read + 1, self._written + 1

    def change(self, old: Iterable[bytes], new: Iterable[bytes]) -> None:
        """Pass lines that other lines replace."""
        self._is_open = True
        self._put(b" ", self._near)
        self._near.clear()
        self._put(b"-", old)
        self._put(b"+", new)

    def finish(self) -> None:
        """Write the last hunk."""
        if self._is_open:
            self._close()

    def _put(self, sign: bytes, lines: Iterable[bytes]) -> None:
        for line in lines:
            end = b"" if line.endswith(b"\n") else b"\n\\ No newline at end of file\n"
            self._hunk.write(sign + line + end)
            self._old += sign != b"+"
            self._new += sign != b"-"

    def _close(self) -> None:
        """Write the hunk with up to three of the lines that follow it."""
        near = [*self._near]
        self._put(b" ", near[:_CONTEXT])
        place = f"-{self._read + 1},{self._old} +{self._written + 1},{self._new}"
        self._file.write(f"@@ {place} @@\n".encode())
        self._hunk.seek(0)
        shutil.copyfileobj(self._hunk, self._file)
        self._hunk.seek(0)
        self._hunk.truncate()
        self._near = deque(near[_CONTEXT:])
        self._read, self._written = self._read + self._old, self._written + self._new
        self._old = self._new = 0
        self._is_open = False
