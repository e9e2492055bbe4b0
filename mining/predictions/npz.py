"""Predictions as NumPy's NPZ: `keys` (N,), `pred_probs` (N, C), and maybe `classes` (C,)."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from mining.predictions.blocks import Block, block_rows
from mining.predictions.layout import BadPredictions, Names
from mining.text import MAX_KEY_BYTES, MAX_LABEL

_ARRAYS: Final = {"keys", "pred_probs", "classes"}
_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MAX_CLASSES_BYTES: Final = 2**28


class _Array:
    """One array of the archive, read from its start to its end in pieces."""

    def __init__(self, stream: IO[bytes], size: int, name: str, file: str) -> None:
        self._stream, self._name, self._file = stream, name, file
        try:
            version = np.lib.format.read_magic(stream)
            shape, fortran, dtype = _HEADERS[version](stream)
        except (ValueError, KeyError) as error:
            raise BadPredictions(
                file, f"the array {name} has no readable header."
            ) from error
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype
        if dtype.hasobject:
            raise BadPredictions(
                file,
                f"the array {name} holds Python objects, which are never loaded. Save "
                "it as text (dtype str) or as numbers.",
            )
        if not dtype.itemsize:
            raise BadPredictions(file, f"the array {name} holds nothing.")
        if fortran and len(shape) > 1:
            raise BadPredictions(
                file,
                f"the array {name} is stored column by column. Save it through "
                "numpy.ascontiguousarray.",
            )
        # What is declared is what is there: a small archive cannot claim a huge array.
        if stream.tell() + self._bytes(*shape) != size:
            raise BadPredictions(file, f"the array {name} is not as long as it says.")

    def _bytes(self, *shape: int) -> int:
        n = self.dtype.itemsize
        for side in shape:
            n *= int(side)
        return n

    def take(self, rows: int) -> npt.NDArray[Any]:
        """Return the next rows."""
        shape = (rows, *self.shape[1:])
        wanted = self._bytes(*shape)
        data = self._stream.read(wanted)
        if len(data) != wanted:
            raise BadPredictions(self._file, f"the array {self._name} is cut short.")
        return np.frombuffer(data, self.dtype).reshape(shape)


def read_npz(path: Path, names: Names, *, max_bytes: int) -> Iterator[Block]:
    """Yield the rows of an NPZ archive in blocks, in constant memory.

    Args:
        path: A local file.
        names: The data set's classes.
        max_bytes: The most that an array may take once unpacked.

    Raises:
        BadPredictions: It is no such archive, or its arrays do not fit.
    """
    with _opened(path, names.file, max_bytes) as arrays:
        keys, probs = arrays["keys"], arrays["pred_probs"]
        listed = _class_names(arrays.get("classes"), names)
        columns, order = names.columns(listed)
        _check_shapes(keys, probs, names)
        n, step = keys.shape[0], block_rows(len(names.classes))
        as_it_is = bool((columns == np.arange(len(columns))).all())
        for start in range(0, n, step):
            rows = min(step, n - start)
            values = probs.take(rows).astype(np.float64)
            yield Block(
                first_row=start + 1,
                keys=_text(keys.take(rows), names.file),
                probs=values if as_it_is else values[:, columns],
                tops=None,
                share=(start + rows) / n,
                order=order,
            )


@contextmanager
def _opened(path: Path, file: str, max_bytes: int) -> Iterator[dict[str, _Array]]:
    """Open the arrays side by side; every error of the archive becomes a refusal."""
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            arrays = {}
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name not in _ARRAYS:
                    continue
                if name in arrays:
                    raise BadPredictions(file, f"the array {name} is there twice.")
                if info.file_size > max_bytes:
                    raise BadPredictions(
                        file,
                        f"the array {name} unpacks to {info.file_size:,} bytes, more "
                        f"than the {max_bytes:,} this server takes.",
                    )
                stream = stack.enter_context(archive.open(info))
                arrays[name] = _Array(stream, info.file_size, name, file)
            lacking = sorted({"keys", "pred_probs"} - arrays.keys())
            if lacking:
                raise BadPredictions(
                    file, f"the array {' and '.join(lacking)} is missing."
                )
            yield arrays
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise BadPredictions(file, f"the archive is damaged: {error}.") from error
    except (NotImplementedError, RuntimeError) as error:  # encrypted, unknown packing
        raise BadPredictions(
            file, f"the archive cannot be unpacked: {error}."
        ) from error


def _class_names(array: _Array | None, names: Names) -> list[str] | None:
    if array is None:
        return None
    most = 4 * MAX_LABEL
    if (
        len(array.shape) != 1
        or array.dtype.kind not in "US"
        or array.dtype.itemsize * array.shape[0] > _MAX_CLASSES_BYTES
        or array.dtype.itemsize > most
    ):
        raise BadPredictions(names.file, "the array classes is no list of names.")
    return _text(array.take(array.shape[0]), names.file)


def _check_shapes(keys: _Array, probs: _Array, names: Names) -> None:
    if len(keys.shape) != 1 or keys.dtype.kind not in "US":
        raise BadPredictions(
            names.file, "the array keys must be one row of text (dtype str or bytes)."
        )
    if keys.dtype.itemsize > 4 * MAX_KEY_BYTES:
        raise BadPredictions(
            names.file,
            f"the array keys takes {keys.dtype.itemsize:,} bytes for each key; no key "
            f"has more than {MAX_KEY_BYTES:,}.",
        )
    if probs.dtype.kind != "f":
        raise BadPredictions(
            names.file,
            f"the array pred_probs holds {probs.dtype}, not floating-point numbers.",
        )
    wanted = (keys.shape[0], len(names.classes))
    if probs.shape != wanted:
        raise BadPredictions(
            names.file,
            f"the array pred_probs has the shape {probs.shape}; {wanted} was expected, "
            f"for {wanted[0]:,} keys and the data set's {wanted[1]:,} classes.",
        )


def _text(array: npt.NDArray[Any], file: str) -> list[str]:
    try:
        if array.dtype.kind == "S":
            return [str(raw, "utf-8") for raw in array.tolist()]
        return [str(text) for text in array.tolist()]
    except ValueError as error:  # no UTF-8, or no character at all
        raise BadPredictions(file, f"a text is not valid: {error}.") from error
