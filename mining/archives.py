"""Read torch.export archives (.pt2) as data: a ZIP of JSON and raw tensors, no pickle.

`torch.export.load` cannot be made safe by looking at the archive first (2.15): it unpickles
with `weights_only=False`, resolves node targets through `getattr` from `torch` (so also
`torch.os.system`), parses sizes with `sympy.sympify`, which is `eval`, and writes node and
argument names and guards into Python source that it runs. So it is not called. The few
entries that inference needs are read here; `mining.exported` runs the graph.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final
from zipfile import ZIP_STORED, ZipFile

import torch

from mining.exceptions import BadCheckpoint

SCALAR_TYPES: Final = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
STRIDED: Final = 7
_SCHEMA_MAJOR: Final = 8
_END_OF_ZIP: Final = b"PK\x05\x06"
_END_SIZE: Final = 22
_ENTRY: Final = re.compile(
    r"archive_format|archive_version|byteorder|models/model\.json"
    r"|data/(weights|constants)/model_(weights|constants)_config\.json"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
    # Not needed and never read:
    r"|data/sample_inputs/model\.pt|extra/.+|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Archive:
    """What inference needs of an archive.

    Attributes:
        program: The exported program as JSON; its shape is not checked yet.
        weights: Parameters and persistent buffers by name, on the CPU.
        constants: Other tensors of the graph by name, on the CPU.
    """

    program: dict[str, Any]
    weights: dict[str, torch.Tensor]
    constants: dict[str, torch.Tensor]


def read_archive(data: bytes, *, url: str) -> Archive:
    """Read the graph and the tensors of an archive; the rest of it stays unread.

    Raises:
        BadCheckpoint: An entry could run code in torch; the message names it.
        BadZipFile, ValueError, LookupError, TypeError, RuntimeError, OSError: It is damaged
            or not such an archive; the JSON may hold anything anywhere.
    """
    # `ZipFile` would take the sample inputs, a ZIP too, for the archive that was cut short.
    if data[-_END_SIZE:][:4] != _END_OF_ZIP:
        raise ValueError("it is cut short or not a ZIP file")
    with ZipFile(BytesIO(data)) as file:
        root = _vet(file, size=len(data), url=url)
        entries = _Entries(file, root, url)
        _check_format(entries)
        program = entries.json("models/model.json")
        major = program["schema_version"]["major"]
        if major != _SCHEMA_MAJOR:
            raise ValueError(f"its schema is version {major}, not {_SCHEMA_MAJOR}")
        return Archive(
            program, entries.tensors("weights"), entries.tensors("constants")
        )


def _vet(file: ZipFile, *, size: int, url: str) -> str:
    """Return the folder that every entry lies in."""
    infos = file.infolist()
    names = [info.filename for info in infos]
    if "version" in names or "serialized_exported_program.json" in names:
        raise ValueError("it was saved by torch 2.7 or older")
    root = names[0].partition("/")[0] + "/" if names else ""
    for name in names:
        if not (name.startswith(root) and _ENTRY.fullmatch(name.removeprefix(root))):
            raise BadCheckpoint(
                f"{url} was not opened: its entry {name!r} does not belong to an archive"
                " of plain weights and may hold code. Save the model again with"
                " torch.export.save, without compiled parts or custom objects."
            )
    if len(set(names)) < len(names):
        raise ValueError("it has an entry twice")
    # torch stores entries as they are, so more than the file holds means a ZIP bomb.
    packed = any(info.compress_type != ZIP_STORED for info in infos)
    if packed or sum(info.file_size for info in infos) > size:
        raise ValueError("its entries are compressed or overlap")
    return root


def _check_format(entries: _Entries) -> None:
    found = {
        name: entries.read(name).decode()
        for name in ("archive_format", "archive_version", "byteorder")
    }
    wanted = {
        "archive_format": "pt2",
        "archive_version": "0",
        "byteorder": sys.byteorder,
    }
    if found != wanted:
        raise ValueError(f"it says {found}, not {wanted}")


@dataclass(frozen=True, slots=True)
class _Entries:
    file: ZipFile
    root: str
    url: str

    def read(self, name: str) -> bytes:
        return self.file.read(self.root + name)

    def json(self, name: str) -> dict[str, Any]:
        found = json.loads(self.read(name))
        if not isinstance(found, dict):
            raise TypeError(f"{name} is not a JSON object")
        return found

    def tensors(self, kind: str) -> dict[str, torch.Tensor]:
        """Read all tensors of a kind; those that share an entry share its memory."""
        config = self.json(f"data/{kind}/model_{kind}_config.json")["config"]
        flat: dict[tuple[str, int], torch.Tensor] = {}
        found = {}
        for name, payload in config.items():
            if payload["use_pickle"]:
                raise BadCheckpoint(
                    f"{self.url} was not opened: the tensor {name!r} is stored as a pickle,"
                    " which can hold code. Save the model with plain tensors."
                )
            meta = payload["tensor_meta"]
            key = (payload["path_name"], meta["dtype"])
            if key not in flat:
                flat[key] = _flat(self.read(f"data/{kind}/{key[0]}"), key[1])
            found[name] = flat[key].as_strided(  # which checks the bounds
                _ints(meta["sizes"]),
                _ints(meta["strides"]),
                meta["storage_offset"]["as_int"],
            )
        return found


def _flat(data: bytes, dtype: int) -> torch.Tensor:
    kind = SCALAR_TYPES[dtype]
    if not data:
        return torch.empty(0, dtype=kind)
    if kind == torch.bool:  # any other byte than 0 and 1 would mislead kernels
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).ne(0)
    return torch.frombuffer(bytearray(data), dtype=kind)


def _ints(sizes: list[Mapping[str, int]]) -> list[int]:
    return [size["as_int"] for size in sizes]
