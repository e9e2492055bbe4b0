"""Keep every path inside the folders that an administrator allowed."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from mining.exceptions import OutsideRoot
from mining.sources.files import is_local, local_path


@lru_cache(maxsize=4096)
def _real_folder(path: str) -> str:
    return os.path.realpath(path)


def is_inside(path: str, root: str) -> bool:
    """Tell whether a normalised path or URL is `root` or under it."""
    base = root.rstrip("/")
    return path in (base, root) or path.startswith(base + "/")


def escapes(path: str, real_root: str) -> bool:
    """Tell whether a local file, its symbolic links followed, lies outside `real_root`.

    Real paths of folders are remembered, so that a million files cost one `lstat` each.
    """
    # `Path.is_symlink` raises for a name that is too long.
    if os.path.islink(path):  # noqa: PTH114
        return not is_inside(os.path.realpath(path), real_root)
    return not is_inside(_real_folder(str(Path(path).parent)), real_root)


def forget_real_folders() -> None:
    """Forget the folders' real paths: links may have changed since the last listing."""
    _real_folder.cache_clear()


def normalise(path: str) -> str:
    """Return a local path's real path, or a URL with `.`, `..` and `//` resolved.

    Raises:
        OutsideRoot: A URL climbs above its host, or chains file systems with "::".
    """
    if is_local(path):
        return os.path.realpath(local_path(path))
    scheme, _, rest = path.partition("://")
    host, _, inner = rest.partition("/")
    if "::" in host or ".." in unquote(rest).split("/"):
        raise OutsideRoot(
            f"{path} is not a plain address: '..' and '::' are not allowed."
        )
    clean = posixpath.normpath(f"/{inner}").lstrip("/")
    return f"{scheme.lower()}://{host}/{clean}".rstrip("/")


def resolve_under_roots(
    path: str, roots: Sequence[str], *, setting: str = "roots"
) -> str:
    """Return the normalised path if it is one of the roots or under one.

    Args:
        path: A local path or an fsspec URL, as a person typed it.
        roots: The folders and URLs that may be read.
        setting: Name of the setting that lists the roots, for the message.

    Raises:
        OutsideRoot: It is not under any root; the message names the roots and the setting.

    >>> resolve_under_roots("memory://data/cats/", ["memory://data"])
    'memory://data/cats'
    """
    if not path or "\0" in path:
        raise OutsideRoot("The path is empty or holds a NUL character.")
    resolved = normalise(path)
    if any(is_inside(resolved, normalise(root)) for root in roots):
        return resolved
    listed = ", ".join(roots) or "none"
    raise OutsideRoot(
        f"{path} is not under a folder that may be read. {setting} allows: {listed}."
        f" Move the files there or ask an administrator to add the folder to {setting}."
    )
