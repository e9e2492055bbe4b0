"""A data set as a CSV, JSON Lines or Parquet file of paths and labels under a root."""

from __future__ import annotations

import json
import math
import os
import posixpath
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Final, Literal

from mining.exceptions import SHOWN_PROBLEMS, BadManifest, EmptySource
from mining.sources.files import is_local, local_path
from mining.sources.folder import SPLIT_NAMES
from mining.sources.keys import key_from_os_path, url_for
from mining.sources.roots import escapes, forget_real_folders
from mining.sources.tables import RowProblem, read_rows
from mining.text import check_key, check_label, is_storable, shown
from mining.types import SourceEntry, Split

_KNOWN: Final = ("path", "label", "split")
MAX_DEPTH: Final = 32  # lists and objects in one another in an attribute


class ManifestSource:
    """Lists the images that a manifest under the root names, in its order.

    Columns: `path` (relative to the root), `label`, optional `split`; any other column
    becomes an attribute. A listed file that does not exist is no problem of the manifest: it
    becomes an unreadable sample in a scan.
    """

    kind: Literal["manifest"] = "manifest"

    def __init__(self, root: str, manifest: str) -> None:
        self.root = root
        self.manifest = manifest
        self._url = f"{root.rstrip('/')}/{manifest}"
        self._real_root = os.path.realpath(local_path(root)) if is_local(root) else ""

    def validate(self) -> None:
        """Read the whole manifest once and collect what is wrong with it.

        Memory grows by the 16-byte digest of each path, which finds duplicates.

        Raises:
            BadManifest: Anything is wrong; the message lists the first problems by line.
            EmptySource: It lists no image.
        """
        problems: list[str] = []
        count = rows = 0
        seen: set[bytes] = set()
        for found in self._checked():
            rows += 1
            if isinstance(found, SourceEntry):
                digest = blake2b(found.key.encode(), digest_size=16).digest()
                if digest not in seen:
                    seen.add(digest)
                    continue
                found = RowProblem(
                    found.line, f"the path {shown(found.key)} is listed twice"
                )
            count += 1
            if len(problems) < SHOWN_PROBLEMS:
                problems.append(str(found))
        if count:
            raise BadManifest(self.manifest, problems, count=count)
        if not rows:
            raise EmptySource(
                f"{self.manifest} lists no images; add rows with path and label."
            )

    def entries(self) -> Iterator[SourceEntry]:
        """Yield every listed image in the manifest's order, in constant memory.

        Raises:
            BadManifest: The file changed after it was validated.
        """
        for found in self._checked():
            if isinstance(found, RowProblem):
                raise BadManifest(self.manifest, [str(found)])
            yield found

    def _checked(self) -> Iterator[SourceEntry | RowProblem]:
        forget_real_folders()
        for line, row in read_rows(
            self._url, self.manifest, required=("path", "label")
        ):
            if isinstance(row, RowProblem):
                yield row
                continue
            try:
                yield self._entry(line, row)
            except ValueError as error:
                yield RowProblem(line, str(error))

    def _entry(self, line: int, row: Mapping[str, object]) -> SourceEntry:
        path = self._path(row["path"])
        key = key_from_os_path(path)
        check_key(key)
        label = _label(row["label"])
        attributes = {
            name: _plain(value) for name, value in row.items() if name not in _KNOWN
        }
        _check_storable(attributes)
        return SourceEntry(
            key=key,
            url=url_for(self.root, key),
            label=label,
            split=_split(row.get("split")),
            attributes=attributes,
            line=line,
        )

    def _path(self, value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError("the path is empty")
        check_key(value)
        path = posixpath.normpath(value)
        if "://" in value or path.startswith(("/", "../")) or path in {".", ".."}:
            raise ValueError(f"the path {shown(value)} leads out of the root")
        if self._real_root and escapes(f"{self._real_root}/{path}", self._real_root):
            raise ValueError(
                f"the path {shown(value)} is a link that leads out of the root"
            )
        return path


def _label(value: object) -> str:
    if isinstance(value, bool | float | list | dict):
        raise ValueError(f"the label {shown(value)} is not text")  # noqa: TRY004 (bad data)
    label = "" if value is None else str(value).strip()
    check_label(label)
    return label


def _split(value: object) -> Split:
    text = "" if value is None else str(value).strip().lower()
    if text and text not in SPLIT_NAMES:
        raise ValueError(f"the split {shown(value)} is not train, val or test")
    return SPLIT_NAMES[text] if text else ""


def _plain(value: object, depth: int = 0) -> object:
    """Return a value as JSON knows it; NaN and infinity, which it lacks, become None."""
    if depth > MAX_DEPTH:
        raise ValueError(
            f"an attribute is nested more than {MAX_DEPTH} deep; store it as text"
        )
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return str(value)


def _check_storable(attributes: Mapping[str, object]) -> None:
    """Raise ValueError for text that PostgreSQL cannot hold."""
    text = json.dumps(attributes, ensure_ascii=False)
    # JSON writes NUL as an escape, and an escaped backslash as two.
    if "\\u0000" in text.replace("\\\\", "") or not is_storable(text):
        raise ValueError(
            "an attribute holds a NUL or half of a surrogate pair; remove it"
        )
