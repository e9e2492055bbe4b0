"""Open a data set, whichever kind it is."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Literal, Protocol

from mining.exceptions import OutsideRoot
from mining.sources.folder import FolderSource
from mining.sources.manifest import ManifestSource
from mining.sources.roots import resolve_under_roots
from mining.types import SourceEntry


class Source(Protocol):
    """A list of labelled images that can be read again and again in the same order."""

    root: str

    @property
    def kind(self) -> Literal["folder", "manifest"]:
        """Tell what the source is read from."""
        ...

    def validate(self) -> None:
        """Raise a MiningError when the source cannot be used."""
        ...

    def entries(self) -> Iterator[SourceEntry]:
        """Yield every labelled image."""
        ...


def open_source(root: str, manifest: str | None = None) -> Source:
    """Open and validate the data set under a root.

    Args:
        root: A local folder or an fsspec URL.
        manifest: Path under the root of a CSV, JSONL or Parquet file; None to take labels
            from the folders' names.

    Raises:
        EmptySource: There is no image.
        BadManifest: The manifest has problems; the message lists the first.
        OutsideRoot: The manifest is not under the root.
        MiningError: The root cannot be listed.
    """
    source: Source
    if manifest:
        clean = posixpath.normpath(manifest)
        if "://" in manifest or clean.startswith("/"):
            raise OutsideRoot(f"The manifest {manifest} must be a path under {root}.")
        resolve_under_roots(
            f"{root.rstrip('/')}/{clean}", [root], setting="The data set"
        )
        source = ManifestSource(root, clean)
    else:
        source = FolderSource(root)
    source.validate()
    return source
