"""Front-end files that installed packages carry, served from where they lie."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.contrib.staticfiles.finders import BaseFinder
from django.core.checks import CheckMessage
from django.core.files.storage import FileSystemStorage, Storage

# URL under static/ -> (package, file in it). Nothing else of a package is served.
PACKAGE_FILES = {"plotly/plotly.min.js": ("plotly", "package_data/plotly.min.js")}


class PackageFinder(BaseFinder):
    """Find the files of `PACKAGE_FILES` in installed packages."""

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002 (Django's signature)
        """Return the file's path, or a list of paths when all are asked for."""
        found = _locate(path) if path in PACKAGE_FILES else None
        if find_all:
            return [str(found)] if found else []
        return str(found) if found else None

    def list(self, ignore_patterns: Any) -> Iterator[tuple[str, Storage]]:
        """Yield (path, storage) of every file, for collectstatic."""
        for path in PACKAGE_FILES:
            found = _locate(path)
            if found:
                yield path, _OneFile(path, found)

    def check(self, **kwargs: Any) -> builtins.list[CheckMessage]:
        """Nothing to configure, nothing to check."""
        return []


class _OneFile(FileSystemStorage):
    """A storage that holds one file under a name of its own."""

    def __init__(self, name: str, location: Path) -> None:
        super().__init__(location=str(location.parent))
        self._name, self._file = name, location
        self.prefix = ""

    def path(self, name: str) -> str:
        return str(self._file) if name == self._name else super().path(name)


def _locate(path: str) -> Path | None:
    package, inside = PACKAGE_FILES[path]
    spec = find_spec(package)  # finds without importing: plotly is slow to import
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / inside
    return file if file.exists() else None
